"""Controls that any method has to beat: free run, climatology, persistence."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.cycling.assimilator import Assimilator, Setup, Window
from jaxsrda.filters.analysis import enkf
from jaxsrda.filters.config import FilterParams
from jaxsrda.filters.ensemble import EnsembleState
from jaxsrda.flow.forecasts import ForecastModel, recentre, to_amplitudes, to_fields
from jaxsrda.observing.observations import Observations


def free_run(setup: Setup, model: ForecastModel, members: int) -> Assimilator:
    """Members from other first states than the truth's that never meet an observation."""

    def init(key: Array) -> EnsembleState:
        return EnsembleState(model.initial(key, members, setup.dtype), jnp.int32(0))

    def step(key: Array, state: EnsembleState, observations: Observations) -> tuple[EnsembleState, Window]:
        ahead = model.forecast(state.omega_hat)
        frames = model.to_analysis_grid(ahead.frames)
        window = setup.window(setup.assimilated(observations), frames, speeds=ahead.speeds)
        return EnsembleState(ahead.ahead, state.time + 1), window

    return Assimilator(init, step, members)


def climatology(setup: Setup, members: int) -> Assimilator:
    """Random climatological states of the assimilation time, held through the window; observations unused."""
    grid = setup.grid

    def init(key: Array) -> Array:
        return jnp.int32(0)

    def step(key: Array, time: Array, observations: Observations) -> tuple[Array, Window]:
        draws = setup.climatology.draw(key, time, members, grid) + setup.climatology.mean_at(time, grid)
        held = jnp.repeat(to_fields(grid, draws)[:, None], setup.testbed.frames_per_cycle, axis=1)
        return time + 1, setup.window(setup.assimilated(observations), held)

    return Assimilator(init, step, members)


def persistence(setup: Setup, members: int, params: FilterParams) -> Assimilator:
    """The last analysis, held; analysed by ensemble optimal interpolation with climatological anomalies.

    No model at all: what observations and climatology alone can do.  Evensen (2003, doi:10.1007/s10236-003-0036-9).
    """
    grid = setup.grid

    def init(key: Array) -> EnsembleState:
        mean = setup.climatology.mean_at(0, grid)
        return EnsembleState(mean[None], jnp.int32(0))

    def step(key: Array, state: EnsembleState, observations: Observations) -> tuple[EnsembleState, Window]:
        observations = setup.assimilated(observations)
        draw_key, analysis_key = jax.random.split(key)
        draws = setup.climatology.draw(draw_key, state.time, members, grid)
        background = to_fields(grid, state.omega_hat + recentre(draws, params.inflation))
        before = setup.observed(background, observations)
        ensemble = enkf(analysis_key, grid, background, before, observations, params)
        held = jnp.repeat(ensemble[:, None], setup.testbed.frames_per_cycle, axis=1)
        window = setup.window(observations, held, background.mean(0), before)
        return EnsembleState(to_amplitudes(grid, ensemble.mean(0)[None]), state.time + 1), window

    return Assimilator(init, step, members)
