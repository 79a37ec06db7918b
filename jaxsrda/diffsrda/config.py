"""Configuration of the diffusion model in the cycle."""

from __future__ import annotations

import dataclasses
import math

from jax.core import Tracer

from jaxsrda.core.checks import check_choice, check_positive
from jaxsrda.core.records import renamed
from jaxsrda.diffsrda.prior import PRIORS
from jaxsrda.diffusion.guidance import Guide, Projected, guide
from jaxsrda.diffusion.samplers import SAMPLERS
from jaxsrda.filters.config import FilterConfig

SIGMAS = ("edm", "vp", "log")
RESTARTS = ("open", "first", "mean", "each")
GUIDE_ON = ("new", "all")
NOISES = ("gaussian", "white")
"""Samplers without a network: noise around the conditioner's mean, of its scale, that a denoiser has to beat."""


@renamed(
    noise="sigmas",
    strength="guidance, a guide with its options: jaxsrda.OI(strength=…)",
    iterations="guidance, a guide with its options: jaxsrda.OI(iterations=…)",
    blur="guidance, a guide with its options: jaxsrda.Blend(blur=…)",
    hard_steps="guidance, a guide with its options: jaxsrda.Blend(hard_steps=…)",
)
@dataclasses.dataclass(frozen=True)
class DiffSRDAConfig:
    """The diffusion model in the cycle.

    prior: what gives the first guess, of `PRIORS`: `dual` (EnKF of cheap members around one control forecast at the
    level of analyses), `enkf-sr` (EnKF of cheap members), `lagrange` (EnKF of fine fields that cheap forecasts carry),
    `carried` (one such forecast and optimal interpolation) or `lr` (cheap forecasts alone, as in arXiv:2604.21180).
    restart: what the prior's forecasts go on from: `each` member from its own sample, all from the `mean` or from
    the `first` sample (arXiv:2604.21180), or `open`, the prior's own analysis; empty takes the prior's own.
    members: samples a cycle; steps, sampler, eta: see `diffusion.samplers`; samplers `gaussian` (a field of the
    covariance stored with the weights) and `white` (noise of its point variance) are what a denoiser has to beat.
    sigmas, sigma_min, sigma_max: the noise levels (`edm`, `log` or `vp`) and their ends.
    weights: the name of released weights or a file; empty takes the released ones for the prior.
    centred: the analysis is the conditioner's estimate of the mean, which has no sampling noise, and the samples are
    independent draws around it (models with target residual and one condition for all samples); where sensors guide
    each step it is the end of the sampler's path without noise.  Otherwise the analysis is the samples' mean.
    chunk: samples drawn at once, to bound memory.
    prior_filter: tuning of the prior's filter, of which the traced numbers count; None takes the prior's own.
    guidance: how samples are moved towards observations: None, a guide such as `OI()` or a function like one, or a name
    of `GUIDES`; through the decoder if there is one.  guide_on: the sensors that guide, the `new` ones, whose role is
    guiding, or `all`, with those that condition the model.
    """

    prior: str = "dual"
    restart: str = ""
    members: int = 30
    steps: int = 4
    sampler: str = "dpmpp-2m"
    eta: float = 1.0
    sigmas: str = "edm"
    sigma_min: float = 0.04
    sigma_max: float = 12.0
    weights: str = ""
    centred: bool = True
    chunk: int = 50
    guidance: Guide | str | None = None
    guide_on: str = "new"
    prior_filter: FilterConfig | None = dataclasses.field(default=None, metadata={"later": True})

    def __post_init__(self):
        check_choice("prior", self.prior, PRIORS)
        if not self.restart:
            object.__setattr__(self, "restart", PRIORS[self.prior].restart)
        if isinstance(self.guidance, str):
            object.__setattr__(self, "guidance", guide(self.guidance))
        check_choice("restart", self.restart, RESTARTS)
        check_choice("sampler", self.sampler, (*SAMPLERS, *NOISES))
        check_choice("sigmas", self.sigmas, SIGMAS)
        check_choice("guide_on", self.guide_on, GUIDE_ON)
        if self.guidance is not None and not callable(self.guidance):
            raise TypeError(f"guidance: expected a guide, a name of one or None, got {type(self.guidance).__name__}")
        if self.guidance is not None and self.sampler == "mean":
            raise ValueError(
                "guidance: sampler mean draws nothing that could be guided; take another, or guidance none"
            )
        if self.sampler in NOISES and not isinstance(self.guidance, Projected | None):
            raise ValueError(
                f"guidance: sampler {self.sampler} takes no steps that could be guided; take another sampler, or "
                "guidance projected"
            )
        for name in ("members", "steps", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        hard_steps = getattr(self.guidance, "hard_steps", 0)
        if hard_steps > self.steps:
            raise ValueError(f"hard_steps: expected 0 to as many as there are steps, {self.steps}, got {hard_steps}")
        kind = PRIORS[self.prior]
        filters = kind.filter is not None and kind.ensemble
        if self.prior_filter is not None and kind.filter is None:
            raise ValueError(f"prior_filter: the {self.prior} prior has no filter that could be tuned; leave it out")
        if not kind.ensemble and self.restart == "each":
            raise ValueError(f"restart: the {self.prior} prior is one forecast, expected mean, first or open, got each")
        if filters and self.members < 2:
            raise ValueError(f"members: the {self.prior} prior filters as many cheap members, expected 2 or more")
        if not isinstance(self.eta, Tracer) and not 0 <= self.eta <= 1:
            raise ValueError(f"eta: expected a number from 0 (deterministic) to 1, got {self.eta}")
        if self.sampler == "mean" and filters and self.restart == "each":
            raise ValueError("restart: sampler mean draws one field, expected restart mean or open with it, got each")
        check_positive("sigma_min", self.sigma_min)
        if not self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(f"sigma_max: expected more than sigma_min {self.sigma_min}, got {self.sigma_max}")


PAPER_DIFFSRDA = DiffSRDAConfig(prior="lr", restart="first", steps=20, sampler="ddim", sigmas="vp")
"""The paper's cycle: one LR forecast, restarted from one sample, conditions all 30 (arXiv:2604.21180)."""

PAPER_SAMPLING = {"diffsrda": PAPER_DIFFSRDA, "latent-diffsrda": dataclasses.replace(PAPER_DIFFSRDA, steps=10)}
