"""The diffusion model in the cycle: prior, condition, model, sampling, step, weights."""
