"""The contract of a method: what a cycle does with the observations of one time.

An `Assimilator` is a pair of pure functions.  `init(key)` makes the state: the forecast valid at the
first assimilation time.  `step(key, state, observations)` analyses it, returns the ensemble's frames
of the cycle with diagnostics (`Window`), and leaves in the state the forecast valid at the next time.  Methods
differ only inside, so one `jax.lax.scan` runs them all (`cycling.run_cycles`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.flow.climatology import Climatology
from jaxsrda.flow.forecasts import HR, LR
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.solver import Speeds
from jaxsrda.flow.testbed import FRAMES_PER_CYCLE, Level, level_grid
from jaxsrda.observing.observations import Observations, predict
from jaxsrda.observing.operators import Operator, vorticity


class Diagnostics(NamedTuple):
    """Health of a step: every number finite; ensemble in observation space before and after; top speeds."""

    finite: Array  # ()
    background_observed: Array  # (M, p)
    analysis_observed: Array  # (M, p)
    speeds: Speeds  # of the frames t … t + 4, largest over the members: (5,)


class Window(NamedTuple):
    """What a step returns: HR ensemble frames t … t + 3, the background's mean at t, diagnostics."""

    omega: Array  # (M, 4, nx, ny)
    background: Array  # (nx, ny)
    diagnostics: Diagnostics


class Assimilator(NamedTuple):
    """init(key) → state;  step(key, state, observations) → (state, Window);  `members` M of the windows."""

    init: Callable[[Array], Any]
    step: Callable[[Array, Any, Observations], tuple[Any, Window]]
    members: int


class Setup(NamedTuple):
    """What every method is given: the levels, the climatology, and how the sensors see the vorticity, those of the
    second set too (`Observations.guides`, by default alike)."""

    climatology: Climatology
    operator: Operator = vorticity
    fine: Level = HR
    coarse: Level = LR
    guide_operator: Operator | None = None

    @property
    def grid(self) -> ChannelGrid:
        """The analysis grid."""
        return level_grid(self.fine)

    @property
    def coarse_grid(self) -> ChannelGrid:
        """The grid of the cheap forecasts."""
        return level_grid(self.coarse)

    def observed(self, ensemble: Array, observations: Observations) -> Array:
        """Predicted observations (M, p) of an HR ensemble (M, nx, ny)."""
        return jax.vmap(lambda omega: predict(self.grid, omega, observations, self.operator, self.guide_operator))(
            ensemble
        )


def window(ensemble: Array, background: Array, before: Array, after: Array, speeds: Speeds) -> Window:
    """The `Window` of HR frames (M, 4, nx, ny)."""
    finite = jnp.isfinite(ensemble).all() & jnp.isfinite(speeds.rate).all()
    return Window(ensemble, background, Diagnostics(finite, before, after, speeds))


def no_speeds(dtype) -> Speeds:
    """The speeds of a method that integrates nothing."""
    zeros = jnp.zeros(FRAMES_PER_CYCLE + 1, dtype)
    return Speeds(zeros, zeros)
