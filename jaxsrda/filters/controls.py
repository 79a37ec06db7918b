"""Controls that any method has to beat: free run, climatology, optimal interpolation, persistence."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.cycling.assimilator import Assimilator, Setup, Window
from jaxsrda.filters.analysis import enkf
from jaxsrda.filters.config import FilterParams
from jaxsrda.filters.ensemble import EnsembleState
from jaxsrda.filters.inflation import adapted, inflate
from jaxsrda.flow.forecasts import ForecastModel, recentre, still, to_fields
from jaxsrda.observing.observations import Observations


def free_run(setup: Setup, model: ForecastModel, members: int) -> Assimilator:
    """Members from other first states than the truth's that never meet an observation."""

    def init(key: Array) -> EnsembleState:
        return EnsembleState(setup.first_states(model, key, members), jnp.int32(setup.first))

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
        return jnp.int32(setup.first)

    def step(key: Array, time: Array, observations: Observations) -> tuple[Array, Window]:
        draws = setup.climatology.draw(key, time, members, grid) + setup.climatology.mean_at(time, grid)[None]
        held = jnp.repeat(to_fields(grid, draws)[:, None], setup.testbed.frames_per_cycle, axis=1)
        return time + 1, setup.window(setup.assimilated(observations), held)

    return Assimilator(init, step, members)


def optimal_interpolation(setup: Setup, model: ForecastModel, members: int, params: FilterParams) -> Assimilator:
    """One forecast, analysed with random climatological anomalies in place of an ensemble: no ensemble is forecast.

    P = λ² X′ X′ᵀ/(M−1), localized, of M anomalies X′ of the time, λ the (adaptive) `inflation`; the window's members
    change as the forecast of their mean does.  Evensen (2003, doi:10.1007/s10236-003-0036-9).
    """
    grid = setup.grid

    def init(key: Array) -> EnsembleState:
        return EnsembleState(setup.first_states(model, key, 1), jnp.int32(setup.first), params.inflation)

    def step(key: Array, state: EnsembleState, observations: Observations) -> tuple[EnsembleState, Window]:
        observations = setup.assimilated(observations)
        draw_key, analysis_key = jax.random.split(key)
        draws = setup.climatology.draw(draw_key, state.time, members, grid)
        forecast = model.to_analysis_grid(state.omega_hat)
        background = forecast + to_fields(grid, recentre(draws, state.inflation))
        before = setup.observed(background, observations)
        inflation = adapted(state.inflation, before, observations, params)
        wide = inflate(background, inflation / state.inflation)
        ensemble = enkf(analysis_key, grid, wide, setup.observed(wide, observations), observations, params)
        analysis = ensemble.mean(0, keepdims=True)
        ahead = model.forecast(model.from_analysis_grid(analysis))
        moved = model.to_analysis_grid(ahead.frames)
        frames = ensemble[:, None] + (moved - moved[:, :1])
        window = setup.window(observations, frames, forecast[0], before, ahead.speeds)
        return EnsembleState(ahead.ahead, state.time + 1, inflation), window

    return Assimilator(init, step, members)


def persistence(setup: Setup, members: int, params: FilterParams) -> Assimilator:
    """The last analysis, held; analysed by `optimal_interpolation`: what observations and climatology alone can do."""
    start = setup.climatology.mean_at(setup.first, setup.grid)
    held = still(setup.testbed)._replace(initial=lambda key, members, dtype: jnp.stack([start] * members))
    return optimal_interpolation(setup, held, members, params)
