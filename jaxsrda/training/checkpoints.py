"""The training loop on the host: checkpoints by Orbax, curves, and the same curve again after a kill."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxsrda.core.files import atomic_path

SAVE_EVERY = 120.0
"""Seconds of work that a kill can cost."""

LOG_EVERY = 50
"""Steps that one line of the curve averages over."""

MILESTONES = 10
"""How often in a training the validation data are scored."""

Report = Callable[[int, int, dict[str, float]], None]
"""Called as report(samples done, samples in all, metrics)."""


class Course(NamedTuple):
    """Where a training has come to: its state, curve, scores on the way, and seconds spent."""

    state: Any
    curve: list[dict[str, float]]
    milestones: list[dict[str, float]]
    seconds: float


def run(
    folder: Path,
    mark: str,
    start: Any,
    step: Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]],
    batch: Callable[[int], Any],
    score: Callable[[Any], dict[str, float]],
    steps: int,
    size: int,
    report: Report = lambda *_: None,
) -> Course:
    """`steps` times step(state, batch(i)) → (state, metrics), from the last checkpoint in `folder` or `start`.

    start: a state with its number of steps as `step`, and metrics with a `loss`.  mark: what the training is; a
    folder of another one is refused.  score: of a state on validation data, MILESTONES times.  size: samples a step.
    Raises ValueError for a folder of another training, a corrupt checkpoint, and a loss that is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state, curve, milestones, spent = _restore(folder, mark, start)
    began = time.perf_counter()
    score_at = {steps * part // MILESTONES for part in range(1, MILESTONES + 1)}
    with ocp.CheckpointManager(folder.absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=1)) as manager:
        saved, since, pending = time.perf_counter(), time.perf_counter(), []
        for i in range(int(state.step), steps):
            state, metrics = step(state, batch(i))
            pending.append(metrics)
            last = i + 1 == steps
            if i + 1 in score_at:
                milestones.append({"samples": (i + 1) * size, **score(state)})
            if (i + 1) % LOG_EVERY == 0 or last:
                row = {name: float(np.mean([float(m[name]) for m in pending])) for name in pending[0]}
                if not np.isfinite(row["loss"]):
                    raise ValueError(f"training: the loss is no longer finite at step {i + 1}; lower learning_rate")
                rate = len(pending) * size / (time.perf_counter() - since)
                since, pending = time.perf_counter(), []
                curve.append({"samples": (i + 1) * size, **row})
                report((i + 1) * size, steps * size, row | {"samples_per_s": rate})
                # Only between two lines of the curve, so that a resumed curve has no seam.
                if time.perf_counter() - saved > SAVE_EVERY or last:
                    saved = time.perf_counter()
                    notes = {"mark": mark, "curve": curve, "milestones": milestones, "seconds": spent + saved - began}
                    _save(manager, i + 1, state, notes)
    write_curve(folder / "curve.csv", curve)
    return Course(state, curve, milestones, spent + time.perf_counter() - began)


def write_curve(path: Path, curve: list[dict[str, float]]) -> None:
    """The loss curve as CSV, written atomically."""
    with atomic_path(path, (".csv",)) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(curve[0]) if curve else ["samples"])
        writer.writeheader()
        writer.writerows(curve)


def _save(manager: ocp.CheckpointManager, step: int, state: Any, notes: dict[str, Any]) -> None:
    items = ocp.args.Composite(state=ocp.args.StandardSave(_plain(state)), notes=ocp.args.JsonSave(notes))
    manager.save(step, args=items)
    manager.wait_until_finished()


def _restore(folder: Path, mark: str, start: Any) -> tuple[Any, list, list, float]:
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


def _plain(state: Any) -> dict[str, jax.Array]:
    """The state as number → array, which Orbax stores whatever the containers are."""
    return {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(state))}
