"""Diffusion models in general: noise schedules, denoisers, samplers and guidance; nothing here knows of the ocean."""
