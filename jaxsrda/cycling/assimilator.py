"""The contract of a method: what a cycle does with the observations of one time.

An `Assimilator` is a pair of pure functions.  `init(key)` makes the state: the forecast valid at the
first assimilation time.  `step(key, state, observations)` analyses it, returns the ensemble's frames
of the cycle with diagnostics (`Window`), and leaves in the state the forecast valid at the next time.  Methods
differ only inside, so one `jax.lax.scan` runs them all (`cycling.run_cycles`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.flow.climatology import Climatology
from jaxsrda.flow.forecasts import ForecastModel, recentre, spectral
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.lagrangian import EXPLICIT, SUBSTEPS, lagrangian
from jaxsrda.flow.solver import Speeds
from jaxsrda.flow.testbed import Level, Testbed
from jaxsrda.observing.observations import Observations
from jaxsrda.observing.sensors import Sensors, predict, with_role


class Diagnostics(NamedTuple):
    """Health of a step: every number finite; which observations were assimilated; the ensemble in observation space
    before and after; top speeds; which observations a background check kept from the method, None without one."""

    finite: Array  # ()
    assimilated: Array  # (p,) bool
    background_observed: Array  # (M, p)
    analysis_observed: Array  # (M, p)
    speeds: Speeds  # of the window's frames, largest over the members: (F + 1,)
    rejected: Array | None = None  # (p,) bool


class Window(NamedTuple):
    """What a step returns: ensemble frames from t until the next assimilation time, the background's mean at t,
    diagnostics, and, if the members are independent draws around an estimate that is not their mean, that estimate.
    `Setup.window` makes one."""

    omega: Array  # (M, F, nx, ny)
    background: Array  # (nx, ny)
    diagnostics: Diagnostics
    analysis: Array | None = None  # (F, nx, ny)


class Assimilator(NamedTuple):
    """init(key) → state;  step(key, state, observations) → (state, Window);  `members` M of the windows."""

    init: Callable[[Array], Any]
    step: Callable[[Array, Any, Observations], tuple[Any, Window]]
    members: int


class Setup(NamedTuple):
    """What every method is given: the testbed, its climatology, the sets of sensors, and the number of the first
    assimilation time, counted from time zero; fields: (M, nx, ny) on the analysis grid to start from, None for random
    members."""

    testbed: Testbed
    climatology: Climatology
    sensors: tuple[Sensors, ...] = (Sensors(),)
    first: int = 0
    fields: Array | None = None

    @property
    def grid(self) -> ChannelGrid:
        """The analysis grid."""
        return self.testbed.grid

    @property
    def dtype(self) -> Any:
        """The floating type that methods compute in: the climatology's."""
        return self.climatology.mean.dtype

    def analysis_model(self, viscosity: Array | float = 0.0) -> ForecastModel:
        """Forecasts at the level of analyses (HR); a ν of 0 (which may be traced) takes the level's own."""
        return spectral(self.testbed, self._viscous(self.testbed.analysis, viscosity))

    def forecast_model(self, upsampling: str = "spectral", viscosity: Array | float = 0.0) -> ForecastModel:
        """Cheap forecasts, at the level of forecasts (LR); a ν of 0 (which may be traced) takes the level's own."""
        return spectral(self.testbed, self._viscous(self.testbed.forecast, viscosity), upsampling)

    def lagrangian_model(
        self, substeps: int = 0, viscosity: Array | float = 0.0, corrector: bool = False
    ) -> ForecastModel:
        """Analysis fields carried by cheap forecasts; 0 substeps and a ν of 0 (which may be traced) take its own."""
        level = dataclasses.replace(self.testbed.truth, viscosity=EXPLICIT * self.testbed.truth.viscosity)
        own = self._viscous(level, viscosity).viscosity
        return lagrangian(self.testbed, substeps=substeps or SUBSTEPS, viscosity=own, corrector=corrector)

    def _viscous(self, level: Level, viscosity: Array | float) -> Level:
        """The level with ν, its own where that is 0."""
        given, own = (jnp.asarray(nu, self.dtype) for nu in (viscosity, level.viscosity))
        return dataclasses.replace(level, viscosity=jnp.where(given > 0, given, own))

    def first_states(
        self,
        model: ForecastModel,
        key: Array,
        members: int,
        dtype: Any = None,
        noise: tuple[Array, Array | float] | None = None,
    ) -> Array:
        """States (M, 2K+1, L) of a model that do not know the truth, valid at the first assimilation time.

        At time zero they are the model's own, with climatological anomalies added if `noise` gives their key and size;
        later, random climatological states of that time around its mean: a single one is the mean.  Where the setup
        has `fields` they are these; fewer of them, each the mean of every so-manieth.  Raises ValueError for more.
        """
        if self.fields is not None:
            given = self.fields.astype(self.dtype if dtype is None else dtype)
            if members > len(given):
                raise ValueError(f"members: expected at most the {len(given)} fields to start from, got {members}")
            return model.from_analysis_grid(jnp.stack([given[i::members].mean(0) for i in range(members)]))
        if self.first > 0:
            anomalies = self.climatology.draw(key, self.first, members, model.grid)
            return self.climatology.mean_at(self.first, model.grid)[None] + recentre(anomalies, 1.0)
        start = model.initial(key, members, self.dtype if dtype is None else dtype)
        if noise is None:
            return start
        noise_key, size = noise
        return start + recentre(self.climatology.draw(noise_key, 0, members, model.grid), size)

    def assimilated(self, observations: Observations) -> Observations:
        """The observations with those that are not to be assimilated masked."""
        return with_role(observations, self.sensors, "assimilated")

    def observed(self, ensemble: Array, observations: Observations) -> Array:
        """Predicted observations (M, p) of an ensemble (M, nx, ny) on the analysis grid."""
        return jax.vmap(lambda omega: predict(self.grid, omega, observations, self.sensors))(ensemble)

    def window(
        self,
        observations: Observations,
        frames: Array,
        background: Array | None = None,
        before: Array | None = None,
        speeds: Speeds | None = None,
        analysis: Array | None = None,
    ) -> Window:
        """The `Window` of a step.

        observations: those assimilated, others masked; frames: the ensemble (M, F, nx, ny), analysis first; background:
        the mean (nx, ny) before the analysis, and before: that ensemble's predicted observations (M, p), by default
        those of the analysis; speeds: of the forecast, by default zero, for a method that integrates nothing; analysis:
        the estimate (F, nx, ny) that members are independent draws around, by default their mean.
        """
        after = self.observed(frames[:, 0], observations)
        if analysis is not None:
            after = after - after.mean(0, keepdims=True) + self.observed(analysis[:1], observations)
        if speeds is None:
            zeros = jnp.zeros(self.testbed.window, frames.dtype)
            speeds = Speeds(zeros, zeros)
        diagnostics = Diagnostics(
            finite=jnp.isfinite(frames).all() & jnp.isfinite(speeds.rate).all(),
            assimilated=observations.mask,
            background_observed=after if before is None else before,
            analysis_observed=after,
            speeds=speeds,
        )
        return Window(frames, frames[:, 0].mean(0) if background is None else background, diagnostics, analysis)
