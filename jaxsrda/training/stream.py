"""Training on a stream of windows that the program itself makes: truths, cycling, training, all on one device.

Windows lie in a buffer on the device, in half precision.  A part of it is replaced every so often by windows of the
model's own cycling; in between, many steps run in one dispatch, which draws indices, augmentation and noise itself.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxsrda.core import draws
from jaxsrda.core.checks import check_positive
from jaxsrda.diffsrda.model import Model, ModelConfig, denoiser_part, encode, with_denoiser
from jaxsrda.training.course import Budget, direction, keep, learning_rate
from jaxsrda.training.fit import Origin
from jaxsrda.training.loss import TrainConfig, TrainState, initial_state, objective
from jaxsrda.training.sources import Policy
from jaxsrda.training.windows import Windows, augment

Maker = Callable[[Array, Array, Policy], Windows]
"""(key, truths (R, frames, nx, ny), policy) → windows; see `training.sources`."""


@dataclasses.dataclass(frozen=True)
class StreamConfig:
    """How a stream is trained on.

    budget; capacity: windows in the buffer; data_share: of the time that may go into new windows (of the samples'
    budget: a refill for each `capacity / data_share` samples); dispatch: steps in one; cooling: part of the budget in
    which the learning rate falls; warmup: steps; averages: relative lengths of the weights' averages, the first of
    which cycles; validate: parts of the budget between which held-out truths are cycled (new windows of training truths
    are scored whenever they are made).
    """

    budget: Budget = dataclasses.field(default_factory=lambda: Budget(minutes=8))
    capacity: int = 65_536
    data_share: float = 0.25
    dispatch: int = 25
    cooling: float = 0.3
    warmup: int = 200
    averages: tuple[float, ...] = (0.1, 0.03)
    validate: int = 2

    def __post_init__(self):
        for name in ("capacity", "dispatch", "validate"):
            check_positive(name, getattr(self, name))


class Buffer(NamedTuple):
    """Windows (capacity, …), how many of them there are, and where the next ones go."""

    windows: Windows
    filled: int
    place: int


def empty_buffer(capacity: int, model: ModelConfig) -> Buffer:
    """A buffer of no windows, in half precision."""
    shape = capacity, model.nx, model.ny
    return Buffer(
        Windows(jnp.zeros((*shape, model.channels), jnp.float16), jnp.zeros((*shape, model.frames), jnp.float16)), 0, 0
    )


@functools.partial(jax.jit, donate_argnums=0)
def _write(held: Windows, new: Windows, place: Array) -> Windows:
    return jax.tree.map(lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b, place, 0), held, new)


def write(buffer: Buffer, new: Windows) -> Buffer:
    """The buffer with new windows in the place of its oldest; the last place that they fit in is used if need be."""
    capacity, count = len(buffer.windows.condition), len(new.condition)
    if count > capacity:
        raise ValueError(f"buffer: {count} windows do not fit a capacity of {capacity}; raise it or make fewer at once")
    place = buffer.place if buffer.place + count <= capacity else 0
    held = _write(buffer.windows, new, jnp.int32(place))
    return Buffer(held, max(buffer.filled, place + count), place + count)


def make_steps(model: ModelConfig, config: TrainConfig, stream: StreamConfig) -> Callable:
    """steps(state, frozen, windows, filled, rate, scale, key) → (state, mean metrics): `dispatch` steps in one program.

    frozen: all parameters where the denoiser alone is trained, else None.
    """
    rule = direction(config.clip, config.weight_decay)

    def one(frozen: Any, windows: Windows, filled: Array, rate: Array, scale: Array, key: Array, state: TrainState):
        pick_key, augment_key, loss_key = jax.random.split(jax.random.fold_in(key, state.step), 3)
        picked = draws.integers(pick_key, (config.batch,), 0, filled)
        batch = jax.tree.map(lambda a: a[picked], windows)
        batch = augment(augment_key, batch, model.conditioning, model.symmetries)

        loss = objective(model, config, scale, frozen)  # type: ignore[arg-type]
        (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(state.params, loss_key, batch)
        updates, moments = rule.update(gradient, state.optimizer, state.params)
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        averages = []
        for length, average in zip(stream.averages, state.averages, strict=True):
            old = keep(state.step, length)
            averages.append(jax.tree.map(lambda a, p, old=old: old * a + (1 - old) * p, average, params))
        metrics["gradient"] = optax.tree.norm(gradient)
        return TrainState(params, moments, tuple(averages), state.step + 1), metrics

    def steps(
        state: TrainState, frozen: Any, windows: Windows, filled: Array, rate: Array, scale: Array, key: Array
    ) -> tuple[TrainState, dict[str, Array]]:
        step = functools.partial(one, frozen, windows, filled, rate, scale, key)
        state, metrics = jax.lax.scan(lambda s, _: step(s), state, None, length=stream.dispatch)
        return state, jax.tree.map(jnp.mean, metrics)

    return steps


def first_state(model: ModelConfig, config: TrainConfig, stream: StreamConfig, params: Any = None) -> TrainState:
    """The state before the first step."""
    begun = initial_state(model, dataclasses.replace(config, half_lives=(1,) * len(stream.averages)), params)
    return begun._replace(optimizer=direction(config.clip, config.weight_decay).init(begun.params))


@jax.jit
def correction_scale(corrections: Array, filled: Array) -> Array:
    """Root mean square (frames,) of the first `filled` corrections (windows, nx, ny, frames), by frame."""
    there = jnp.arange(len(corrections), dtype=jnp.int32) < filled
    squares = jnp.mean(jnp.square(corrections.astype(jnp.float32)), (1, 2))
    return jnp.sqrt(jnp.where(there[:, None], squares, 0).sum(0) / filled.astype(jnp.float32))


def analysis_error(model: ModelConfig, policy: Policy, windows: Windows, chunk: int = 64) -> dict[str, Array]:
    """Errors on windows, of the model's mean and of the guess: sums of |error| over sums of |truth|, and the loss.

    Over the frames of the cycle, the next analysis time's left out.  Windows beyond a multiple of `chunk` are too.
    """
    count = len(windows.condition) // chunk * chunk
    parts = jax.tree.map(lambda a: a[:count].reshape(-1, chunk, *a.shape[1:]), windows)

    def one(batch: Windows) -> Array:
        condition, correction = (a.astype(jnp.float32) for a in batch)
        features = encode(Model(model, policy.params, policy.scale), condition)  # type: ignore[arg-type]
        guess = condition[..., : model.frames] * model.conditioning.field_scale
        off = correction - features.mean * policy.scale
        wrong = jnp.abs(off)[..., :-1].sum(), jnp.abs(correction)[..., :-1].sum()
        return jnp.stack([*wrong, jnp.abs(guess + correction)[..., :-1].sum(), jnp.abs(off / policy.scale).mean()])

    sums = jax.lax.map(one, parts)
    mean, guess, truth = sums[:, :3].sum(0)
    return {"maer": mean / truth, "guess_maer": guess / truth, "loss": sums[:, 3].mean()}


def whole(frozen: Any, params: Any) -> Any:
    """All parameters of a model of which `params` are trained."""
    return params if frozen is None else with_denoiser(frozen, params)


def denoiser_error(
    model: ModelConfig, config: TrainConfig, policy: Policy, windows: Windows, chunk: int = 64
) -> dict[str, Array]:
    """What training minimizes, on windows kept from it, with fixed noise; windows beyond a multiple of `chunk` are too.

    For models whose error is not that of a mean: those with target direct, and one-pass generators.
    """
    count = len(windows.condition) // chunk * chunk
    parts = jax.tree.map(lambda a: a[:count].reshape(-1, chunk, *a.shape[1:]), windows)
    frozen = policy.params if config.part == "denoiser" else None
    params = policy.params if frozen is None else denoiser_part(model, frozen)
    loss = objective(model, config, policy.scale, frozen)  # type: ignore[arg-type]
    keys = jax.random.split(jax.random.key(1), count // chunk)
    rows = jax.lax.map(lambda inputs: loss(params, *inputs, False)[1], (keys, parts))
    return jax.tree.map(jnp.mean, rows)


class Streamed(NamedTuple):
    """A trained stream: the state, the scale, the curve, validations, and where the time went."""

    state: TrainState
    scale: np.ndarray
    curve: list[dict[str, float]]
    validations: list[dict[str, Any]]
    seconds: dict[str, float]


class Programs(NamedTuple):
    """What a stream runs, compiled: steps of `make_steps`; makers by name, each with its number of runs; rounds, their
    names in the order that they fill the buffer; errors by name of a maker, on the first of its windows, and how many.
    """

    steps: Callable
    makers: dict[str, tuple[Callable, int]]
    rounds: tuple[str, ...]
    errors: dict[str, tuple[Callable, int]]


class Truths(NamedTuple):
    """Truths on the device, (runs, frames, nx, ny): to train on, and kept from it."""

    training: Array
    held_out: Array


def run(
    model: ModelConfig,
    config: TrainConfig,
    stream: StreamConfig,
    programs: Programs,
    truths: Truths,
    origin: Origin = Origin(),  # noqa: B008 (a named tuple of None)
    report: Callable[[dict[str, Any]], None] = lambda _: None,
    save: Callable[[TrainState, np.ndarray], None] = lambda *_: None,
) -> Streamed:
    """Train until the budget is spent; the buffer is filled by the makers, one after the other.

    origin: where it starts; where the denoiser alone is trained, what stays is of its parameters.  Without a scale that
    of the first windows' corrections is taken.  report: told a line of the curve, a validation, or a refill, each with
    its `kind`; save: called after each validation.
    Raises ValueError for a loss that is not finite.
    """
    key = jax.random.key(config.seed)
    params, scale, _ = origin
    state = first_state(model, config, stream, params)
    frozen = params if config.part == "denoiser" else None
    rounds = programs.rounds
    began = time.perf_counter()
    spent = {"data": 0.0, "training": 0.0, "validation": 0.0}
    buffer = empty_buffer(stream.capacity, model)
    curve: list[dict[str, float]] = []
    validations: list[dict[str, Any]] = []
    order = np.random.default_rng(config.seed)
    queue: list[int] = []
    fills = samples = 0

    def taken(runs: int) -> Array:
        """Numbers of the next truths, every one once a round, in a new order each."""
        while len(queue) < runs:
            queue.extend(order.permutation(len(truths.training)).tolist())
        picked, queue[:runs] = np.asarray(queue[:runs]), []
        return truths.training[picked]

    def policy() -> Policy:
        units = np.full(model.frames, 0.5, np.float32) if scale is None else scale
        return Policy(whole(frozen, state.averages[0]), jnp.asarray(units))

    def refill(name: str) -> None:
        nonlocal buffer, fills
        since = time.perf_counter()
        make, runs = programs.makers[name]
        new = make(jax.random.fold_in(jax.random.fold_in(key, 0x6669), fills), taken(runs), policy())
        row = errors(name, new, "training") if scale is not None else {}
        buffer = write(buffer, new)
        jax.block_until_ready(buffer.windows.condition)
        fills += 1
        took = time.perf_counter() - since
        spent["data"] += took
        report({"kind": "refill", "maker": name, "windows": len(new.condition), "seconds": took, **row})

    def errors(name: str, windows: Windows, seen: str) -> dict[str, float]:
        """Errors of the model's cycling on the first windows of a maker, noted."""
        if name not in programs.errors:
            return {}
        error, count = programs.errors[name]
        found = error(policy(), jax.tree.map(lambda a: a[:count], windows))
        row = {n: float(v) for n, v in found.items()}
        validations.append({"samples": samples, "maker": name, "truths": seen, **row})
        return row

    def validate() -> None:
        since = time.perf_counter()
        for name in programs.errors:
            make, runs = programs.makers[name]
            copies = jnp.asarray(np.arange(runs) % len(truths.held_out))
            row = errors(name, make(jax.random.fold_in(key, 0x7661), truths.held_out[copies], policy()), "held out")
            report({"kind": "validation", "maker": name, "samples": samples, **row})
        spent["validation"] += time.perf_counter() - since

    for name in dict.fromkeys(rounds):
        refill(name)
    if scale is None:
        scale = np.asarray(correction_scale(buffer.windows.correction, jnp.int32(buffer.filled)))
    step, turn, checked = 0, 0, 1
    pending: dict[str, Array] | None = None
    while (fraction := stream.budget.spent(time.perf_counter() - began, samples)) < 1:
        if fraction >= checked / stream.validate:
            validate()
            save(state, scale)
            checked += 1
        if wants_windows(stream, spent, time.perf_counter() - began, samples, fills, len(set(rounds)), buffer):
            refill(rounds[turn % len(rounds)])
            turn += 1
        since = time.perf_counter()
        rate = learning_rate(config.learning_rate, fraction, step, stream.warmup, stream.cooling)
        inputs = frozen, buffer.windows, jnp.int32(buffer.filled), jnp.float32(rate), jnp.asarray(scale), key
        state, metrics = programs.steps(state, *inputs)
        step, samples = step + stream.dispatch, samples + stream.dispatch * config.batch
        # Told one dispatch late, so that the next one is under way already.
        if pending is not None:
            row = {name: float(value) for name, value in pending.items()}
            if not np.isfinite(row["loss"]):
                raise ValueError(f"training: the loss is no longer finite at step {step}; lower learning_rate")
            curve.append({"samples": samples - stream.dispatch * config.batch, "fraction": fraction, **row})
            report({"kind": "curve", "rate": rate, "seconds": time.perf_counter() - began, **curve[-1]})
        pending = metrics
        spent["training"] += time.perf_counter() - since
    jax.block_until_ready(state.params)
    spent["all"] = time.perf_counter() - began
    return Streamed(state, scale, curve, validations, spent)


def wants_windows(
    stream: StreamConfig, spent: dict[str, float], elapsed: float, samples: int, fills: int, first: int, buffer: Buffer
) -> bool:
    """Whether new windows are due: their share of the time, or of the samples' budget, is not used up."""
    if stream.budget.minutes:
        return spent["data"] < stream.data_share * elapsed
    each = buffer.filled / max(1, fills)
    return (fills - first) * each < stream.data_share * samples
