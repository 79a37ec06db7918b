"""What the diffusion model is conditioned on: a first guess with its spread, and the sensors' departures from it.

Linear theory is given to the network instead of being left to be learned: departures (observation minus analysis)
arrive kriged onto the grid with the error variance of that interpolation, for any number of sensors anywhere, so one
network serves every layout, and a time without sensors is a map of zeros with variance one.

That is preset `full`; `paper` is three forecast frames and two observed maps (Ayapilla et al. 2026, arXiv:2604.21180).
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxsrda.core.checks import check_choice, check_positive
from jaxsrda.core.linalg import cholesky, matmul, solve, trailing
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.testbed import Testbed
from jaxsrda.observing.geometry import chord, distance, grid_positions
from jaxsrda.observing.observations import Observations

CONDITIONINGS = ("full", "paper")
"""Presets of a condition (`channels`)."""

FILL_LENGTH = 0.5
"""Correlation length of `fill`, about the distance between sensors of the paper's lattices (0.2 to 0.6)."""


@dataclasses.dataclass(frozen=True)
class Conditioning:
    """What a model's condition holds and in which units; it belongs to the weights and is stored with them.

    frames: of the target, from one assimilation time to the next, both counted; past: earlier assimilation times;
    kriging_length, kriging_std: ℓ and s of `krige`, about what cheap forecasts are wrong by; field_scale,
    departure_scale: what vorticity and departures are divided by; preset: of `CONDITIONINGS`, which channels there are.
    """

    frames: int = 5
    past: int = 2
    kriging_length: float = 0.3
    kriging_std: float = 0.5
    field_scale: float = 3.0
    departure_scale: float = 0.5
    preset: str = dataclasses.field(default="full", metadata={"later": True})

    def __post_init__(self):
        check_choice("conditioning", self.preset, CONDITIONINGS)
        if self.frames < 2 or self.past < 1:
            raise ValueError(f"conditioning: expected 2 frames and 1 earlier time or more, got {self}")
        if self.preset == "paper" and self.past != 1:
            raise ValueError(
                f"past: conditioning paper holds one earlier time, expected 1, got {self.past}; take "
                "Conditioning.of(testbed, 'paper')"
            )
        for name in ("kriging_length", "kriging_std", "field_scale", "departure_scale"):
            check_positive(name, getattr(self, name))

    @classmethod
    def of(cls, testbed: Testbed, preset: str = "full") -> Conditioning:
        """The conditioning for a testbed's cadence and scales; preset `paper` scales fields by half of their range."""
        paper, (low, high) = preset == "paper", testbed.vorticity_range
        return cls(
            frames=testbed.window,
            past=1 if paper else 2,
            kriging_length=testbed.error_length,
            kriging_std=testbed.error_scale,
            field_scale=(high - low) / 2 if paper else testbed.field_scale,
            departure_scale=testbed.error_scale,
            preset=preset,
        )

    @property
    def signs(self) -> tuple[float, ...]:
        """How each channel answers to the reflection y → π − y: −1 changes sign as vorticity, +1 does not."""
        odd, even, past = (-1.0,), (1.0,), self.past
        if self.preset == "paper":
            return odd * 5
        sensors = odd + even
        return (
            *(odd * self.frames + odd + even * 2 + odd + even + sensors),
            *(odd * 2 * past + even * past + odd + odd),
        )

    @property
    def channels(self) -> int:
        """Channels of a condition (see `channels`)."""
        return len(self.signs)

    @property
    def first(self) -> int:
        """The channel of the guess's first frame."""
        return 1 if self.preset == "paper" else 0

    @property
    def ahead(self) -> int | None:
        """The channel of the model's own earlier forecast: zero in windows that were made without a model.

        None where there is no such channel.
        """
        return None if self.preset == "paper" else self.channels - 2


class Guess(NamedTuple):
    """A prior's ensemble after the observations of time t, for the window until the next time.

    frames: its mean (frames, nx, ny); spread: its standard deviation at both ends, (2, nx, ny);
    background: its mean at t before the observations, (nx, ny).
    """

    frames: Array
    spread: Array
    background: Array


class Snapshot(NamedTuple):
    """A guess and the sensors' departures from it.

    departure, uncertainty: kriged y − H(frames[0]) and its error variance as a fraction of the prior one, (nx, ny);
    sensors: departures at the grid points nearest to the sensors, and where these are, (2, nx, ny).
    With preset `paper` departures are from zero: `departure` is the map of the observations themselves (`fill`), and
    `uncertainty` is zero.
    """

    guess: Guess
    departure: Array
    uncertainty: Array
    sensors: Array


class Memory(NamedTuple):
    """What earlier times left behind.

    analyses, kriged departures, uncertainties: of the last times, newest first, (past, nx, ny) each; ahead: the model's
    own forecast, made one time ago, of now, (nx, ny); known: one if there is such a forecast, else zero, ().
    """

    analyses: Array
    departures: Array
    uncertainties: Array
    ahead: Array
    known: Array


def no_memory(grid: ChannelGrid, dtype: Any, past: int = 2) -> Memory:
    """The memory before the first time: nothing known of `past` earlier ones."""
    zeros = jnp.zeros((past, *grid.shape), dtype)
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


def krige(grid: ChannelGrid, departures: Array, observations: Observations, units: Conditioning) -> tuple[Array, Array]:
    """Simple kriging of departures (p,): the estimate (nx, ny) and its error variance relative to the prior's.

    ẑ = c(C + R)⁻¹ d and 1 − c(C + R)⁻¹cᵀ for the covariance s² exp(−r/ℓ), with ℓ and s of the conditioning and R the
    sensors' own variance (and 1e-4 s², for sensors at one place).  Masked sensors count for nothing.
    Chilès & Delfiner (2012, doi:10.1002/9781118136188, section 3.3).
    """
    mask, at = observations.mask, observations.positions
    here = grid_positions(grid, departures.dtype)
    seen = mask.astype(departures.dtype)
    between = jnp.exp(-distance(at, at) / units.kriging_length) * seen[:, None] * seen[None]
    to_grid = jnp.exp(-distance(here, at) / units.kriging_length) * seen[None]
    noise = jnp.where(mask, observations.variance / units.kriging_std**2, 1) + 1e-4
    lower = cholesky(between + jnp.diag(noise))
    explained = solve(lower, to_grid.T)  # L⁻¹cᵀ: its squares are what sensors explain
    whitened = solve(lower, jnp.where(mask, departures, 0)[:, None])
    variance = jnp.clip(1 - jnp.sum(explained * explained, axis=0), 0, 1)
    return matmul(whitened.T, explained).reshape(grid.shape), variance.reshape(grid.shape)


def fill(grid: ChannelGrid, values: Array, observations: Observations) -> Array:
    """A smooth map (nx, ny) of values (p,) at the sensors, which it passes through; zeros where there is no sensor.

    k(K + 1e-4)⁻¹ y with the Matérn covariance (1 + √3 r/ℓ) exp(−√3 r/ℓ), r along chords and ℓ = `FILL_LENGTH`, which is
    near the cubic r³ between sensors closer than ℓ and falls to zero far from all.  Masked sensors count for nothing.
    Noise is not filtered: 1e-4, for sensors at one place, moves the map at those of lattice:4 by a thousandth.
    Stein (1999, doi:10.1007/978-1-4612-1494-6, section 2.7).
    """
    mask, at = observations.mask, observations.positions
    seen = mask.astype(values.dtype)

    def covariance(a: Array) -> Array:
        r = 3**0.5 / FILL_LENGTH * chord(a, at)
        return (1 + r) * jnp.exp(-r) * seen[None]

    lower = cholesky(covariance(at) * seen[:, None] + jnp.diag(1e-4 + (1 - seen)))
    weights = solve(lower, solve(lower, jnp.where(mask, values, 0)[:, None]), transposed=True)
    return matmul(covariance(grid_positions(grid, values.dtype)), weights).reshape(grid.shape)


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


def snapshot(
    grid: ChannelGrid, guess: Guess, predicted: Array, observations: Observations, units: Conditioning
) -> Snapshot:
    """The snapshot of a guess whose first frame gives `predicted` (p,) at the sensors."""
    if units.preset == "paper":
        values = jnp.where(observations.mask, observations.values, 0)
        filled = fill(grid, values, observations)
        return Snapshot(guess, filled, jnp.zeros_like(filled), at_sensors(grid, values, observations))
    departures = jnp.where(observations.mask, observations.values - predicted, 0)
    departure, uncertainty = krige(grid, departures, observations, units)
    return Snapshot(guess, departure, uncertainty, at_sensors(grid, departures, observations))


def channels(grid: ChannelGrid, now: Snapshot, memory: Memory, units: Conditioning) -> Array:
    """The condition (nx, ny, channels) of a snapshot and what came before, scaled to numbers of order one.

    Guess frames, background − analysis, spread (2), departure, uncertainty, sensors (2), earlier analyses,
    departures and uncertainties, the model's own earlier forecast − analysis, and cos y, which tells the walls apart.
    Of preset `paper` see `paper_channels`.
    """
    if units.preset == "paper":
        return paper_channels(now, memory, units)
    guess, dtype = now.guess, now.departure.dtype
    cosine = jnp.broadcast_to(jnp.cos(jnp.asarray(grid.y, dtype)), grid.shape)
    stacked = [
        guess.frames / units.field_scale,
        (guess.background - guess.frames[0])[None] / units.departure_scale,
        guess.spread / units.departure_scale,
        now.departure[None] / units.departure_scale,
        now.uncertainty[None],
        now.sensors[:1] / units.departure_scale,
        now.sensors[1:],
        memory.analyses / units.field_scale,
        memory.departures / units.departure_scale,
        memory.uncertainties,
        (memory.known * (memory.ahead - guess.frames[0]))[None] / units.departure_scale,
        cosine[None],
    ]
    return jnp.moveaxis(jnp.concatenate(stacked), 0, -1)


def paper_channels(now: Snapshot, memory: Memory, units: Conditioning) -> Array:
    """The condition (nx, ny, 5) of arXiv:2604.21180 for a window from t to t′, one assimilation time later.

    The forecast's frames one assimilation time before t (what it started from, `Prior.began`), at t and at t′, then the
    observations at that earlier time and at t, filled in between the sensors; all divided by `field_scale`.

    What differs from the paper: coarse frames come to the grid by their spectrum, not bicubically, and observations by
    `fill`, not bicubically on lattices and linearly elsewhere; both walls stay in (`networks.paper_unet` leaves one
    out); what is drawn is truth − forecast, not the truth, which tells the same because the forecast is given.  Before
    the first time, of which the paper does not speak, the flow is taken to have stood still.
    """
    first = now.guess.frames[:1]
    # No snapshot leaves an uncertainty but `no_memory`, whose is one.
    alone = memory.uncertainties > 0
    start, earlier = jnp.where(alone, first, memory.analyses), jnp.where(alone, now.departure[None], memory.departures)
    stacked = jnp.concatenate([start, first, now.guess.frames[-1:], earlier, now.departure[None]])
    return jnp.moveaxis(stacked, 0, -1) / units.field_scale


def mirror(condition: Array, units: Conditioning) -> Array:
    """The condition (…, nx, ny, channels) of the mirrored flow −ω(x, π − y), a symmetry of the testbed."""
    return trailing(jnp.asarray(units.signs, condition.dtype), condition) * condition[..., ::-1, :]
