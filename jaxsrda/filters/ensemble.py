"""Ensemble filters: forecast, analysis, inflation."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.core.checks import check_choice
from jaxsrda.cycling.assimilator import Assimilator, Setup, Window
from jaxsrda.filters.analysis import ANALYSES
from jaxsrda.filters.config import FilterParams
from jaxsrda.filters.inflation import adapted, inflate, relax_perturbations, relax_spread
from jaxsrda.flow.forecasts import ForecastModel, recentre, to_fields
from jaxsrda.observing.observations import Observations


class EnsembleState(NamedTuple):
    """Amplitudes of the forecast members, the number of steps done, and the inflation of a filter that has one."""

    omega_hat: Array  # (M, 2K+1, L) on the model's grid
    time: Array  # () int32
    inflation: Array = None  # type: ignore[assignment]  # (); None for methods that inflate nothing


def ensemble_filter(
    setup: Setup, model: ForecastModel, analysis: str, members: int, params: FilterParams
) -> Assimilator:
    """A filter whose members forecast by a model and are analysed on the analysis grid.

    Members of a coarser model go up for the analysis and come back after it (EnKF-SR; Barthélémy et al. 2022,
    doi:10.1007/s10236-022-01523-x).  After each analysis: relaxation to the prior, then climatological anomalies,
    re-centred.  ValueError for an unknown analysis, and for EnSF with sensors that do not measure vorticity.
    """
    analyse = ANALYSES[check_choice("analysis", analysis, ANALYSES)]
    assimilated = [each for each in setup.sensors if each.role == "assimilated"]
    if analysis == "ensf" and not all(each.measures_vorticity for each in assimilated):
        raise ValueError("ensf: its likelihood acts on vorticity, expected a vorticity operator; use an enkf or letkf")
    grid, dtype = setup.grid, params.additive.dtype

    def init(key: Array) -> EnsembleState:
        first_key, noise_key = jax.random.split(key)
        states = setup.first_states(model, first_key, members, dtype, (noise_key, params.initial))
        return EnsembleState(states, jnp.int32(setup.first), params.inflation)

    def step(key: Array, state: EnsembleState, observations: Observations) -> tuple[EnsembleState, Window]:
        observations = setup.assimilated(observations)
        analysis_key, noise_key = jax.random.split(key)
        background = inflate(model.to_analysis_grid(state.omega_hat), state.inflation)
        before = setup.observed(background, observations)
        inflation = adapted(state.inflation, before, observations, params)
        # The window's background is the one before, which knows nothing of the observations of its time.
        wide = inflate(background, inflation / state.inflation)
        ensemble = analyse(analysis_key, grid, wide, setup.observed(wide, observations), observations, params)
        ensemble = relax_spread(ensemble, wide, params.rtps)
        ensemble = relax_perturbations(ensemble, wide, params.rtpp)
        noise = setup.climatology.draw(noise_key, state.time, members, grid)
        ensemble = ensemble + to_fields(grid, recentre(noise, params.additive))
        ahead = model.forecast(model.from_analysis_grid(ensemble))
        later = model.to_analysis_grid(ahead.frames[:, 1:])
        frames = jnp.concatenate([ensemble[:, None], later], axis=1)
        window = setup.window(observations, frames, background.mean(0), before, ahead.speeds)
        return EnsembleState(ahead.ahead, state.time + 1, inflation), window

    return Assimilator(init, step, members)
