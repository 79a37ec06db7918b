"""The dual-resolution EnKF: few HR controls, covariances from LR members."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.cycling.assimilator import Assimilator, Setup, Window, window
from jaxsrda.filters import analysis, inflation
from jaxsrda.filters.config import FilterParams
from jaxsrda.flow.forecasts import first_states, forecast, physical, recentre, spectral
from jaxsrda.flow.grid import regrid_hat
from jaxsrda.flow.testbed import level_grid
from jaxsrda.observing import geometry
from jaxsrda.observing.observations import Observations


class DualState(NamedTuple):
    """HR controls, LR members, and the number of steps done."""

    control_hat: Array  # (controls, 2K+1, L) at HR
    members_hat: Array  # (M, 2K+1, L) at LR
    time: Array


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
        seen = analysis.departures(before, observations, params)

        # Controls and members are one batch of innovations for one gain: each control against its own
        # perturbed observations (none if it is the only one), each member against perturbed anomalies.
        wanted = observations.values - setup.observed(control, observations)
        if controls > 1:
            wanted = wanted + analysis.perturbations(control_key, controls, seen)
        innovations = jnp.concatenate([wanted, analysis.perturbations(analysis_key, members, seen) - seen.anomalies])
        increments = analysis.gain_increments(
            perturbed.reshape(members, -1),
            seen,
            jnp.where(observations.mask, innovations, 0).T,
            analysis.localization(geometry.grid_positions(grid, dtype), observations.positions, params.localization),
            analysis.localization(observations.positions, observations.positions, params.localization),
        ).T.reshape(-1, *grid.shape)
        control = control + increments[:controls]
        delta = perturbed + increments[controls:]
        delta = inflation.relax_spread(delta, perturbed, params.rtps)
        delta = inflation.relax_perturbations(delta, perturbed, params.rtpp)
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
