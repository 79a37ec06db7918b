"""Forecast models: what a filter forecasts with, and the way between its states and the analysis grid."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxsrda.core.checks import check_choice
from jaxsrda.flow.grid import REGRIDDING, ChannelGrid, regrid, regrid_hat, to_physical, to_spectral
from jaxsrda.flow.simulate import integrate
from jaxsrda.flow.solver import Speeds
from jaxsrda.flow.testbed import Level, Testbed


class Forecast(NamedTuple):
    """Forecasts of M members: states at the frames of a cycle and at the next assimilation time, and top speeds."""

    frames: Array  # (M, F, 2K+1, L)
    ahead: Array  # (M, 2K+1, L)
    speeds: Speeds  # (F + 1,) each, largest over the members


class ForecastModel(NamedTuple):
    """What a method forecasts with; states are amplitudes [2K+1, L] on `grid`, members and other axes lead.

    initial(key, members, dtype) → states (M, 2K+1, L) that do not know the truth;
    forecast(states) → `Forecast`;
    to_analysis_grid(states) → fields (…, nx, ny);
    from_analysis_grid(fields) → states, linear as the way up is.
    """

    grid: ChannelGrid
    initial: Callable[[Array, int, DTypeLike], Array]
    forecast: Callable[[Array], Forecast]
    to_analysis_grid: Callable[[Array], Array]
    from_analysis_grid: Callable[[Array], Array]


def spectral(testbed: Testbed, level: Level, upsampling: str = "spectral") -> ForecastModel:
    """The pseudo-spectral model at a level of a testbed.

    upsampling: how fields of a coarser level come to the analysis grid, `spectral` (zero padding, exact) or `bicubic`
    (the paper's, arXiv:2604.21180); they go back by spectral truncation.
    """
    check_choice("upsampling", upsampling, REGRIDDING)
    grid, own = testbed.grid, level.grid

    def initial(key: Array, members: int, dtype: DTypeLike = float) -> Array:
        # A map, not a vmap: random numbers from a batch of keys take XLA seconds to compile on CPU.
        return jax.lax.map(lambda key: testbed.start(key, own, dtype), jax.random.split(key, members))

    def forecast(omega_hat: Array) -> Forecast:
        params = testbed.flow_params(level, omega_hat.dtype)
        run = jax.vmap(lambda state: integrate(testbed, level, state, testbed.window, params))(omega_hat)
        top = jax.tree.map(lambda values: values.max(0), run.speeds)
        return Forecast(run.omega_hat[:, :-1], run.omega_hat[:, -1], top)

    def to_analysis_grid(omega_hat: Array) -> Array:
        fields = to_fields(own, omega_hat)
        return fields if own == grid else over_leading(lambda f: regrid(own, grid, f, upsampling), fields)

    def from_analysis_grid(omega: Array) -> Array:
        return over_leading(lambda f: regrid_hat(grid, own, to_spectral(grid, f)), omega)

    return ForecastModel(own, initial, forecast, to_analysis_grid, from_analysis_grid)


def still(testbed: Testbed) -> ForecastModel:
    """Persistence as a model: states on the analysis grid that stay as they are."""

    def forecast(omega_hat: Array) -> Forecast:
        zeros = jnp.zeros(testbed.window, omega_hat.dtype)
        frames = jnp.repeat(omega_hat[:, None], testbed.frames_per_cycle, axis=1)
        return Forecast(frames, omega_hat, Speeds(zeros, zeros))

    return spectral(testbed, testbed.analysis)._replace(forecast=forecast)


def to_fields(grid: ChannelGrid, omega_hat: Array) -> Array:
    """Fields of amplitudes with any leading axes."""
    return over_leading(functools.partial(to_physical, grid), omega_hat)


def to_amplitudes(grid: ChannelGrid, omega: Array) -> Array:
    """Amplitudes of fields with any leading axes."""
    return over_leading(functools.partial(to_spectral, grid), omega)


def over_leading(function: Callable[[Array], Array], array: Array) -> Array:
    """A function of the last two axes, mapped over all axes before them."""
    flat = jax.vmap(function)(array.reshape(-1, *array.shape[-2:]))
    return flat.reshape(*array.shape[:-2], *flat.shape[-2:])


def recentre(draws: Array, amplitude: Array | float) -> Array:
    """Draws (M, …) with their mean over the members removed, times an amplitude."""
    return amplitude * (draws - draws.mean(0, keepdims=True))
