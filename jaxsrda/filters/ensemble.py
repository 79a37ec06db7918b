"""Ensemble filters: forecast, analysis, inflation."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.core.checks import check_choice
from jaxsrda.cycling.assimilator import Assimilator, Setup, Window, window
from jaxsrda.filters import analysis as analysis_module
from jaxsrda.filters import inflation
from jaxsrda.filters.config import FilterParams
from jaxsrda.flow.forecasts import _over_leading, first_states, forecast, physical, recentre
from jaxsrda.flow.grid import regrid, regrid_hat, to_spectral
from jaxsrda.flow.testbed import Level, level_grid
from jaxsrda.observing.observations import Observations
from jaxsrda.observing.operators import vorticity, vorticity_spectral


class EnsembleState(NamedTuple):
    """Amplitudes of the forecast members, and the number of steps done."""

    omega_hat: Array  # (M, 2K+1, L) at the members' level
    time: Array  # () int32


# Filters --------------------------------------------------------------------------------------


def ensemble_filter(
    setup: Setup, analysis: str, level: Level, members: int, params: FilterParams, upsampling: str = "spectral"
) -> Assimilator:
    """A filter whose members live at `level` and are analysed on the HR grid.

    LR members go up to HR for the analysis and come back by spectral truncation (EnKF-SR; Barthélémy et al. 2022,
    doi:10.1007/s10236-022-01523-x); upsampling: `spectral` (zero padding, exact) or `bicubic` (the paper's,
    arXiv:2604.21180).  After each analysis: relaxation to the prior, then climatological anomalies, re-centred.
    """
    analyse = analysis_module.ANALYSES[check_choice("analysis", analysis, analysis_module.ANALYSES)]
    if analysis == "ensf" and {setup.operator, setup.guide_operator} - {vorticity, vorticity_spectral, None}:
        raise ValueError("ensf: its likelihood acts on vorticity, expected a vorticity operator; use an enkf or letkf")
    grid, own, dtype = setup.grid, level_grid(level), params.additive.dtype

    def up(omega_hat: Array) -> Array:
        fields = physical(own, omega_hat)
        return fields if own == grid else _over_leading(lambda f: regrid(own, grid, f, upsampling), fields)

    def init(key: Array) -> EnsembleState:
        first_key, noise_key = jax.random.split(key)
        start = first_states(first_key, level, members, dtype)
        noise = setup.climatology.draw(noise_key, 0, members, own)
        return EnsembleState(start + recentre(noise, params.initial), jnp.int32(0))

    def step(key: Array, state: EnsembleState, observations: Observations) -> tuple[EnsembleState, Window]:
        analysis_key, noise_key = jax.random.split(key)
        background = inflation.inflate(up(state.omega_hat), params.inflation)
        before = setup.observed(background, observations)
        ensemble = analyse(analysis_key, grid, background, before, observations, params)
        ensemble = inflation.relax_spread(ensemble, background, params.rtps)
        ensemble = inflation.relax_perturbations(ensemble, background, params.rtpp)
        noise = setup.climatology.draw(noise_key, state.time, members, grid)
        ensemble = ensemble + physical(grid, recentre(noise, params.additive))
        after = setup.observed(ensemble, observations)
        omega_hat = jax.vmap(lambda f: regrid_hat(grid, own, to_spectral(grid, f)))(ensemble)
        frames, ahead, speeds = forecast(level, omega_hat)
        frames = jnp.concatenate([ensemble[:, None], up(frames[:, 1:])], axis=1)
        out = window(frames, background.mean(0), before, after, speeds)
        return EnsembleState(ahead, state.time + 1), out

    return Assimilator(init, step, members)
