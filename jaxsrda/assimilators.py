"""Assimilators: what a cycle does with the observations of one time, method by method.

An `Assimilator` is a pair of pure functions.  `init(key)` makes the state: the forecast valid at the
first assimilation time.  `step(key, state, observations)` analyses it, returns the HR ensemble frames
t … t + 3 with diagnostics (`Window`), and leaves in the state the forecast valid at t + 4.  Methods
differ only inside, so one `jax.lax.scan` runs them all (`cycle.run_cycles`).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxsrda import enkf
from jaxsrda.core.checks import check_choice
from jaxsrda.cycling.assimilator import Assimilator, Setup, Window, no_speeds, window
from jaxsrda.enkf import FilterParams
from jaxsrda.flow.forecasts import _over_leading, first_states, forecast, physical, recentre, spectral
from jaxsrda.flow.grid import regrid, regrid_hat, to_spectral
from jaxsrda.flow.testbed import FRAMES_PER_CYCLE, Level, level_grid
from jaxsrda.observing import geometry
from jaxsrda.observing.observations import Observations
from jaxsrda.observing.operators import vorticity, vorticity_spectral


class EnsembleState(NamedTuple):
    """Amplitudes of the forecast members, and the number of steps done."""

    omega_hat: Array  # (M, 2K+1, L) at the members' level
    time: Array  # () int32


class DualState(NamedTuple):
    """HR controls, LR members, and the number of steps done."""

    control_hat: Array  # (controls, 2K+1, L) at HR
    members_hat: Array  # (M, 2K+1, L) at LR
    time: Array


# Filters --------------------------------------------------------------------------------------


def ensemble_filter(
    setup: Setup, analysis: str, level: Level, members: int, params: FilterParams, upsampling: str = "spectral"
) -> Assimilator:
    """A filter whose members live at `level` and are analysed on the HR grid.

    LR members go up to HR for the analysis and come back by spectral truncation (EnKF-SR; Barthélémy et al. 2022,
    doi:10.1007/s10236-022-01523-x); upsampling: `spectral` (zero padding, exact) or `bicubic` (the paper's,
    arXiv:2604.21180).  After each analysis: relaxation to the prior, then climatological anomalies, re-centred.
    """
    analyse = enkf.ANALYSES[check_choice("analysis", analysis, enkf.ANALYSES)]
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
        background = enkf.inflate(up(state.omega_hat), params.inflation)
        before = setup.observed(background, observations)
        ensemble = analyse(analysis_key, grid, background, before, observations, params)
        ensemble = enkf.relax_spread(ensemble, background, params.rtps)
        ensemble = enkf.relax_perturbations(ensemble, background, params.rtpp)
        noise = setup.climatology.draw(noise_key, state.time, members, grid)
        ensemble = ensemble + physical(grid, recentre(noise, params.additive))
        after = setup.observed(ensemble, observations)
        omega_hat = jax.vmap(lambda f: regrid_hat(grid, own, to_spectral(grid, f)))(ensemble)
        frames, ahead, speeds = forecast(level, omega_hat)
        frames = jnp.concatenate([ensemble[:, None], up(frames[:, 1:])], axis=1)
        out = window(frames, background.mean(0), before, after, speeds)
        return EnsembleState(ahead, state.time + 1), out

    return Assimilator(init, step, members)


def dual_filter(setup: Setup, members: int, params: FilterParams, controls: int = 1) -> Assimilator:
    """Dual-resolution EnKF: few HR controls, covariances from LR members.

    P = δδᵀ/(M−1) from the LR members' perturbations δ brought to HR (zero padding), localized;
    x_c ← x_c + K(y − H x_c), δ by the perturbed-observation filter; the LR members restart from the
    low-passed control plus their analysed perturbations.  The window's ensemble is control + δ, member
    i around control i mod `controls`.  Gao & Xue (2008, doi:10.1175/2007MWR2021.1).
    """
    grid, coarse, dtype = setup.grid, level_grid(setup.coarse), params.additive.dtype
    if not 1 <= controls <= members:
        raise ValueError(f"controls: expected 1 to {members} (the members), got {controls}")
    owner = jnp.arange(members) % controls

    def centred(members_hat: Array) -> Array:
        return jax.vmap(lambda a: regrid_hat(coarse, grid, a))(members_hat - members_hat.mean(0))

    def init(key: Array) -> DualState:
        control_key, member_key, noise_key = jax.random.split(key, 3)
        control = first_states(control_key, setup.fine, controls, dtype)
        start = first_states(member_key, setup.coarse, members, dtype)
        noise = setup.climatology.draw(noise_key, 0, members, coarse)
        return DualState(control, start + recentre(noise, params.initial), jnp.int32(0))

    def step(key: Array, state: DualState, observations: Observations) -> tuple[DualState, Window]:
        analysis_key, control_key, noise_key = jax.random.split(key, 3)
        perturbed = params.inflation * physical(grid, centred(state.members_hat))
        control = physical(grid, state.control_hat)
        background = control.mean(0)
        before = setup.observed(background + perturbed, observations)
        seen = enkf.departures(before, observations, params)

        # Controls and members are one batch of innovations for one gain: each control against its own
        # perturbed observations (none if it is the only one), each member against perturbed anomalies.
        wanted = observations.values - setup.observed(control, observations)
        if controls > 1:
            wanted = wanted + enkf.perturbations(control_key, controls, seen)
        innovations = jnp.concatenate([wanted, enkf.perturbations(analysis_key, members, seen) - seen.anomalies])
        increments = enkf.gain_increments(
            perturbed.reshape(members, -1),
            seen,
            jnp.where(observations.mask, innovations, 0).T,
            enkf.localization(geometry.grid_positions(grid, dtype), observations.positions, params.localization),
            enkf.localization(observations.positions, observations.positions, params.localization),
        ).T.reshape(-1, *grid.shape)
        control = control + increments[:controls]
        delta = perturbed + increments[controls:]
        delta = enkf.relax_spread(delta, perturbed, params.rtps)
        delta = enkf.relax_perturbations(delta, perturbed, params.rtpp)
        noise = setup.climatology.draw(noise_key, state.time, members, grid)
        delta = delta - delta.mean(0) + physical(grid, recentre(noise, params.additive))

        ensemble = control[owner] + delta
        after = setup.observed(ensemble, observations)
        control_hat = spectral(grid, control)
        members_hat = jax.vmap(lambda a: regrid_hat(grid, coarse, a))(control_hat.mean(0) + spectral(grid, delta))
        control_frames, control_ahead, control_speeds = forecast(setup.fine, control_hat)
        member_frames, members_ahead, member_speeds = forecast(setup.coarse, members_hat)
        later = jax.vmap(centred, in_axes=1, out_axes=1)(member_frames[:, 1:])
        frames = physical(grid, control_frames[owner, 1:] + later)
        frames = jnp.concatenate([ensemble[:, None], frames], axis=1)
        # The larger of both, so that a member that is lost (NaN) shows at once.
        top = jax.tree.map(jnp.maximum, control_speeds, member_speeds)
        out = window(frames, background, before, after, top)
        return DualState(control_ahead, members_ahead, state.time + 1), out

    return Assimilator(init, step, members)


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
