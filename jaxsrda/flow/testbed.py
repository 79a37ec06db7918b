"""The testbed: grids, physics, first states, cadence and symmetries of one experiment, as one value.

All quantities are non-dimensional.  `jet()` is the barotropic ocean-jet instability of Yasuda & Onishi (2023,
doi:10.1029/2023MS003658) as used by Ayapilla, Miyashita, Yasuda & Onishi (2026, arXiv:2604.21180).  A flow of one's
own is another `Testbed`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxsrda.core.checks import check_choice, check_positive
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.jet import Physics, Profile, initial_state, jet_vorticity, sech2
from jaxsrda.flow.solver import SCHEMES, FlowParams

SYMMETRIES = ("shift", "reflection")
"""Exact symmetries that a flow may have: ω(x − s, y), and −ω(x, π − y)."""

FirstState = Callable[..., Array]
"""first_state(key, grid, physics, profile, dtype) → amplitudes [2K+1, L] of a random state at time zero."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["viscosity"],
    meta_fields=["name", "nx", "ny", "steps", "rk2_steps"],
)
@dataclasses.dataclass(frozen=True)
class Level:
    """A resolution of the testbed: grid size, hyperviscosity ν (a number or traced), and time steps a frame.

    `steps` are ETDRK4 steps a frame (this package's default scheme), `rk2_steps` the explicit
    midpoint steps a frame of the paper's program (arXiv:2604.21180).
    """

    name: str
    nx: int
    ny: int
    viscosity: Any
    steps: int
    rk2_steps: int = 0

    @property
    def grid(self) -> ChannelGrid:
        """The grid, both walls counted."""
        return ChannelGrid(self.nx, self.ny)

    def checked_steps(self, scheme: str = "etdrk4", steps: int | None = None) -> int:
        """`steps`, or the level's own for the scheme if None; ValueError for fewer than 1 or an unknown scheme."""
        check_choice("scheme", scheme, SCHEMES)
        own = self.rk2_steps if scheme == "rk2" else self.steps
        steps = own if steps is None else steps
        if steps < 1:
            raise ValueError(f"steps: expected at least 1 time step a frame, got {steps}")
        return steps


def _same(a: Level, b: Level) -> bool:
    """Whether both are one level; traced viscosities, which cannot be compared, are taken for equal."""
    sizes = [(each.name, each.nx, each.ny, each.steps, each.rk2_steps) for each in (a, b)]
    plain = all(isinstance(each.viscosity, int | float) for each in (a, b))
    return a is b or (sizes[0] == sizes[1] and (not plain or a.viscosity == b.viscosity))


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["forecast", "analysis", "truth", "finer", "physics"],
    meta_fields=[
        *("name", "profile", "first_state", "frame", "frames_per_cycle", "frames"),
        *("vorticity_range", "symmetries", "field_scale", "error_scale", "error_length"),
    ],
)
@dataclasses.dataclass(frozen=True)
class Testbed:
    """One experiment's flow.  Sizes are static; the physics and each level's ν may be traced, so vmap and grad apply.

    forecast, analysis, truth, finer: the `Level` of cheap forecasts, of analyses and scores, of simulated truths, and
    others that truths may come from.  physics: β, drag, forcing, first jet.  profile: the jet's shape.  first_state: a
    random state at time zero.  frame: time between frames; frames_per_cycle: frames from one assimilation time to the
    next; frames: of a truth, the start included.  vorticity_range: sets SSIM's dynamic range.  symmetries: those the
    flow has, of SYMMETRIES; training data and climatology are shifted and reflected by them.  field_scale,
    error_scale, error_length: sizes of vorticity and of the errors of forecasts, and the length over which these are
    correlated, which networks trained here take as units.

    Raises ValueError for levels that share a name, cadences below 1, and unknown symmetries.
    """

    name: str
    forecast: Level
    analysis: Level
    truth: Level
    finer: tuple[Level, ...] = ()
    physics: Physics = Physics()  # noqa: RUF009 (frozen)
    profile: Profile = sech2
    first_state: FirstState = initial_state
    frame: float = 0.25
    frames_per_cycle: int = 4
    frames: int = 96
    vorticity_range: tuple[float, float] = (-14.146547, 14.015356)
    symmetries: tuple[str, ...] = SYMMETRIES
    field_scale: float = 3.0
    error_scale: float = 0.5
    error_length: float = 0.3

    def __post_init__(self):
        for name in ("frame", "field_scale", "error_scale", "error_length"):
            check_positive(name, getattr(self, name))
        if self.frames_per_cycle < 1 or self.frames < 1:
            raise ValueError(
                f"testbed: expected at least 1 frame a cycle and 1 frame, got {self.frames_per_cycle} and {self.frames}"
            )
        for symmetry in self.symmetries:
            check_choice("symmetry", symmetry, SYMMETRIES)
        if all(isinstance(level, Level) for level in (self.forecast, self.analysis, self.truth)):
            names = [level.name for level in self.levels]
            if len(set(names)) < len(names):
                raise ValueError(f"testbed: expected one level a name, got {', '.join(names)}; rename one")

    @property
    def levels(self) -> tuple[Level, ...]:
        """All levels; one that plays two parts comes once."""
        levels: list[Level] = []
        for level in (self.forecast, self.analysis, self.truth, *self.finer):
            if not any(_same(level, other) for other in levels):
                levels.append(level)
        return tuple(levels)

    @property
    def grid(self) -> ChannelGrid:
        """The grid of analyses."""
        return self.analysis.grid

    @property
    def window(self) -> int:
        """Frames of a window, from one assimilation time to the next, both counted."""
        return self.frames_per_cycle + 1

    def level(self, name: str) -> Level:
        """The level called `name`; ValueError for a name that no level has."""
        levels = {level.name: level for level in self.levels}
        return levels[check_choice("level", name, levels)]

    def vary(self, viscosity: dict[str, Any] | None = None, **physics: Any) -> Testbed:
        """The same testbed with other physics, numbers or traced: β, drag, …, and ν by the names of levels."""
        nu = viscosity or {}
        for name in nu:
            self.level(name)

        def at(level: Level) -> Level:
            return dataclasses.replace(level, viscosity=nu[level.name]) if level.name in nu else level

        return dataclasses.replace(
            self,
            physics=dataclasses.replace(self.physics, **physics),
            forecast=at(self.forecast),
            analysis=at(self.analysis),
            truth=at(self.truth),
            finer=tuple(at(level) for level in self.finer),
        )

    def flow_params(self, level: Level, dtype: DTypeLike = float) -> FlowParams:
        """The physical coefficients at a level, in `dtype` (JAX's default float)."""
        array = functools.partial(jnp.asarray, dtype=jnp.zeros((), dtype).dtype)
        physics = self.physics
        forcing = physics.forcing * jet_vorticity(level.grid, physics.width, self.profile)
        return FlowParams(array(physics.beta), array(physics.drag), array(level.viscosity), array(forcing))

    def start(self, key: Array, grid: ChannelGrid, dtype: DTypeLike = float) -> Array:
        """Amplitudes [2K+1, L] of a random first state."""
        return self.first_state(key, grid, self.physics, self.profile, dtype=dtype)

    def numerics(self, *levels: Level) -> list[Any]:
        """What the numbers of runs at these levels depend on, for the keys of caches (`core.records.key_of`)."""
        return [self.physics, self.profile, self.first_state, self.frame, *levels]


@functools.cache
def jet() -> Testbed:
    """The paper's testbed: forecasts at 32 × 17, analyses at 128 × 65, truths at 256 × 129 or 1024 × 513 points."""
    return Testbed(
        "jet",
        forecast=Level("lr", 32, 17, 5e-5, steps=10, rk2_steps=500),
        analysis=Level("hr", 128, 65, 1e-5, steps=25, rk2_steps=2000),
        # The default truth: the UHR's equation (its ν) on a quarter of its grid.  At the cut-off
        # k = 85 that ν damps at 2e-6 · 85⁴ ≈ 100 per time unit, three times faster than the HR
        # level damps at its own cut-off, so the grid resolves the dissipation.
        truth=Level("fine", 256, 129, 2e-6, steps=50, rk2_steps=4000),
        finer=(Level("uhr", 1024, 513, 2e-6, steps=250, rk2_steps=16000),),
    )


@functools.cache
def jet_small() -> Testbed:
    """The same flow at a quarter of the points, for tests and tutorials: 16 × 9, 64 × 33 and 128 × 65 points.

    ν grows by 2⁴ for half the points, so that each level damps its own cut-off as fast as `jet`'s does.
    """
    return Testbed(
        "jet-small",
        forecast=Level("lr", 16, 9, 8e-4, steps=6, rk2_steps=250),
        analysis=Level("hr", 64, 33, 1.6e-4, steps=13, rk2_steps=1000),
        truth=Level("fine", 128, 65, 3.2e-5, steps=25, rk2_steps=2000),
    )


TESTBEDS: dict[str, Callable[[], Testbed]] = {"jet": jet, "jet-small": jet_small}
"""Testbeds by name."""


def testbeds_on(shape: tuple[int, int]) -> list[str]:
    """The names of the testbeds whose analyses have so many points."""
    return [name for name, make in TESTBEDS.items() if make().grid.shape == shape]


def testbed(name: str) -> Testbed:
    """The testbed called `name`, or your own as module:name (a `Testbed` or a function that makes one).

    ValueError for another name, and for a module without it.
    """
    module, colon, attribute = name.partition(":")
    if not colon:
        return TESTBEDS[check_choice("testbed", name, TESTBEDS)]()
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"testbed: expected module:name of a testbed, got {name!r} ({error})") from None
    made = found() if callable(found) else found
    if not isinstance(made, Testbed):
        raise ValueError(f"testbed: expected {name!r} to be a Testbed, got {type(made).__name__}")
    return made
