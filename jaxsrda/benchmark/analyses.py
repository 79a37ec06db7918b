"""Rows of analyses that another program made, from its files' arrays."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxsrda.benchmark.entrant import entrant
from jaxsrda.benchmark.protocol import truth_digest
from jaxsrda.benchmark.row import Row
from jaxsrda.benchmark.run import Scorer, Selection, compare
from jaxsrda.core.progress import Progress
from jaxsrda.cycling.assimilator import Setup
from jaxsrda.experiment.evaluate import evaluate
from jaxsrda.experiment.truth import default_climatology, simulate_truth

Fields = Mapping[str, Any]
"""Variables of a file of analyses: of omega, omega_mean and omega_std those that it has, as arrays or `Labelled`."""


@dataclasses.dataclass(frozen=True)
class Given:
    """Analyses of some tasks.

    name: of the row; spec: where they are; read: task → `Fields`; digests: of the files, by task.
    """

    name: str
    spec: str
    read: Callable[[str], Fields]
    digests: Mapping[str, str]


def score_analyses(
    given: Given,
    plan: Selection,
    path: str | Path | None = None,
    progress: Progress = lambda *_: None,
    about: Mapping[str, str] | None = None,
) -> Row:
    """The row of analyses omega(truth, member, time, x, y), written to `path` after each task.

    plan: its tasks are those that there are analyses of, others in the file stay; about: text for the row.
    Analyses of a task that changed are scored anew, with a warning.  Raises ValueError for analyses that do not match
    the truths: another number of truths, other times, another grid, values that are not finite.
    """
    protocol, testbed = plan.protocol, plan.protocol.testbed
    row = Row.opened(path, given.name, protocol, {"spec": "analyses", "settings": {}, "hash": ""}, about)
    truths = simulate_truth(testbed, plan.seeds, progress=progress)
    row.check_truths(dict(zip(plan.seeds, map(truth_digest, truths))))
    other = None if plan.reference == "none" else entrant(plan.reference)
    setup = None if other is None else Setup(testbed, default_climatology(testbed))
    for name in plan.tasks:
        source = {"file": given.spec, "digest": given.digests[name]}
        known = row.data["tasks"].get(name, {}).get("analyses", {})
        if known.get("digest") != source["digest"] and row.data["tasks"].pop(name, None) is not None:
            warnings.warn(f"{row.path}: the analyses of {name} have changed since; they are scored anew", stacklevel=2)
        if row.missing(name, plan.seeds, plan.reuse_any_code):
            progress(f"{name}, {given.name}", 0, len(plan.seeds))
            add(given.read(name), plan, name, truths, row)
            row.data["tasks"][name]["analyses"] = source
            row.save()
        if other is not None and setup is not None:
            compare(row, other, Scorer(plan, protocol.task(name), setup, truths), progress)
    row.save()
    return row


def add(fields: Fields, plan: Selection, task: str, truths: np.ndarray, row: Row) -> None:
    """Score the analyses of one task and add them to a row."""
    testbed = plan.protocol.testbed
    begin = testbed.frame * testbed.frames_per_cycle
    try:
        mean, std, members = (fields.get(variable) for variable in ("omega_mean", "omega_std", "omega"))
        result = evaluate(testbed, truths, mean, std, members, joint=members is not None)
        wanted = testbed.frames - testbed.frames_per_cycle
        if (scored := next(iter(result.series.values())).shape[1]) != wanted:
            raise ValueError(f"expected all {wanted} frames from t = {begin:g} on, got {scored}; give every time")
    except ValueError as error:
        raise ValueError(f"task {task}: {error}") from None
    count = 1 if result.members is None else result.members.shape[1]
    row.add(task, plan.seeds, result.per_truth, {}, count, plan.reuse_any_code)
