"""Controls that any method has to beat: free run, climatology, persistence."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxsrda.cycling.assimilator import Assimilator, Setup, Window, no_speeds, window
from jaxsrda.filters import analysis as enkf
from jaxsrda.filters.config import FilterParams
from jaxsrda.filters.ensemble import EnsembleState
from jaxsrda.flow.forecasts import _over_leading, first_states, forecast, physical, recentre, spectral
from jaxsrda.flow.grid import regrid
from jaxsrda.flow.testbed import FRAMES_PER_CYCLE, Level, level_grid
from jaxsrda.observing.observations import Observations

# Controls -------------------------------------------------------------------------------------


def free_run(setup: Setup, level: Level, members: int, dtype: DTypeLike = float) -> Assimilator:
    """Members from other seeds that never see an observation; LR ones are shown on HR by bicubic interpolation."""
    grid, own = setup.grid, level_grid(level)

    def init(key: Array) -> EnsembleState:
        return EnsembleState(first_states(key, level, members, jnp.zeros((), dtype).dtype), jnp.int32(0))

    def step(key: Array, state: EnsembleState, observations: Observations) -> tuple[EnsembleState, Window]:
        frames, ahead, speeds = forecast(level, state.omega_hat)
        fields = physical(own, frames)
        if own != grid:
            fields = _over_leading(lambda f: regrid(own, grid, f, "bicubic"), fields)
        seen = setup.observed(fields[:, 0], observations)
        return EnsembleState(ahead, state.time + 1), window(fields, fields[:, 0].mean(0), seen, seen, speeds)

    return Assimilator(init, step, members)


def climatology(setup: Setup, members: int, dtype: DTypeLike = float) -> Assimilator:
    """Random climatological states of the assimilation time, held through the window; observations unused."""
    grid = setup.grid

    def init(key: Array) -> Array:
        return jnp.int32(0)

    def step(key: Array, time: Array, observations: Observations) -> tuple[Array, Window]:
        draws = setup.climatology.draw(key, time, members, grid) + setup.climatology.mean_at(time, grid)
        fields = physical(grid, draws)
        seen = setup.observed(fields, observations)
        held = jnp.repeat(fields[:, None], FRAMES_PER_CYCLE, axis=1)
        return time + 1, window(held, fields.mean(0), seen, seen, no_speeds(fields.dtype))

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
        draw_key, analysis_key = jax.random.split(key)
        draws = setup.climatology.draw(draw_key, state.time, members, grid)
        background = physical(grid, state.omega_hat + recentre(draws, params.inflation))
        before = setup.observed(background, observations)
        ensemble = enkf.enkf(analysis_key, grid, background, before, observations, params)
        after = setup.observed(ensemble, observations)
        held = jnp.repeat(ensemble[:, None], FRAMES_PER_CYCLE, axis=1)
        out = window(held, background.mean(0), before, after, no_speeds(held.dtype))
        return EnsembleState(spectral(grid, ensemble.mean(0)[None]), state.time + 1), out

    return Assimilator(init, step, members)
