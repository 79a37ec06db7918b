"""The training loop on the host: checkpoints, curves, and the same curve again after a kill."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxsrda.core.checkpoints import Checkpoints
from jaxsrda.core.files import atomic_path
from jaxsrda.core.interrupts import goes_on, interruptible
from jaxsrda.core.trees import from_numbered, numbered

SAVE_EVERY = 120.0
"""Seconds of work that a kill can cost."""

LOG_EVERY = 50
"""Steps that one line of the curve averages over."""

MILESTONES = 10
"""How often in a training the validation data are scored."""

Report = Callable[[int, int, dict[str, float]], None]
"""Called as report(samples done, samples in all, metrics)."""


class Work(NamedTuple):
    """A training: `steps` times step(state, batch(i)) → (state, metrics), from `start`.

    start: a state with its number of steps as `step`, and metrics with a `loss`; score: of a state on validation data;
    size: samples a step.
    """

    start: Any
    step: Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]]
    batch: Callable[[int], Any]
    score: Callable[[Any], dict[str, float]]
    steps: int
    size: int


class Course(NamedTuple):
    """Where a training has come to: its state, curve, scores on the way, and seconds spent."""

    state: Any
    curve: list[dict[str, float]]
    milestones: list[dict[str, float]]
    seconds: float


def run(folder: Path, mark: str, work: Work, report: Report = lambda *_: None) -> Course:
    """Do the work, from the last checkpoint in `folder` if there is one; it is scored MILESTONES times.

    mark: what the training is; a folder of another one is refused.  Raises ValueError for a folder of another training,
    a corrupt checkpoint, and a loss that is not finite.
    """
    with interruptible(goes_on(folder)) as stopped:
        return _run(folder, mark, work, report, stopped)


def _run(folder: Path, mark: str, work: Work, report: Report, stopped: Callable[[], bool]) -> Course:
    steps, size = work.steps, work.size
    folder.mkdir(parents=True, exist_ok=True)
    store = Checkpoints(folder, mark)
    state, curve, milestones, spent = _restored(store, work.start)
    began = time.perf_counter()
    score_at = {steps * part // MILESTONES for part in range(1, MILESTONES + 1)}
    saved, since, pending = time.perf_counter(), time.perf_counter(), []
    for i in range(int(state.step), steps):
        state, metrics = work.step(state, work.batch(i))
        pending.append(metrics)
        last = i + 1 == steps
        if i + 1 in score_at:
            milestones.append({"samples": (i + 1) * size, **work.score(state)})
        if (i + 1) % LOG_EVERY == 0 or last:
            row = {name: float(np.mean([float(m[name]) for m in pending])) for name in pending[0]}
            if not np.isfinite(row["loss"]):
                raise ValueError(f"training: the loss is no longer finite at step {i + 1}; lower learning_rate")
            rate = len(pending) * size / (time.perf_counter() - since)
            since, pending = time.perf_counter(), []
            curve.append({"samples": (i + 1) * size, **row})
            report((i + 1) * size, steps * size, row | {"samples_per_s": rate})
            # Only between two lines of the curve, so that a resumed curve has no seam.
            if stopped() or time.perf_counter() - saved > SAVE_EVERY or last:
                saved = time.perf_counter()
                notes = {"curve": curve, "milestones": milestones, "seconds": spent + saved - began}
                store.save(i + 1, numbered(state), notes)
            if stopped():
                raise KeyboardInterrupt
    store.close()
    write_curve(folder / "curve.csv", curve)
    return Course(state, curve, milestones, spent + time.perf_counter() - began)


def write_curve(path: Path, curve: list[dict[str, float]]) -> None:
    """The loss curve as CSV, written atomically."""
    with atomic_path(path, (".csv",)) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(curve[0]) if curve else ["samples"])
        writer.writeheader()
        writer.writerows(curve)


def _restored(store: Checkpoints, start: Any) -> tuple[Any, list, list, float]:
    """The last checkpoint's state, curve, milestones and seconds, or the start."""
    steps = store.steps()
    if not steps:
        return start, [], [], 0.0
    kept = store.restore(steps[-1], numbered(start))
    state = from_numbered(jax.tree.structure(start), kept.arrays)
    return state, kept.notes["curve"], kept.notes["milestones"], kept.notes["seconds"]
