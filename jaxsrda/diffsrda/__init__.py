"""The diffusion model in the cycle: prior, condition, model, sampling, step, and trained weights in files.

A prior's cheap forecasts and the observations condition the model, which draws what the prior's guess misses.
"""

from jaxsrda.core.lazy import later
from jaxsrda.diffsrda.condition import Conditioning, Guess, Memory, Snapshot, channels, krige, mirror, snapshot
from jaxsrda.diffsrda.config import PAPER_DIFFSRDA, PAPER_SAMPLING, DiffSRDAConfig
from jaxsrda.diffsrda.covariance import ResidualCovariance, estimate_residual_covariance
from jaxsrda.diffsrda.prior import PRIORS, Prior, PriorKind, make_prior, register_prior
from jaxsrda.diffsrda.step import Draw, recorded_step

_LATER = {
    "Model": "model",
    "ModelConfig": "model",
    "default_weights": "weights",
    "encode": "model",
    "load_model": "weights",
    "make_draw": "sampling",
    "mean_draw": "sampling",
    "released": "weights",
    "save_model": "weights",
}

__getattr__ = later(__name__, _LATER)

__all__ = [
    "PAPER_DIFFSRDA",
    "PAPER_SAMPLING",
    "PRIORS",
    "Conditioning",
    "DiffSRDAConfig",
    "Draw",
    "Guess",
    "Memory",
    "Model",
    "ModelConfig",
    "Prior",
    "PriorKind",
    "ResidualCovariance",
    "Snapshot",
    "channels",
    "default_weights",
    "encode",
    "estimate_residual_covariance",
    "krige",
    "load_model",
    "make_draw",
    "make_prior",
    "mean_draw",
    "mirror",
    "recorded_step",
    "register_prior",
    "released",
    "save_model",
    "snapshot",
]
