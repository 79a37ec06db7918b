"""The testbed: levels, cadence, and the physics of the barotropic ocean jet.

All quantities are non-dimensional.  The testbed is the barotropic ocean-jet instability of Yasuda & Onishi (2023,
doi:10.1029/2023MS003658) as used by Ayapilla, Miyashita, Yasuda & Onishi (2026, arXiv:2604.21180).
"""

from __future__ import annotations

import dataclasses
import functools

import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxsrda.core.checks import check_choice
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.jet import JET, JetConfig, jet_vorticity
from jaxsrda.flow.solver import SCHEMES, FlowParams

FRAME = 0.25
"""Time between output frames."""

FRAMES_PER_CYCLE = 4
"""Frames from one assimilation time to the next (one time unit)."""

DEFAULT_FRAMES = 96
"""Frames of a truth run, the start included: t = 0 … 23.75."""

VORTICITY_RANGE = (-14.146547, 14.015356)
"""Range of vorticity in the paper's training runs; sets SSIM's dynamic range and network scaling."""


@dataclasses.dataclass(frozen=True)
class Level:
    """A resolution of the testbed: grid size, hyperviscosity ν, and time steps a frame.

    `steps` are ETDRK4 steps a frame (this package's default scheme), `rk2_steps` the explicit
    midpoint steps a frame of the paper's program (arXiv:2604.21180).
    """

    name: str
    nx: int
    ny: int
    viscosity: float
    steps: int
    rk2_steps: int


LEVELS: dict[str, Level] = {
    level.name: level
    for level in (
        Level("lr", 32, 17, 5e-5, steps=10, rk2_steps=500),
        Level("hr", 128, 65, 1e-5, steps=25, rk2_steps=2000),
        # The default truth: the UHR's equation (its ν) on a quarter of its grid.  At the cut-off
        # k = 85 that ν damps at 2e-6 · 85⁴ ≈ 100 per time unit, three times faster than the HR
        # level damps at its own cut-off, so the grid resolves the dissipation.
        Level("fine", 256, 129, 2e-6, steps=50, rk2_steps=4000),
        Level("uhr", 1024, 513, 2e-6, steps=250, rk2_steps=16000),
    )
}


def level(name: str) -> Level:
    """The `Level` called `name`: lr, hr, fine or uhr.  Raises ValueError for any other name."""
    return LEVELS[check_choice("level", name, LEVELS)]


def level_grid(level: Level) -> ChannelGrid:
    """The grid of a level."""
    return ChannelGrid(level.nx, level.ny)


def flow_params(level: Level, config: JetConfig = JET, dtype: DTypeLike = float) -> FlowParams:
    """The testbed's physical coefficients at a level, in `dtype` (JAX's default float)."""
    array = functools.partial(jnp.asarray, dtype=jnp.zeros((), dtype).dtype)
    forcing = config.forcing * jet_vorticity(level_grid(level), config)
    return FlowParams(array(config.beta), array(config.drag), array(level.viscosity), array(forcing))


def default_steps(level: Level, scheme: str = "etdrk4") -> int:
    """Time steps a frame that the level is run at."""
    return level.rk2_steps if scheme == "rk2" else level.steps


def checked_steps(level: Level, scheme: str, steps: int | None) -> int:
    """`steps`, or the level's own for the scheme if None; ValueError for fewer than 1 or an unknown scheme."""
    check_choice("scheme", scheme, SCHEMES)
    steps = default_steps(level, scheme) if steps is None else steps
    if steps < 1:
        raise ValueError(f"steps: expected at least 1 time step a frame, got {steps}")
    return steps
