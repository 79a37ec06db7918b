"""Configuration of the diffusion model in the cycle."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxsrda.core.checks import check_choice, check_positive
from jaxsrda.filters.config import FILTERS, FilterConfig

PRIORS = ("dual", "enkf-sr", "lr")
BEST_RESTART = {"dual": "mean", "enkf-sr": "open", "lr": "each"}
"""What each prior restarts from unless told: best on validation truths for dual and enkf-sr; lr was not measured."""

SAMPLERS = ("ddim", "heun", "dpmpp-2m", "dpmpp-2m-sde", "mean")
NOISE_GRIDS = ("edm", "vp", "log")
RESTARTS = ("open", "first", "mean", "each")
GUIDES = ("blend", "lifted", "diffpir", "oi", "mmps", "pigdm", "sda", "dps")
GUIDANCE = ("none", *GUIDES, "projected")
ITERATIVE = ("lifted", "diffpir", "oi", "mmps", "pigdm")
GUIDE_ON = ("new", "all")


@dataclasses.dataclass(frozen=True)
class DiffSRDAConfig:
    """The diffusion model in the cycle.

    prior: what gives the first guess: `dual` (EnKF of LR members around one HR control), `enkf-sr` (EnKF of LR
    members) or `lr` (LR forecasts alone, as in arXiv:2604.21180).
    restart: what the prior's forecasts go on from: `each` LR member from its own sample, all from the `mean` or from
    the `first` sample (arXiv:2604.21180), or `open`, the prior's own analysis; empty takes the prior's BEST_RESTART.
    members: samples a cycle; steps, sampler, eta: see `diffusion.samplers`; noise, sigma_min, sigma_max: the noise
    grid (`edm`, `log` or `vp`) and its ends.
    weights: the name of released weights or a file; empty takes the released ones for the prior.
    centred: the samples' mean is made the conditioner's own, which it estimates without sampling noise (models with
    target residual and one condition for all samples; a member then depends on how many there are), before they are
    `projected`.  Samples guided at each step come in pairs of opposite noise instead, which leaves little of it in
    their mean.
    chunk: samples drawn at once, to bound memory.
    guidance: how samples are moved towards observations of t: `none`; a method of `diffusion.guidance` at each step,
    through the decoder if there is one, or a function of your own like those there; or `projected`, each member's
    misfit kriged onto its frame t in the end.
    strength: of the method, None for its own.  iterations: of conjugate gradients, for lifted, diffpir, oi, mmps and
    pigdm, None for their own (3; 1 for mmps).  guide_on: the sensors that guide, the `new` ones that nothing else uses
    (see `twin.assimilate`), or `all`, with those that condition the model.  blur, hard_steps, of `blend`: its widths in
    grid points at the first and the last level, geometric in σ between them; how many of the last steps replace the
    estimate at the sensors altogether.
    """

    prior: str = "dual"
    restart: str = ""
    members: int = 30
    steps: int = 4
    sampler: str = "dpmpp-2m"
    eta: float = 1.0
    noise: str = "edm"
    sigma_min: float = 0.04
    sigma_max: float = 12.0
    weights: str = ""
    centred: bool = True
    chunk: int = 50
    guidance: str | Callable[..., Any] = "none"
    strength: float | None = None
    iterations: int | None = None
    guide_on: str = "new"
    blur: tuple[float, float] = (1.0, 1.0)
    hard_steps: int = 0

    def __post_init__(self):
        check_choice("prior", self.prior, PRIORS)
        if not self.restart:
            object.__setattr__(self, "restart", BEST_RESTART[self.prior])
        check_choice("restart", self.restart, RESTARTS)
        check_choice("sampler", self.sampler, SAMPLERS)
        check_choice("noise", self.noise, NOISE_GRIDS)
        if not callable(self.guidance):
            check_choice("guidance", self.guidance, GUIDANCE)
        check_choice("guide_on", self.guide_on, GUIDE_ON)
        if self.strength is not None:
            check_positive("strength", self.strength)
            if self.guidance in ("none", "projected"):
                raise ValueError(f"strength: guidance {self.guidance} has none; leave it out, or choose a method")
        if self.iterations is not None and (self.guidance not in ITERATIVE or self.iterations < 1):
            raise ValueError(
                f"iterations: expected at least 1, for guidance {', '.join(ITERATIVE)}; got {self.iterations} for "
                f"{self.guidance}"
            )
        if self.guidance != "none" and self.sampler == "mean":
            raise ValueError(
                "guidance: sampler mean draws nothing that could be guided; take another, or guidance none"
            )
        if len(self.blur) != 2:
            raise ValueError(f"blur: expected two widths, at the first and the last level, got {self.blur}")
        for width in self.blur:
            check_positive("blur", width)
        if not 0 <= self.hard_steps <= self.steps:
            raise ValueError(
                f"hard_steps: expected 0 to as many as there are steps, {self.steps}, got {self.hard_steps}"
            )
        if self.guidance != "blend" and (self.hard_steps or self.blur != DiffSRDAConfig.blur):
            raise ValueError(
                f"blur, hard_steps: these are options of guidance blend, got {self.guidance}; leave them out"
            )
        for name in ("members", "steps", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.prior != "lr" and self.members < 2:
            raise ValueError(f"members: the {self.prior} prior filters as many LR members, expected 2 or more")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta: expected a number from 0 (deterministic) to 1, got {self.eta}")
        if self.sampler == "mean" and self.prior != "lr" and self.restart == "each":
            raise ValueError("restart: sampler mean draws one field, expected restart mean or open with it, got each")
        check_positive("sigma_min", self.sigma_min)
        if not self.sigma_max > self.sigma_min:
            raise ValueError(f"sigma_max: expected more than sigma_min {self.sigma_min}, got {self.sigma_max}")


PAPER_DIFFSRDA = DiffSRDAConfig(prior="lr", restart="first", steps=20, sampler="ddim", noise="vp")
"""The paper's cycle: one LR forecast, restarted from one sample, conditions all 30 (arXiv:2604.21180)."""

PAPER_SAMPLING = {"diffsrda": PAPER_DIFFSRDA, "latent-diffsrda": dataclasses.replace(PAPER_DIFFSRDA, steps=10)}

PRIOR_FILTERS: dict[str, FilterConfig] = {"dual": FILTERS["enkf-dual"], "enkf-sr": FILTERS["enkf-sr"]}
"""The filters' tuning as priors; their members are the diffusion model's."""
