"""The training loop on the host: checkpoints by Orbax, curves as CSV, the same curve again after a kill."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxsrda.cache import content_hash
from jaxsrda.data import Windows
from jaxsrda.datasets import WindowSet
from jaxsrda.io import atomic_path
from jaxsrda.model import Model, ModelConfig, with_denoiser
from jaxsrda.training import TrainConfig, TrainState, batch_indices, initial_state, make_train_step, objective

SAVE_EVERY = 120.0
"""Seconds of work that a kill can cost."""

LOG_EVERY = 50
"""Steps that one line of the curve averages over."""

MILESTONES = 10
"""How often in a training the validation windows are scored."""

Report = Callable[[int, int, dict[str, float]], None]
"""Called as report(samples done, samples in all, metrics)."""


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


def fit(
    folder: Path,
    model: ModelConfig,
    config: TrainConfig,
    windows: WindowSet,
    held_out: WindowSet,
    params: Any = None,
    scale: np.ndarray | None = None,
    report: Report = lambda *_: None,
) -> Fitted:
    """Train in `folder`, going on from its last checkpoint if there is one.

    params, scale: weights to start from, with the normalization that they were trained with.  Same configuration, data
    and seed give the same curve however often the job is killed.  Raises ValueError if the folder holds
    another training, or if there are fewer windows than a batch.
    """
    if model.distilled and config.part != "denoiser":
        raise ValueError("distilled: a student learns its denoiser alone, expected part denoiser with it, got all")
    if config.part == "denoiser" and params is None:
        raise ValueError("part: training the denoiser alone needs the rest; give weights to start from as init")
    if len(windows) < config.batch:
        raise ValueError(f"training: {len(windows)} windows are less than a batch of {config.batch}; use more runs")
    scale = windows.correction_scale() if scale is None else np.asarray(scale, np.float32)
    start = initial_state(model, config, params)
    frozen = params if config.part == "denoiser" else None
    mark = _fingerprint(model, config, windows, held_out, scale, start.params if frozen is None else frozen)
    folder.mkdir(parents=True, exist_ok=True)
    state, curve, milestones, spent = _restore(folder, mark, start)
    began = time.perf_counter()
    step, loss = make_train_step(model, config, scale, frozen), validation_loss(model, config, scale, frozen)
    longest = int(np.argmax(config.half_lives))
    score_at = {config.steps * part // MILESTONES for part in range(1, MILESTONES + 1)}
    key = jax.random.key(config.seed)
    with ocp.CheckpointManager(folder.absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=1)) as manager:
        saved, since, pending = time.perf_counter(), time.perf_counter(), []
        first = int(state.step)
        for i in range(first, config.steps):
            batch = windows.take(batch_indices(config, len(windows), i))
            state, metrics = step(state, key, jax.tree.map(jnp.asarray, batch))
            pending.append(metrics)
            last = i + 1 == config.steps
            if i + 1 in score_at:
                scored = evaluate(loss, state.averages[longest], held_out, config.batch)
                milestones.append({"samples": (i + 1) * config.batch, **scored})
            if (i + 1) % LOG_EVERY == 0 or last:
                row = {name: float(np.mean([float(m[name]) for m in pending])) for name in pending[0]}
                if not np.isfinite(row["loss"]):
                    raise ValueError(f"training: the loss is no longer finite at step {i + 1}; lower learning_rate")
                rate = len(pending) * config.batch / (time.perf_counter() - since)
                since, pending = time.perf_counter(), []
                curve.append({"samples": (i + 1) * config.batch, **row})
                report((i + 1) * config.batch, config.steps * config.batch, row | {"samples_per_s": rate})
                # Only between two lines of the curve, so that a resumed curve has no seam.
                if time.perf_counter() - saved > SAVE_EVERY or last:
                    saved = time.perf_counter()
                    notes = {"mark": mark, "curve": curve, "milestones": milestones, "seconds": spent + saved - began}
                    _save(manager, i + 1, state, notes)
    seconds = spent + time.perf_counter() - began
    write_curve(folder / "curve.csv", curve)
    candidates = {f"half-life {h}": p for h, p in zip(config.half_lives, state.averages)} | {"last": state.params}
    validation = {name: evaluate(loss, p, held_out, config.batch) for name, p in candidates.items()}
    best = min(validation, key=lambda name: validation[name]["loss"])
    chosen = candidates[best] if frozen is None else with_denoiser(frozen, candidates[best])
    return Fitted(Model(model, chosen, scale), curve, milestones, validation | {"chosen": {best: 1.0}}, seconds)


def validation_loss(model: ModelConfig, config: TrainConfig, scale: np.ndarray, frozen: Any = None) -> Callable:
    """loss(params, key, windows) → its parts, jitted once for all weights that are compared."""

    def loss(frozen: Any, params: Any, key: jax.Array, batch: Windows) -> dict[str, jax.Array]:
        return objective(model, config, scale, frozen)(params, key, batch, training=False)[1]

    return functools.partial(jax.jit(loss), frozen)


def evaluate(loss: Callable, params: Any, windows: WindowSet, size: int) -> dict[str, float]:
    """Mean losses over windows kept from training, `size` at a time, with fixed noise."""
    count = max(1, len(windows) // size)
    rows = []
    for i in range(count):
        picked = np.arange(i * size, min((i + 1) * size, len(windows)))
        batch: Windows = jax.tree.map(jnp.asarray, windows.take(picked))
        rows.append({k: float(v) for k, v in loss(params, jax.random.fold_in(jax.random.key(1), i), batch).items()})
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def write_curve(path: Path, curve: list[dict[str, float]]) -> None:
    """The loss curve as CSV, written atomically."""
    with atomic_path(path, (".csv",)) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(curve[0]) if curve else ["samples"])
        writer.writeheader()
        writer.writerows(curve)


def _fingerprint(model, config, windows: WindowSet, held_out: WindowSet, scale, start: Any) -> str:
    """What a training is: configuration, data (sizes, spreads, single windows), scale and first weights."""
    data = []
    for part in (windows, held_out):
        sample = part.take(np.array([0, len(part) // 2]))
        data += [len(part), part.correction_scale().tolist(), content_hash(sample.condition.tobytes().hex())]
    weights = content_hash("".join(content_hash(np.asarray(a).tobytes().hex()) for a in jax.tree.leaves(start)))
    named = [dataclasses.asdict(model), dataclasses.asdict(config), data, weights, np.asarray(scale).tolist()]
    return json.dumps(named)


def _save(manager: ocp.CheckpointManager, step: int, state: TrainState, notes: dict[str, Any]) -> None:
    items = ocp.args.Composite(state=ocp.args.StandardSave(_plain(state)), notes=ocp.args.JsonSave(notes))
    manager.save(step, args=items)
    manager.wait_until_finished()


def _restore(folder: Path, mark: str, start: TrainState) -> tuple[TrainState, list, list, float]:
    """The last checkpoint's state, curve, milestones and seconds, or the start."""
    with ocp.CheckpointManager(folder.absolute()) as manager:
        step = manager.latest_step()
        if step is None:
            return start, [], [], 0.0
        try:
            notes = manager.restore(step, args=ocp.args.Composite(notes=ocp.args.JsonRestore())).notes
        except Exception as error:
            raise _unreadable(folder, step, error) from None
        if notes["mark"] != mark:
            raise ValueError(
                f"{folder}: holds a checkpoint of another training (network, sizes, data or options differ); "
                "choose another folder or remove it"
            )
        items = ocp.args.Composite(state=ocp.args.StandardRestore(_plain(start)))
        try:
            restored = manager.restore(step, args=items).state
        except Exception as error:
            raise _unreadable(folder, step, error) from None
    leaves = [restored[str(i)] for i in range(len(restored))]
    return jax.tree.unflatten(jax.tree.structure(start), leaves), notes["curve"], notes["milestones"], notes["seconds"]


def _unreadable(folder: Path, step: int, error: Exception) -> ValueError:
    return ValueError(f"{folder}: its checkpoint {step} cannot be read ({error}); remove the folder to start anew")


def _plain(state: TrainState) -> dict[str, jax.Array]:
    """The state as number → array, which Orbax stores whatever the containers are."""
    return {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(state))}
