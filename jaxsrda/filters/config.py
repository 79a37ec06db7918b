"""Tuning of the filters: presets, and the numbers that may be traced."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxsrda.core.checks import check_not_negative, check_positive
from jaxsrda.core.records import renamed


@renamed(observation_std="assumed_std")
@dataclasses.dataclass(frozen=True)
class FilterConfig:
    """Tuning of an ensemble filter; all numbers but members, controls and substeps are traced.

    members, controls: ensemble size, and HR controls of the dual filter.
    localization: Gaspari–Cohn half-width d, weight zero beyond 2d (length).
    inflation: multiplicative factor on the background anomalies.
    adaptive: weight, 0 to 1, of the newest departures in an inflation that follows them from `inflation` on
        (`inflation.adapted`); 0 keeps it.
    additive: climatological anomalies added after each analysis, as a fraction of their standard
        deviation (the square root of the covariance factor quoted in arXiv:2604.21180).
    initial: the same at the start.
    rtps, rtpp: relaxation to prior spread (Whitaker & Hamill 2012, doi:10.1175/MWR-D-11-00276.1) and to prior
        perturbations (Zhang et al. 2004, doi:10.1175/1520-0493(2004)132<1238:IOIEAO>2.0.CO;2).
    representativeness: variance added to R for what the model's grid cannot hold.
    assumed_std: standard deviation of the noise that the filter assumes; 0 takes each sensor's own.
    viscosity: ν of the model that members (of the dual filter, controls) forecast with; 0 takes the model's own.
    substeps, corrector: of the Lagrangian model, for methods that forecast with it; 0 takes the model's own.
    """

    members: int = 100
    localization: float = 0.5
    inflation: float = 1.0
    adaptive: float = dataclasses.field(default=0.0, metadata={"later": True})
    additive: float = 0.07
    initial: float = 0.45
    rtps: float = 0.0
    rtpp: float = 0.0
    representativeness: float = 0.0
    assumed_std: float = 0.0
    controls: int = 1
    substeps: int = 0
    viscosity: float = 0.0
    corrector: bool = False

    def __post_init__(self):
        if self.members < 2:
            raise ValueError(f"members: expected at least 2 for a filter, got {self.members}")
        if not 1 <= self.controls <= self.members:
            raise ValueError(f"controls: expected 1 to {self.members} (the members), got {self.controls}")
        check_positive("localization", self.localization)
        check_positive("inflation", self.inflation)
        if not 0 <= self.adaptive <= 1:
            raise ValueError(f"adaptive: expected a weight from 0 to 1, got {self.adaptive!r}")
        for name in ("additive", "initial", "rtps", "rtpp", "representativeness", "assumed_std"):
            check_not_negative(name, getattr(self, name))
        if self.substeps < 0 or not 0 <= self.viscosity < math.inf:
            raise ValueError(
                f"substeps, viscosity: expected numbers above 0, or 0 for the model's own, got {self.substeps} and "
                f"{self.viscosity}"
            )


PAPER_FILTERS: dict[int, FilterConfig] = {
    4: FilterConfig(localization=0.15, additive=5e-4**0.5, initial=0.0, assumed_std=1e-5),
    6: FilterConfig(localization=0.3, additive=0.002**0.5, initial=0.2**0.5, assumed_std=0.03),
    8: FilterConfig(localization=0.5, additive=0.005**0.5, initial=0.2**0.5, assumed_std=0.10),
    12: FilterConfig(localization=0.7, additive=0.005**0.5, initial=0.2**0.5, assumed_std=0.20),
}
"""The paper's EnKF-HR tuning by lattice interval; its noise factors multiply covariances."""

FILTERS: dict[str, FilterConfig] = {
    "enkf-hr": FilterConfig(members=100, localization=1.2, additive=0.03, rtps=0.7),
    "enkf-sr": FilterConfig(members=100, localization=0.6, additive=0.1, rtps=0.7, representativeness=0.4),
    "enkf-dual": FilterConfig(members=50, localization=0.6, additive=0.07, representativeness=0.3),
    "enkf-dual-lagrange": FilterConfig(members=50, localization=1.2, additive=0.04, representativeness=0.1),
    "enkf-lagrange": FilterConfig(members=40, localization=1.6, additive=0.0056, rtps=0.5),
    "oi-lagrange": FilterConfig(members=100, localization=0.34, inflation=0.74),
    "letkf-lagrange": FilterConfig(members=40, localization=1.2, additive=0.0056, rtps=0.5),
    "etkf-hr": FilterConfig(members=40, additive=0.03, rtps=0.7),
    "letkf-hr": FilterConfig(members=40, localization=0.6, additive=0.03, rtps=0.7),
    "letkf-sr": FilterConfig(members=100, localization=0.6, additive=0.1, rtps=0.7, representativeness=0.4),
    "ensf-sr": FilterConfig(members=100, additive=0.1, representativeness=0.4),
    "free-run": FilterConfig(members=10),
    "bicubic": FilterConfig(members=10),
    "climatology": FilterConfig(members=100),
    "persistence": FilterConfig(members=100, localization=0.7),
}
"""Tuning by method for `lattice:8` and every layout without its own, true R; made by `benchmarks/tune_filters.py` where
experiments/README.md says so, the others untuned."""

LAYOUT_FILTERS: dict[str, dict[str, FilterConfig]] = {
    "lattice:4": {
        "enkf-lagrange": FilterConfig(members=40, localization=0.65, additive=0.01, rtps=0.5),
        "enkf-sr": FilterConfig(
            members=100, localization=0.6, additive=0.18, rtps=0.7, representativeness=0.025, inflation=1.04
        ),
    },
    "lattice:6": {
        "enkf-lagrange": FilterConfig(members=40, localization=1.2, additive=0.0056, rtps=0.5),
        "enkf-sr": FilterConfig(
            members=100, localization=0.6, additive=0.1, rtps=0.7, representativeness=0.4, inflation=1.08
        ),
    },
    "lattice:12": {
        "enkf-hr": FilterConfig(members=100, localization=1.6, additive=0.017, rtps=0.7),
        "enkf-lagrange": FilterConfig(members=40, localization=1.6, additive=0.0056, rtps=0.3),
        "enkf-sr": FilterConfig(
            members=100, localization=1.5, additive=0.056, rtps=0.7, representativeness=0.4, inflation=0.96
        ),
    },
}
"""Tuning for other layouts, by layout and method, from the same searches."""


class FilterParams(NamedTuple):
    """The traced numbers of a `FilterConfig` (see there)."""

    localization: Array
    inflation: Array
    adaptive: Array
    additive: Array
    initial: Array
    rtps: Array
    rtpp: Array
    representativeness: Array
    assumed_std: Array
    viscosity: Array


def filter_params(config: FilterConfig, dtype: DTypeLike = float) -> FilterParams:
    """The traced numbers of a configuration."""
    dtype = jnp.zeros((), dtype).dtype
    return FilterParams(*(jnp.asarray(getattr(config, name), dtype) for name in FilterParams._fields))
