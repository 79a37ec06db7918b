"""Training on a stream of windows that the program itself makes: truths, cycling, training, all on one device.

Windows lie in a buffer on the device, in half precision.  A part of it is replaced every so often by windows of the
model's own cycling; in between, many steps run in one dispatch, which draws indices, augmentation and noise itself.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxsrda.core import draws
from jaxsrda.core.checks import check_positive
from jaxsrda.diffsrda.model import Model, ModelConfig, denoiser_part, encode, with_denoiser
from jaxsrda.training.course import Budget, direction, keep
from jaxsrda.training.loss import TrainConfig, TrainState, initial_state, objective
from jaxsrda.training.sources import Policy
from jaxsrda.training.windows import Windows, augment

Maker = Callable[[Array, Array, Policy], Windows]
"""(key, truths (R, frames, nx, ny), policy) → windows; see `training.sources`."""


@dataclasses.dataclass(frozen=True)
class StreamConfig:
    """How a stream is trained on; it takes the place of `samples`, `warmup` and `half_lives` of a `TrainConfig`.

    budget; capacity: windows in the buffer; data_share: of the time that may go into new windows, or, where the budget
    is of samples, new windows for each sample; dispatch: steps in one; cooling: part of the budget in
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
