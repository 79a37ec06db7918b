"""Fit a model to its windows: the best average of the weights, its losses on the way and on windows kept apart."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.core.cache import content_hash
from jaxsrda.core.records import described
from jaxsrda.diffsrda.latent import LatentSpace
from jaxsrda.diffsrda.model import Model, ModelConfig, with_denoiser
from jaxsrda.training import loop
from jaxsrda.training.dataset import WindowSet
from jaxsrda.training.loop import Report
from jaxsrda.training.loss import TrainConfig, TrainState, batch_indices, initial_state, make_train_step, objective
from jaxsrda.training.windows import Windows


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained model (the best average of the weights on the validation windows), and its losses.

    curve: on training windows; milestones: on validation windows, of the longest average; validation: by average;
    seconds: of training, those before a kill included.
    """

    model: Model
    curve: list[dict[str, float]]
    milestones: list[dict[str, float]]
    validation: dict[str, dict[str, float]]
    seconds: float


class Origin(NamedTuple):
    """Where a training starts: weights, the normalization that they were trained with, and an autoencoder.

    None for new weights and normalization; the autoencoder is a latent model's.
    """

    params: Any = None
    scale: np.ndarray | None = None
    space: LatentSpace | None = None


def fit(
    folder: Path,
    model: ModelConfig,
    config: TrainConfig,
    windows: WindowSet,
    held_out: WindowSet,
    origin: Origin = Origin(),  # noqa: B008 (a named tuple of None)
    report: Report = lambda *_: None,
) -> Fitted:
    """Train in `folder`, going on from its last checkpoint if there is one.

    Same configuration, data and seed give the same curve however often the job is killed.  Raises ValueError if the
    folder holds another training, or if there are fewer windows than a batch.
    """
    params, scale, space = origin
    if model.distilled and config.part != "denoiser":
        raise ValueError("distilled: a student learns its denoiser alone, expected part denoiser with it, got all")
    if config.part == "denoiser" and params is None:
        raise ValueError("part: training the denoiser alone needs the rest; give weights to start from as init")
    if bool(model.latent) != (space is not None):
        raise ValueError("latent: a model that draws in a latent needs its autoencoder, and no other does")
    if len(windows) < config.batch:
        raise ValueError(f"training: {len(windows)} windows are less than a batch of {config.batch}; use more runs")
    scale = windows.correction_scale() if scale is None else np.asarray(scale, np.float32)
    start = initial_state(model, config, params)
    frozen = params if config.part == "denoiser" else None
    first = [start.params if frozen is None else frozen, *([] if space is None else [space])]
    mark = _fingerprint(model, config, windows, held_out, scale, first)
    step = make_train_step(model, config, scale, frozen, space)
    loss = validation_loss(model, config, scale, frozen, space)
    longest = int(np.argmax(config.half_lives))
    key = jax.random.key(config.seed)

    def batch(i: int) -> Windows:
        return jax.tree.map(jnp.asarray, windows.take(batch_indices(config, len(windows), i)))

    def advance(state: TrainState, windows: Windows) -> tuple[TrainState, dict[str, jax.Array]]:
        return step(state, key, windows)

    def score(state: TrainState) -> dict[str, float]:
        return evaluate(loss, state.averages[longest], held_out, config.batch)

    course = loop.run(folder, mark, loop.Work(start, advance, batch, score, config.steps, config.batch), report)
    state = course.state
    candidates = {f"half-life {h}": p for h, p in zip(config.half_lives, state.averages)} | {"last": state.params}
    validation = {name: evaluate(loss, p, held_out, config.batch) for name, p in candidates.items()}
    best = min(validation, key=lambda name: validation[name]["loss"])
    chosen = candidates[best] if frozen is None else with_denoiser(frozen, candidates[best])
    scored = validation | {"chosen": {best: 1.0}}
    return Fitted(Model(model, chosen, scale, space), course.curve, course.milestones, scored, course.seconds)


def validation_loss(
    model: ModelConfig, config: TrainConfig, scale: np.ndarray, frozen: Any = None, space: LatentSpace | None = None
) -> Callable:
    """loss(params, key, windows) → its parts, jitted once for all weights that are compared."""

    def loss(fixed: Any, params: Any, key: jax.Array, batch: Windows) -> dict[str, jax.Array]:
        return objective(model, config, scale, *fixed)(params, key, batch, training=False)[1]

    return functools.partial(jax.jit(loss), (frozen, space))


def evaluate(loss: Callable, params: Any, windows: WindowSet, size: int) -> dict[str, float]:
    """Mean losses over windows kept from training, `size` at a time, with fixed noise."""
    count = max(1, len(windows) // size)
    rows = []
    for i in range(count):
        picked = np.arange(i * size, min((i + 1) * size, len(windows)))
        batch: Windows = jax.tree.map(jnp.asarray, windows.take(picked))
        rows.append({k: float(v) for k, v in loss(params, jax.random.fold_in(jax.random.key(1), i), batch).items()})
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _fingerprint(model, config, windows: WindowSet, held_out: WindowSet, scale, start: Any) -> str:
    """What a training is: configuration, data (sizes, spreads, single windows), scale and first weights."""
    data = []
    for part in (windows, held_out):
        sample = part.take(np.array([0, len(part) // 2]))
        data += [len(part), part.correction_scale().tolist(), content_hash(sample.condition.tobytes().hex())]
    weights = content_hash("".join(content_hash(np.asarray(a).tobytes().hex()) for a in jax.tree.leaves(start)))
    named = [described(model), described(config), data, weights, np.asarray(scale).tolist()]
    return json.dumps(named)
