"""Forecasts that methods make: members, frames of a window, and the way between grids."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
from jax import Array
from jax.typing import DTypeLike

from jaxsrda.flow.grid import ChannelGrid, to_physical, to_spectral
from jaxsrda.flow.jet import initial_state
from jaxsrda.flow.simulate import integrate
from jaxsrda.flow.solver import Speeds
from jaxsrda.flow.testbed import FRAMES_PER_CYCLE, LEVELS, Level, flow_params, level_grid

HR, LR = LEVELS["hr"], LEVELS["lr"]


# Pieces ---------------------------------------------------------------------------------------


def first_states(key: Array, level: Level, members: int, dtype: DTypeLike) -> Array:
    """The jet with perturbations from other seeds than the truth's: (members, 2K+1, L)."""
    grid = level_grid(level)
    # A map, not a vmap: random numbers from a batch of keys take XLA seconds to compile on CPU.
    return jax.lax.map(lambda key: initial_state(key, grid, dtype=dtype), jax.random.split(key, members))


def forecast(level: Level, omega_hat: Array) -> tuple[Array, Array, Speeds]:
    """Frames t … t + 3 (M, 4, 2K+1, L), the states at t + 4 (M, 2K+1, L), and top speeds (5,)."""
    params = flow_params(level, dtype=omega_hat.dtype)
    run = jax.vmap(lambda state: integrate(level, state, FRAMES_PER_CYCLE + 1, params))(omega_hat)
    top = jax.tree.map(lambda values: values.max(0), run.speeds)
    return run.omega_hat[:, :-1], run.omega_hat[:, -1], top


def physical(grid: ChannelGrid, omega_hat: Array) -> Array:
    """Fields of amplitudes with any leading axes."""
    return _over_leading(functools.partial(to_physical, grid), omega_hat)


def spectral(grid: ChannelGrid, omega: Array) -> Array:
    """Amplitudes of fields with any leading axes."""
    return _over_leading(functools.partial(to_spectral, grid), omega)


def _over_leading(function: Callable, array: Array) -> Array:
    flat = jax.vmap(function)(array.reshape(-1, *array.shape[-2:]))
    return flat.reshape(*array.shape[:-2], *flat.shape[-2:])


def recentre(draws: Array, amplitude: Array) -> Array:
    """Draws (M, …) with their mean over the members removed, times an amplitude."""
    return amplitude * (draws - draws.mean(0))
