"""Observations that correct a denoiser's estimate at each step of a sampler: denoiser → denoiser.

One short file a family; `GUIDES` has them by name, and a function of the same arguments is one more.
"""

from jaxsrda.diffusion.guidance.blend import Blend, Projected
from jaxsrda.diffusion.guidance.gain import OI, DiffPIR, Lifted
from jaxsrda.diffusion.guidance.gradient import DPS, MMPS, SDA, PiGDM
from jaxsrda.diffusion.guidance.guide import Guide, Readings, Samples, join
from jaxsrda.diffusion.guidance.table import GUIDES, guide

__all__ = [
    "DPS",
    "GUIDES",
    "MMPS",
    "OI",
    "SDA",
    "Blend",
    "DiffPIR",
    "Guide",
    "Lifted",
    "PiGDM",
    "Projected",
    "Readings",
    "Samples",
    "guide",
    "join",
]
