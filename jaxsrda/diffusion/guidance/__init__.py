"""Observations that correct a denoiser's estimate at each step of a sampler: denoiser → denoiser."""
