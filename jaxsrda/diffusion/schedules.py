"""Noise levels σ of a diffusion, all in the variance-exploding view x_σ = x₀ + σ ε.

A variance-preserving sample z = √ᾱ x₀ + √(1 − ᾱ) ε is that x_σ times √ᾱ = 1/√(1 + σ²), with
σ = √((1 − ᾱ)/ᾱ); so one set of samplers serves both kinds of network.  Grids are made on the host in
float64 and decrease from the largest σ to a final 0; the sampler casts them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxsrda.core.checks import check_choice, check_positive

GRIDS = ("edm", "vp", "log")


def check_steps(steps: int) -> int:
    """`steps` if it is at least 1, else ValueError."""
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps!r}")
    return steps


def check_range(sigma_min: float, sigma_max: float) -> None:
    """Raise ValueError unless 0 < sigma_min < sigma_max."""
    check_positive("sigma_min", sigma_min)
    check_positive("sigma_max", sigma_max)
    if sigma_min >= sigma_max:
        raise ValueError(f"sigma_min: expected a number below sigma_max = {sigma_max!r}, got {sigma_min!r}")


def noise_level(sigma: Any) -> Any:
    """√ᾱ = 1/√(1 + σ²): what a variance-preserving network is told of σ, and its scale of x_σ."""
    return (1 + sigma * sigma) ** -0.5


@dataclasses.dataclass(frozen=True)
class VPSchedule:
    """Variance-preserving schedule: β_t linear in t, ᾱ_t = ∏_{s ≤ t} (1 − β_s), t = 1 … steps.

    Ho, Jain & Abbeel (2020, arXiv:2006.11239, section 4); also that of arXiv:2604.21180.  Raises
    ValueError unless steps ≥ 1 and 0 < beta_start ≤ beta_end < 1.
    """

    steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02

    def __post_init__(self):
        check_steps(self.steps)
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(
                f"VPSchedule: expected 0 < beta_start ≤ beta_end < 1, got {self.beta_start!r} and {self.beta_end!r}"
            )

    def betas(self) -> np.ndarray:
        """β_t, (steps,), increasing."""
        return np.linspace(self.beta_start, self.beta_end, self.steps)

    def sigmas(self) -> np.ndarray:
        """σ_t = √((1 − ᾱ_t)/ᾱ_t), (steps,), increasing; index t − 1."""
        log_alpha_bar = np.cumsum(np.log1p(-self.betas()))
        return np.sqrt(np.expm1(-log_alpha_bar))


VP_SCHEDULE = VPSchedule()


def edm_sigmas(steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> np.ndarray:
    """Levels uniform in σ^{1/ρ} from sigma_max to sigma_min, then 0: (steps + 1,), decreasing.

    Karras, Aittala, Aila & Laine (2022, arXiv:2206.00364, eq. 5).  One step is [sigma_max, 0].
    Raises ValueError for steps < 1, ρ ≤ 0 or an empty range.
    """
    check_steps(steps)
    check_range(sigma_min, sigma_max)
    check_positive("rho", rho)
    return np.append(np.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), steps) ** rho, 0.0)


STUDENT_RANGE = (0.04, 12.0)
"""Lowest and highest level of a distilled sampler; students learn these levels and no others."""


def student_sigmas(steps: int) -> np.ndarray:
    """Levels of a distilled sampler: those of `edm_sigmas` with one step more, the last above 0 left out: (steps + 1,).

    So that both steps of two do work: 12, 1.2, 0 and not 12, 0.04, 0.
    """
    return np.delete(edm_sigmas(steps + 1, *STUDENT_RANGE), steps)


def log_snr_sigmas(steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0) -> np.ndarray:
    """Levels uniform in log σ (half the log-SNR) from sigma_max to sigma_min, then 0: (steps + 1,).

    Lu et al. (2022, arXiv:2206.00927).  Raises ValueError as `edm_sigmas`.
    """
    check_steps(steps)
    check_range(sigma_min, sigma_max)
    return np.append(np.geomspace(sigma_max, sigma_min, steps), 0.0)


def vp_sigmas(steps: int, schedule: VPSchedule = VP_SCHEDULE) -> np.ndarray:
    """Levels of a variance-preserving schedule, evenly spaced in t from its last, then 0: (steps + 1,).

    t_i = ⌈T (steps − i)/steps⌉ for i = 0 … steps − 1; for T = 1000 and 20 steps 1000, 950, …, 50.
    Song, Meng & Ermon (2021, arXiv:2010.02502, section 4.2).  Raises ValueError unless 1 ≤ steps ≤ T.
    """
    check_steps(steps)
    if steps > schedule.steps:
        raise ValueError(
            f"steps: expected at most the schedule's {schedule.steps}, got {steps}; take fewer, or a schedule with more"
        )
    left = np.arange(steps, 0, -1)
    t = -(-schedule.steps * left // steps)
    return np.append(schedule.sigmas()[t - 1], 0.0)


def sigma_grid(
    name: str,
    steps: int,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    schedule: VPSchedule = VP_SCHEDULE,
) -> np.ndarray:
    """The grid called `name`, `edm`, `vp` or `log`: (steps + 1,), decreasing to 0.

    `vp` reads only `schedule`, `edm` and `log` only the range (and ρ).  Raises ValueError for any
    other name and as the grid's own function.
    """
    check_choice("grid", name, GRIDS)
    if name == "vp":
        return vp_sigmas(steps, schedule)
    if name == "log":
        return log_snr_sigmas(steps, sigma_min, sigma_max)
    return edm_sigmas(steps, sigma_min, sigma_max, rho)
