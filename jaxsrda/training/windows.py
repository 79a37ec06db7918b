"""Training windows: conditions and the corrections that the model should make, from a prior run over training truths.

The prior runs in the very cycle that it is used in, so the training distribution is the deployed one; with a
model in the loop the windows are those that the model's own cycling visits.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxsrda.core import draws
from jaxsrda.core.checks import check_choice
from jaxsrda.cycling.assimilator import Setup
from jaxsrda.diffsrda.condition import (
    Conditioning,
    Guess,
    Snapshot,
    channels,
    mirror,
    no_memory,
    remember,
    snapshot,
)
from jaxsrda.diffsrda.prior import Prior
from jaxsrda.diffsrda.step import Draw, State, conditioning_of, recorded_step, start
from jaxsrda.flow.testbed import SYMMETRIES
from jaxsrda.observing.layouts import Layout
from jaxsrda.observing.observations import Observations, observe_run

STARTS = ("perturbed", "mixup", "clean")

PERTURBATION = 0.4
"""Largest size of the anomalies that LR forecasts start with, as a fraction of climatology's."""


class Windows(NamedTuple):
    """Windows, any leading axes: condition (…, nx, ny, channels), correction (…, nx, ny, frames) = truth − guess."""

    condition: Array
    correction: Array


def training_observations(key: Array, setup: Setup, layout: Layout, truth: Array) -> Observations:
    """Observations of a training truth (frames, nx, ny) at its assimilation times, the last frame's left out.

    layout: in place of the one that the setup's sensors have.
    """
    (sensors,), every = setup.sensors, setup.testbed.frames_per_cycle
    cycles = (truth.shape[0] - 1) // every
    seen = truth[: cycles * every]
    return observe_run(key, setup.grid, layout, seen, every, sensors.noise_std, sensors.measure)


def cycle_windows(
    setup: Setup,
    prior: Prior,
    layout: Layout,
    key: Array,
    truth: Array,
    draw: Draw | Conditioning | None = None,
    restart: str = "open",
    dtype: DTypeLike = jnp.float16,
) -> Windows:
    """All windows of a prior's run over one truth (n cycles and one more frame, nx, ny): leading axes (n, guesses).

    draw and restart: the model in the loop, as in `diffsrda`; without one the prior alone, with what conditions hold in
    its place, by default what fits the testbed.  Pure: jit it and vmap it over truths and keys.
    """
    state_key, sensor_key, step_key = jax.random.split(key, 3)
    observed = training_observations(sensor_key, setup, layout, truth)
    return observed_windows(setup, prior, (state_key, step_key), truth, observed, draw, restart, dtype)


def observed_windows(
    setup: Setup,
    prior: Prior,
    keys: tuple[Array, Array],
    truth: Array,
    observed: Observations,
    draw: Draw | Conditioning | None = None,
    restart: str = "open",
    dtype: DTypeLike = jnp.float16,
) -> Windows:
    """`cycle_windows` of a truth with its observations, times leading: one for each cycle.

    keys: of the first state, and of the steps.
    """
    (state_key, step_key), every = keys, setup.testbed.frames_per_cycle
    loop = None if isinstance(draw, Conditioning) else draw
    units = draw if isinstance(draw, Conditioning) else conditioning_of(setup, draw)
    cycles = observed.values.shape[0]
    step = recorded_step(setup, prior, loop, restart, units)

    def cycle(carry: tuple[State, Array], inputs: tuple[Observations, Array]):
        (state, index), (observations, first) = carry, inputs
        memory = state.memory
        state, _, now = step(jax.random.fold_in(step_key, index), state, observations)
        condition = jax.vmap(lambda n, m: channels(setup.grid, n, m, units))(now, memory)
        frames = jax.lax.dynamic_slice_in_dim(truth, first, units.frames)
        correction = jnp.moveaxis(frames[None] - now.guess.frames, 1, -1)
        return (state, index + 1), Windows(condition.astype(dtype), correction.astype(dtype))

    begin = start(setup, prior, state_key, truth.dtype, units)
    firsts = every * jnp.arange(cycles, dtype=jnp.int32)
    return jax.lax.scan(cycle, (begin, jnp.uint32(0)), (observed, firsts))[1]


def forecast_windows(
    setup: Setup,
    observed: Observations,
    key: Array,
    truths: Array,
    starts: str = "perturbed",
    dtype: DTypeLike = jnp.float16,
    units: Conditioning | None = None,
) -> Windows:
    """Windows of bare LR forecasts from the truths' low-passed states: truths (runs, frames, nx, ny) → (n, runs).

    observed: of the truths, (runs, times).
    A forecast starts one assimilation time before its window, which it is the guess of.  Its start is exact (`clean`),
    carries an anomaly of the climatology of random size up to `PERTURBATION` (`perturbed`, like the analyses that a
    cycle restarts from), or exact with the forecast mixed with the most similar one of another run (`mixup`, see
    `mix_nearest`).  units: what conditions hold, by default what fits the testbed; `Conditioning.of(testbed, "paper")`
    with starts `mixup` is the paper's training data (arXiv:2604.21180).
    """
    check_choice("starts", starts, STARTS)
    testbed, grid, model = setup.testbed, setup.grid, setup.forecast_model()
    every, units, (sensors,) = testbed.frames_per_cycle, conditioning_of(setup, None, units), setup.sensors
    runs, frames = truths.shape[:2]
    cycles = (frames - 1) // every

    def window(index: Array) -> Windows:
        time = index * every
        began = model.from_analysis_grid(
            jax.lax.dynamic_index_in_dim(truths, index=time - every, axis=1, keepdims=False)
        )
        anomaly_key, size_key, mix_key = jax.random.split(jax.random.fold_in(key, index), 3)
        if starts == "perturbed":
            size = PERTURBATION * draws.uniform(size_key, (runs, 1, 1), truths.dtype)
            began = began + size * setup.climatology.draw(anomaly_key, index - 1, runs, model.grid)
        first = model.forecast(began)
        second = model.forecast(first.ahead)
        forecasts = jnp.concatenate([first.frames, second.frames, second.ahead[:, None]], axis=1)
        if starts == "mixup":
            forecasts = mix_nearest(mix_key, forecasts)
        fields = model.to_analysis_grid(forecasts)
        then = jax.tree.map(lambda a: a[:, index - 1], observed)
        now = jax.tree.map(lambda a: a[:, index], observed)
        target = jax.lax.dynamic_slice_in_dim(truths, time, units.frames, axis=1)

        def one(fields: Array, then: Observations, now: Observations, target: Array) -> Windows:
            spread = jnp.zeros((2, *grid.shape), fields.dtype)
            guess = Guess(fields[every:], spread, fields[every])

            def snapped(guess: Guess, observations: Observations) -> Snapshot:
                predicted = sensors.measure(grid, guess.frames[0], observations.positions)
                return snapshot(grid, guess, predicted, observations, units)

            earlier = snapped(guess._replace(frames=fields[:1]), then)
            memory = remember(no_memory(grid, fields.dtype, units.past), earlier, fields[0])
            condition = channels(grid, snapped(guess, now), memory, units)
            correction = jnp.moveaxis(target - guess.frames, 0, -1)
            return Windows(condition.astype(dtype), correction.astype(dtype))

        return jax.vmap(one)(fields, then, now, target)

    return jax.lax.map(window, jnp.arange(1, cycles, dtype=jnp.int32))


def mix_nearest(key: Array, forecasts: Array, candidates: int = 200) -> Array:
    """SR-mixup: (1 − w) x + w x′ of forecasts (runs, frames, …), x′ the nearest other of up to `candidates` runs.

    w ~ Beta(2, 5), one for each; nearest in the square of the amplitudes' difference at the same time.  Yasuda & Onishi
    (2023, arXiv:2212.03656); arXiv:2604.21180.  ValueError for a single run.
    """
    runs = len(forecasts)
    if runs < 2:
        raise ValueError("mix_nearest: expected at least 2 runs to mix, got 1")
    order_key, weight_key = jax.random.split(key)
    others = jax.random.permutation(order_key, runs)[:candidates]
    flat = forecasts.reshape(runs, -1)
    distance = jax.lax.map(lambda a: jnp.sum((flat[others] - a[None]) ** 2, axis=1), flat)
    itself = others[None, :] == jnp.arange(runs)[:, None]
    nearest = others[jnp.argmin(jnp.where(itself, jnp.inf, distance), axis=1)]
    weight = jax.random.beta(weight_key, 2.0, 5.0, (runs,), jnp.float32).astype(forecasts.dtype)
    weight = weight.reshape(runs, *(1,) * (forecasts.ndim - 1))
    return (1 - weight) * forecasts + weight * forecasts[nearest]


def augment(key: Array, windows: Windows, units: Conditioning, symmetries: tuple[str, ...] = SYMMETRIES) -> Windows:
    """Each window (leading axis) shifted by random grid points in x and, half of the time, reflected in y.

    Both as far as they are exact symmetries of the testbed: ω(x − s, y) and −ω(x, π − y).
    """
    shift_key, side_key = jax.random.split(key)
    count, nx = windows.condition.shape[:2]
    shifts = draws.integers(shift_key, (count,), 0, nx)
    sides = draws.coins(side_key, (count,))

    def one(window: Windows, shift: Array, side: Array) -> Windows:
        if "shift" in symmetries:
            window = jax.tree.map(lambda a: jnp.roll(a, shift, axis=0), window)
        if "reflection" not in symmetries:
            return window
        mirrored = Windows(mirror(window.condition, units), -window.correction[:, ::-1])
        return jax.tree.map(lambda a, b: jnp.where(side, a, b), mirrored, window)

    return jax.vmap(one)(windows, shifts, sides)
