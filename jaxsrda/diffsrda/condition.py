"""What the diffusion model is told: a first guess with its spread, and what the sensors say against it.

Linear theory is given to the network instead of being left to be learned: departures (observation minus analysis)
arrive kriged onto the grid with the error variance of that interpolation, for any number of sensors anywhere, so one
network serves every layout, and a time without sensors is a map of zeros with variance one.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxsrda.core.linalg import cholesky, matmul, solve
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.observing.geometry import distance, grid_positions
from jaxsrda.observing.observations import Observations

FRAMES = 5
"""Frames of the target, t … t + 4: the window, and the state that the next window starts from."""

PAST = 2
"""Earlier assimilation times that the network is told of."""

CHANNELS = FRAMES + 1 + 2 + 1 + 1 + 2 + 3 * PAST + 1 + 1
"""Channels of a condition (see `channels`)."""

AHEAD = CHANNELS - 2
"""The channel of the model's own earlier forecast, which windows of a prior alone lack."""

KRIGING_LENGTH = 0.3
KRIGING_STD = 0.5
FIELD_SCALE = 3.0
DEPARTURE_SCALE = 0.5

NORMALIZATION = {
    "past": PAST,
    "kriging_length": KRIGING_LENGTH,
    "kriging_std": KRIGING_STD,
    "field_scale": FIELD_SCALE,
    "departure_scale": DEPARTURE_SCALE,
}
"""What the numbers in a condition depend on; weights are for these alone."""


class Guess(NamedTuple):
    """A prior's ensemble after it has seen the observations of time t.

    frames: its mean at t … t + 4, (5, nx, ny); spread: its standard deviation at t and t + 4, (2, nx, ny);
    background: its mean at t before the observations, (nx, ny).
    """

    frames: Array
    spread: Array
    background: Array


class Snapshot(NamedTuple):
    """A guess and the sensors' departures from it.

    departure, uncertainty: kriged y − H(frames[0]) and its error variance as a fraction of the prior one, (nx, ny);
    sensors: departures at the grid points nearest to the sensors, and where these are, (2, nx, ny).
    """

    guess: Guess
    departure: Array
    uncertainty: Array
    sensors: Array


class Memory(NamedTuple):
    """What earlier times left behind.

    analyses, kriged departures, uncertainties: of the last times, newest first, (PAST, nx, ny) each; ahead: the model's
    own forecast, made one time ago, of now, (nx, ny); known: one if there is such a forecast, else zero, ().
    """

    analyses: Array
    departures: Array
    uncertainties: Array
    ahead: Array
    known: Array


def no_memory(grid: ChannelGrid, dtype) -> Memory:
    """The memory before the first time: nothing known."""
    zeros = jnp.zeros((PAST, *grid.shape), dtype)
    return Memory(zeros, zeros, jnp.ones_like(zeros), zeros[0], jnp.zeros((), zeros.dtype))


def remember(memory: Memory, snapshot: Snapshot, analysis: Array, ahead: Array | None = None) -> Memory:
    """The memory one time later.

    analysis: the best estimate (nx, ny) of the snapshot's own time; ahead: the model's forecast of the next time.
    """

    def push(new: Array, old: Array) -> Array:
        return jnp.concatenate([new[None], old[:-1]])

    return Memory(
        push(analysis, memory.analyses),
        push(snapshot.departure, memory.departures),
        push(snapshot.uncertainty, memory.uncertainties),
        jnp.zeros_like(memory.ahead) if ahead is None else ahead,
        jnp.full_like(memory.known, ahead is not None),
    )


def krige(grid: ChannelGrid, departures: Array, observations: Observations) -> tuple[Array, Array]:
    """Simple kriging of departures (p,): the estimate (nx, ny) and its error variance relative to the prior's.

    ẑ = c(C + R)⁻¹ d and 1 − c(C + R)⁻¹cᵀ for the covariance s² exp(−r/ℓ), ℓ = 0.3, s = 0.5 (about what
    LR forecasts are wrong by), with R the sensors' own variance (and 1e-4 s², for
    sensors at one place).  Masked sensors count for nothing.
    Chilès & Delfiner (2012, doi:10.1002/9781118136188, section 3.3).
    """
    mask, at = observations.mask, observations.positions
    here = grid_positions(grid, departures.dtype)
    seen = mask.astype(departures.dtype)
    between = jnp.exp(-distance(at, at) / KRIGING_LENGTH) * seen[:, None] * seen
    to_grid = jnp.exp(-distance(here, at) / KRIGING_LENGTH) * seen
    noise = jnp.where(mask, observations.variance / KRIGING_STD**2, 1) + 1e-4
    lower = cholesky(between + jnp.diag(noise))
    explained = solve(lower, to_grid.T)  # L⁻¹cᵀ: its squares are what sensors explain
    whitened = solve(lower, jnp.where(mask, departures, 0)[:, None])
    variance = jnp.clip(1 - jnp.sum(explained * explained, axis=0), 0, 1)
    return matmul(whitened.T, explained).reshape(grid.shape), variance.reshape(grid.shape)


def at_sensors(grid: ChannelGrid, departures: Array, observations: Observations) -> Array:
    """Departures averaged at the grid points nearest to the sensors, and one there, zero elsewhere: (2, nx, ny)."""
    dx, dy = grid.spacing
    i = jnp.rint(observations.positions[:, 0] / dx).astype(jnp.int32) % grid.nx
    j = jnp.rint(observations.positions[:, 1] / dy).astype(jnp.int32)
    seen = observations.mask.astype(departures.dtype)
    zeros = jnp.zeros(grid.shape, departures.dtype)
    count = zeros.at[i, j].add(seen)
    total = zeros.at[i, j].add(jnp.where(observations.mask, departures, 0))
    return jnp.stack([total / jnp.maximum(count, 1), jnp.minimum(count, 1)])


def snapshot(grid: ChannelGrid, guess: Guess, predicted: Array, observations: Observations) -> Snapshot:
    """The snapshot of a guess whose first frame gives `predicted` (p,) at the sensors."""
    departures = jnp.where(observations.mask, observations.values - predicted, 0)
    departure, uncertainty = krige(grid, departures, observations)
    return Snapshot(guess, departure, uncertainty, at_sensors(grid, departures, observations))


def channels(grid: ChannelGrid, now: Snapshot, memory: Memory) -> Array:
    """The condition (nx, ny, CHANNELS) of a snapshot and what came before, scaled to numbers of order one.

    Guess frames (5), background − analysis, spread (2), departure, uncertainty, sensors (2), earlier analyses,
    departures and uncertainties, the model's own earlier forecast − analysis, and cos y, which tells the walls apart.
    """
    guess, dtype = now.guess, now.departure.dtype
    cosine = jnp.broadcast_to(jnp.cos(jnp.asarray(grid.y, dtype)), grid.shape)
    stacked = [
        guess.frames / FIELD_SCALE,
        (guess.background - guess.frames[0])[None] / DEPARTURE_SCALE,
        guess.spread / DEPARTURE_SCALE,
        now.departure[None] / DEPARTURE_SCALE,
        now.uncertainty[None],
        now.sensors[:1] / DEPARTURE_SCALE,
        now.sensors[1:],
        memory.analyses / FIELD_SCALE,
        memory.departures / DEPARTURE_SCALE,
        memory.uncertainties,
        (memory.known * (memory.ahead - guess.frames[0]))[None] / DEPARTURE_SCALE,
        cosine[None],
    ]
    return jnp.moveaxis(jnp.concatenate(stacked), 0, -1)


SIGNS = (
    *(-1.0,) * FRAMES,
    -1.0,
    *(1.0,) * 2,
    -1.0,
    1.0,
    -1.0,
    1.0,
    *(-1.0,) * (2 * PAST),
    *(1.0,) * PAST,
    -1.0,
    -1.0,
)
"""How each channel answers to the reflection y → π − y: −1 changes sign as vorticity, +1 does not."""


def mirror(condition: Array) -> Array:
    """The condition (…, nx, ny, CHANNELS) of the mirrored flow −ω(x, π − y), a symmetry of the testbed."""
    return jnp.asarray(SIGNS, condition.dtype) * condition[..., ::-1, :]
