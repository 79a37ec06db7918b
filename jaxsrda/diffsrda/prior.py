"""Priors: what gives the first guess that the diffusion model corrects."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.cycling.assimilator import Assimilator, Setup
from jaxsrda.diffsrda.condition import Guess
from jaxsrda.diffsrda.config import PRIOR_FILTERS, DiffSRDAConfig
from jaxsrda.filters.config import FilterParams, filter_params
from jaxsrda.filters.dual import DualState, dual_filter
from jaxsrda.filters.ensemble import EnsembleState, ensemble_filter
from jaxsrda.flow.forecasts import first_states, forecast, physical, spectral
from jaxsrda.flow.grid import regrid_hat
from jaxsrda.flow.solver import Speeds
from jaxsrda.observing.observations import Observations


class Analysed(NamedTuple):
    """A prior's guesses, leading axis G (one for all samples, or one for each), and its diagnostics."""

    guess: Guess
    before: Array  # (M, p)
    speeds: Speeds


class Prior(NamedTuple):
    """init(key) → state;  analyse(key, state, observations) → (state at t + 4, Analysed);
    restart(state at t + 4, fields at t (M, nx, ny), mode) → state at t + 4 forecast from them instead;
    began(fields, mode) → what those forecasts really start from (G, nx, ny), for a prior without an analysis."""

    init: Callable[[Array], Any]
    analyse: Callable[[Array, Any, Observations], tuple[Any, Analysed]]
    restart: Callable[[Any, Array, str], Any]
    guesses: int
    began: Callable[[Array, str], Array] | None = None


def filter_prior(setup: Setup, inner: Assimilator, ahead: Callable[[Any], Array], restart) -> Prior:
    """A filter as prior: one guess, its ensemble's mean; `ahead` gives the HR ensemble (M, nx, ny) of its state."""

    def analyse(key: Array, state: Any, observations: Observations) -> tuple[Any, Analysed]:
        state, out = inner.step(key, state, observations)
        later = ahead(state)
        frames = jnp.concatenate([out.omega.mean(0), later.mean(0)[None]])
        spread = jnp.stack([out.omega[:, 0].std(0, ddof=1), later.std(0, ddof=1)])
        guess = Guess(frames, spread, out.background)
        return state, Analysed(
            jax.tree.map(lambda a: a[None], guess), out.diagnostics.background_observed, out.diagnostics.speeds
        )

    return Prior(inner.init, analyse, restart, 1)


def chosen(fields: Array, members: int, mode: str) -> Array:
    """Fields (members, …) to restart from: each its own (recycled if too few), the first, or the mean."""
    if mode == "each":
        return fields[jnp.arange(members) % len(fields)]
    one = fields[0] if mode == "first" else fields.mean(0)
    return jnp.broadcast_to(one, (members, *one.shape))


def low_passed(setup: Setup, fields: Array) -> Array:
    """Amplitudes (M, 2K+1, L) at the coarse level of HR fields (M, nx, ny)."""
    down = functools.partial(regrid_hat, setup.grid, setup.coarse_grid)
    return jax.vmap(down)(spectral(setup.grid, fields))


def enkf_sr_prior(setup: Setup, members: int, params: FilterParams) -> Prior:
    """EnKF-SR as prior: LR members only."""
    grid, level = setup.grid, setup.coarse
    coarse = setup.coarse_grid
    inner = ensemble_filter(setup, "enkf", level, members, params)

    def ahead(state: EnsembleState) -> Array:
        return physical(grid, jax.vmap(lambda a: regrid_hat(coarse, grid, a))(state.omega_hat))

    def restart(state: EnsembleState, fields: Array, mode: str) -> EnsembleState:
        start = low_passed(setup, chosen(fields, members, mode))
        return state._replace(omega_hat=forecast(level, start)[1])

    return filter_prior(setup, inner, ahead, restart)


def dual_prior(setup: Setup, members: int, params: FilterParams) -> Prior:
    """The dual-resolution EnKF as prior: one HR control, LR members.

    `mean` and `first` restart the control alone and leave the members their own perturbations.
    """
    grid, coarse = setup.grid, setup.coarse_grid
    inner = dual_filter(setup, members, params)

    def ahead(state: DualState) -> Array:
        perturbations = state.members_hat - state.members_hat.mean(0)
        control = state.control_hat.mean(0)
        return physical(grid, control + jax.vmap(lambda a: regrid_hat(coarse, grid, a))(perturbations))

    def restart(state: DualState, fields: Array, mode: str) -> DualState:
        control = spectral(grid, (fields[0] if mode == "first" else fields.mean(0))[None])
        state = state._replace(control_hat=forecast(setup.fine, control)[1])
        if mode != "each":
            return state
        start = low_passed(setup, chosen(fields, members, mode))
        return state._replace(members_hat=forecast(setup.coarse, start)[1])

    return filter_prior(setup, inner, ahead, restart)


def lr_prior(setup: Setup, members: int, dtype: Any = float) -> Prior:
    """Bare LR forecasts, as in the paper: one that conditions all samples, or (members > 1) one for each."""
    grid, coarse, level = setup.grid, setup.coarse_grid, setup.coarse
    up = jax.vmap(functools.partial(regrid_hat, coarse, grid))
    dtype = jnp.zeros((), dtype).dtype

    def init(key: Array) -> EnsembleState:
        return EnsembleState(first_states(key, level, members, dtype), jnp.int32(0))

    def analyse(key: Array, state: EnsembleState, observations: Observations) -> tuple[EnsembleState, Analysed]:
        frames, later, speeds = forecast(level, state.omega_hat)
        frames_hat = jnp.concatenate([frames, later[:, None]], axis=1)
        fields = physical(grid, jax.vmap(up)(frames_hat))
        before = setup.observed(fields[:, 0], observations)
        guess = Guess(fields, jnp.zeros_like(fields[:, :2]), fields[:, 0])
        return EnsembleState(later, state.time + 1), Analysed(guess, before, speeds)

    def restart(state: EnsembleState, fields: Array, mode: str) -> EnsembleState:
        start = low_passed(setup, chosen(fields, members, mode))
        return state._replace(omega_hat=forecast(level, start)[1])

    def began(fields: Array, mode: str) -> Array:
        return physical(grid, up(low_passed(setup, chosen(fields, members, mode))))

    return Prior(init, analyse, restart, members, began)


def make_prior(setup: Setup, config: DiffSRDAConfig, params: FilterParams | None = None) -> Prior:
    """The prior of a configuration, with as many LR members as samples; params: the filter's, by default its preset's.

    `lr` runs one forecast for all samples unless each restarts its own.
    """
    dtype = setup.climatology.mean.dtype
    if config.prior == "lr":
        return lr_prior(setup, config.members if config.restart == "each" else 1, dtype)
    make = {"dual": dual_prior, "enkf-sr": enkf_sr_prior}[config.prior]
    return make(setup, config.members, filter_params(PRIOR_FILTERS[config.prior], dtype) if params is None else params)
