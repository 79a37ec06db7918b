"""Training on a stream of windows that the program itself makes: truths, cycling, training, all on one device.

Windows lie in a buffer on the device, in half precision.  A part of it is replaced every so often by windows of the
model's own cycling; in between, many steps run in one dispatch, which draws indices, augmentation and noise itself.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh

from jaxsrda.core import draws
from jaxsrda.core.checks import check_fraction
from jaxsrda.core.devices import divided, whole
from jaxsrda.core.linalg import trailing
from jaxsrda.diffsrda.latent import LatentSpace
from jaxsrda.diffsrda.model import Model, ModelConfig, denoiser_part, encode, network, with_denoiser
from jaxsrda.networks.layers import on_cpu
from jaxsrda.training.course import direction, keep
from jaxsrda.training.loss import TrainConfig, objective
from jaxsrda.training.sources import Policy
from jaxsrda.training.windows import Windows, augment

Maker = Callable[[Array, Array, Policy], Windows]
"""(key, truths (R, frames, nx, ny), policy) → windows; see `training.sources`."""

HELD_BY_CPU = 3e9
"""Bytes of windows in host memory, unless more are asked for."""

HELD_BY_DEVICE = 0.4
"""Part of a device's memory that windows may take, unless more are asked for."""


class TrainState(NamedTuple):
    """Parameters, the optimizer's state, averages of the parameters, and steps done."""

    params: Any
    optimizer: Any
    averages: tuple[Any, ...]
    step: Array


class Fixed(NamedTuple):
    """What training leaves as it is: all parameters of a model whose denoiser alone is trained (a student's teacher),
    and the autoencoder of a latent model."""

    params: Any = None
    space: LatentSpace | None = None

    def whole(self, params: Any) -> Any:
        """All parameters of a model of which `params` are trained."""
        return params if self.params is None else with_denoiser(self.params, params)


@dataclasses.dataclass(frozen=True)
class StreamConfig:
    """How windows flow.

    capacity: windows in the buffer; data_share: of the time that may go into new windows, or, where the budget is of
    samples, new windows for each sample; dispatch: steps in one program; side_by_side: runs cycled at once, at least;
    validate: parts of the budget between which held-out truths are cycled (new windows of training truths are scored
    whenever they are made).  0 takes what suits the device (`settled`).
    """

    capacity: int = 0
    data_share: float = 0.25
    dispatch: int = 0
    side_by_side: int = 0
    validate: int = 4

    def __post_init__(self):
        for name in ("capacity", "dispatch", "side_by_side"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected 1 or more, or 0 for what suits the device, got {self}")
        if self.validate < 1:
            raise ValueError(f"validate: expected 1 or more, got {self.validate}")
        check_fraction("data_share", self.data_share)

    def settled(self, model: ModelConfig) -> StreamConfig:
        """The same with numbers for this device: on CPUs a few runs and one step at once, and `HELD_BY_CPU` bytes."""
        memory = HELD_BY_CPU
        if not on_cpu():
            memory = HELD_BY_DEVICE * (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 16e9)
        window = 2 * model.nx * model.ny * (model.channels + model.frames)
        most = int(min(65_536, memory / window))
        return dataclasses.replace(
            self,
            capacity=self.capacity or max(most - most % 64, 1),  # devices share it
            dispatch=self.dispatch or (1 if on_cpu() else 25),
            side_by_side=self.side_by_side or (8 if on_cpu() else 256),
        )


def first_state(model: ModelConfig, config: TrainConfig, params: Any = None) -> TrainState:
    """The state before the first step; params: weights to go on from instead of random ones (all of them)."""
    params = network(model).initial(config.seed) if params is None else params
    if config.part == "denoiser":
        params = denoiser_part(model, params)
    params = jax.tree.map(jnp.copy, params)  # steps reuse their buffers, and the caller may need them
    moments = direction(config.clip, config.weight_decay).init(params)
    return TrainState(params, moments, tuple(jax.tree.map(jnp.copy, params) for _ in config.averages), jnp.int32(0))


def make_steps(model: ModelConfig, config: TrainConfig, dispatch: int, mesh: Mesh | None = None) -> Callable:
    """steps(state, fixed, windows, filled, rate, scale, key) → (state, mean metrics): `dispatch` steps in one program.

    filled: how many of the windows there are; rate: the learning rate; scale: (frames,) of corrections.  mesh: its axis
    `data` divides windows and batches; the compiler takes gradients from all devices.  The batch is the same on any.
    """
    rule = direction(config.clip, config.weight_decay)

    def one(fixed: Fixed, windows: Windows, filled: Array, rate: Array, scale: Array, key: Array, state: TrainState):
        pick_key, augment_key, loss_key = jax.random.split(jax.random.fold_in(key, state.step), 3)
        picked = draws.integers(pick_key, (config.batch,), 0, filled)
        batch = divided(jax.tree.map(lambda a: a[picked], windows), mesh, "data")
        batch = augment(augment_key, batch, model.conditioning, model.symmetries)

        loss = objective(model, config, scale, *fixed)  # type: ignore[arg-type]
        (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(state.params, loss_key, batch)
        updates, moments = rule.update(gradient, state.optimizer, state.params)
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        averages = []
        for length, average in zip(config.averages, state.averages, strict=True):
            old = keep(state.step, length)
            averages.append(jax.tree.map(lambda a, p, old=old: old * a + (1 - old) * p, average, params))
        metrics["gradient"] = optax.tree.norm(gradient)
        return TrainState(params, moments, tuple(averages), state.step + 1), metrics

    def steps(
        state: TrainState, fixed: Fixed, windows: Windows, filled: Array, rate: Array, scale: Array, key: Array
    ) -> tuple[TrainState, dict[str, Array]]:
        step = functools.partial(one, fixed, windows, filled, rate, scale, key)
        if dispatch == 1:  # without a loop, in which a CPU's matrix products are slower
            return step(state)
        state, metrics = jax.lax.scan(lambda s, _: step(s), state, None, length=dispatch)
        return state, jax.tree.map(jnp.mean, metrics)

    return steps


@jax.jit
def correction_scale(corrections: Array, filled: Array) -> Array:
    """Root mean square (frames,) of the first `filled` corrections (windows, nx, ny, frames), by frame."""
    there = jnp.arange(len(corrections), dtype=jnp.int32) < filled
    squares = jnp.mean(jnp.square(corrections.astype(jnp.float32)), (1, 2))
    return jnp.sqrt(jnp.where(there[:, None], squares, 0).sum(0) / filled.astype(jnp.float32))


def window_errors(
    model: ModelConfig, config: TrainConfig, policy: Policy, space: LatentSpace | None, windows: Windows, chunk: int
) -> dict[str, Array]:
    """What training minimizes, and its parts, on windows that a model with the policy's parameters made, with fixed
    noise; and the errors of its mean and of the guess, Σ |error| / Σ |truth|, where the model has a mean.

    Errors are over the frames of the cycle, the next analysis time's left out.  Windows beyond a multiple of `chunk`
    are left out too.
    """
    count = len(windows.condition) // chunk * chunk
    parts = jax.tree.map(lambda a: a[:count].reshape(-1, chunk, *a.shape[1:]), windows)
    fixed = Fixed(policy.params if config.part == "denoiser" else None, space)
    params = policy.params if fixed.params is None else denoiser_part(model, policy.params)
    loss = objective(model, config, policy.scale, *fixed)  # type: ignore[arg-type]

    def one(inputs: tuple[Array, Windows]) -> tuple[dict[str, Array], Array]:
        key, batch = inputs
        condition, correction = (a.astype(jnp.float32) for a in batch)
        features = encode(Model(model, policy.params, policy.scale), condition)  # type: ignore[arg-type]
        guess = condition[..., : model.frames] * model.conditioning.field_scale
        off = correction - features.mean * trailing(policy.scale, correction)
        sums = [jnp.abs(a)[..., :-1].sum() for a in (off, correction, guess + correction)]
        return loss(params, key, batch, False)[1], jnp.stack(sums)

    rows, sums = jax.lax.map(one, (jax.random.split(jax.random.key(1), count // chunk), parts))
    mean, guess, truth = sums.sum(0)
    errors = {} if model.target == "direct" else {"maer": mean / truth, "guess_maer": guess / truth}
    return errors | jax.tree.map(jnp.mean, rows)


def host(windows: Windows, count: int) -> Windows:
    """Up to `count` windows, evenly spread, in host memory."""
    return jax.tree.map(lambda a: whole(a[:: max(1, len(a) // count)][:count]), windows)
