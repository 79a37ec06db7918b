"""Diffusion models in general: noise schedules, denoisers, samplers and guidance.

Nothing here knows of the ocean: a sample is an array of any shape.
"""

from jaxsrda.diffusion.denoiser import Denoiser, gaussian_denoiser, precondition, training_loss, training_target
from jaxsrda.diffusion.samplers import SAMPLERS, sample, sample_members
from jaxsrda.diffusion.schedules import VP_SCHEDULE, VPSchedule, sigma_grid

__all__ = [
    "SAMPLERS",
    "VP_SCHEDULE",
    "Denoiser",
    "VPSchedule",
    "gaussian_denoiser",
    "precondition",
    "sample",
    "sample_members",
    "sigma_grid",
    "training_loss",
    "training_target",
]
