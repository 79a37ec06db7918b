"""The dual-resolution EnKF: few fine control forecasts, covariances from many cheap ones."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.cycling.assimilator import Assimilator, Setup, Window
from jaxsrda.filters.analysis import departures, gain_increments, perturbations
from jaxsrda.filters.config import FilterParams
from jaxsrda.filters.inflation import adapted, relax_perturbations, relax_spread
from jaxsrda.flow.forecasts import ForecastModel, recentre, to_fields
from jaxsrda.flow.solver import Speeds
from jaxsrda.observing.geometry import grid_positions
from jaxsrda.observing.observations import Observations


class DualState(NamedTuple):
    """Controls, members, the number of steps done, and the inflation of the members' perturbations."""

    control_hat: Array  # (controls, 2K+1, L) on the control model's grid
    members_hat: Array  # (M, 2K+1, L) on the members' model's grid
    time: Array
    inflation: Array


def dual_filter(
    setup: Setup,
    control_model: ForecastModel,
    member_model: ForecastModel,
    members: int,
    params: FilterParams,
    controls: int = 1,
) -> Assimilator:
    """Dual-resolution EnKF: few control forecasts by one model, covariances from the members of a cheaper one.

    P = δδᵀ/(M−1) from the members' perturbations δ brought to the analysis grid, localized; x_c ← x_c + K(y − H x_c),
    δ by the perturbed-observation filter; the members restart from the low-passed control plus their analysed
    perturbations.  The window's ensemble is control + δ, member i around control i mod `controls`.
    Gao & Xue (2008, doi:10.1175/2007MWR2120.1).
    """
    grid, dtype = setup.grid, params.additive.dtype
    if not 1 <= controls <= members:
        raise ValueError(f"controls: expected 1 to {members} (the members), got {controls}")
    owner = jnp.arange(members) % controls

    def init(key: Array) -> DualState:
        control_key, member_key, noise_key = jax.random.split(key, 3)
        control = setup.first_states(control_model, control_key, controls, dtype)
        states = setup.first_states(member_model, member_key, members, dtype, (noise_key, params.initial))
        return DualState(control, states, jnp.int32(setup.first), params.inflation)

    def analysed(
        keys: Array, control: Array, delta: Array, before: Array, observations: Observations
    ) -> tuple[Array, Array]:
        """Controls (controls, nx, ny) and perturbations δ (M, nx, ny) after the observations.

        Both are one batch of innovations for one gain: each control against its own perturbed observations (none if it
        is the only one), each member against perturbed anomalies.
        """
        sensed = departures(before, observations, params)
        wanted = observations.values[None] - setup.observed(control, observations)
        if controls > 1:
            wanted = wanted + perturbations(keys[1], controls, sensed)
        innovations = jnp.concatenate([wanted, perturbations(keys[0], members, sensed) - sensed.anomalies])
        increments = gain_increments(
            delta.reshape(members, -1),
            sensed,
            jnp.where(observations.mask[None], innovations, 0).T,
            grid_positions(grid, dtype),
            observations.positions,
            params.localization,
        ).T.reshape(-1, *grid.shape)
        return control + increments[:controls], delta + increments[controls:]

    def spread(key: Array, delta: Array, before: Array, time: Array) -> Array:
        """Perturbations relaxed to those before, centred, and with climatological anomalies added."""
        delta = relax_spread(delta, before, params.rtps)
        delta = relax_perturbations(delta, before, params.rtpp)
        noise = setup.climatology.draw(key, time, members, grid)
        return delta - delta.mean(0, keepdims=True) + to_fields(grid, recentre(noise, params.additive))

    def forecast(control: Array, delta: Array, time: Array, inflation: Array) -> tuple[DualState, Array, Speeds]:
        """The state at the next time, the ensemble's frames (M, F − 1, nx, ny) until then, and top speeds."""
        ahead = control_model.forecast(control_model.from_analysis_grid(control))
        member_ahead = member_model.forecast(member_model.from_analysis_grid(control.mean(0, keepdims=True) + delta))
        frames = member_ahead.frames[:, 1:]
        later = member_model.to_analysis_grid(frames - frames.mean(0, keepdims=True))
        frames = control_model.to_analysis_grid(ahead.frames[owner, 1:]) + later
        # The larger of both, so that a member that is lost (NaN) shows at once.
        top = jax.tree.map(jnp.maximum, ahead.speeds, member_ahead.speeds)
        return DualState(ahead.ahead, member_ahead.ahead, time + 1, inflation), frames, top

    def step(key: Array, state: DualState, observations: Observations) -> tuple[DualState, Window]:
        observations = setup.assimilated(observations)
        analysis_key, control_key, noise_key = jax.random.split(key, 3)
        perturbed = state.members_hat - state.members_hat.mean(0, keepdims=True)
        prior = state.inflation * member_model.to_analysis_grid(perturbed)
        control = control_model.to_analysis_grid(state.control_hat)
        background = control.mean(0)
        before = setup.observed(background[None] + prior, observations)
        inflation = adapted(state.inflation, before, observations, params)
        wide = inflation / state.inflation * prior
        seen = setup.observed(background[None] + wide, observations)
        keys = jnp.stack([analysis_key, control_key])
        control, delta = analysed(keys, control, wide, seen, observations)
        delta = spread(noise_key, delta, wide, state.time)
        ahead, later, speeds = forecast(control, delta, state.time, inflation)
        frames = jnp.concatenate([(control[owner] + delta)[:, None], later], axis=1)
        return ahead, setup.window(observations, frames, background, before, speeds)

    return Assimilator(init, step, members)
