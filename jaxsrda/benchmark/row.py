"""A row of a leaderboard: one method's scores under a protocol, and its file."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsrda.benchmark.protocol import Protocol
from jaxsrda.core.files import check_writable, write_json
from jaxsrda.core.provenance import same_code, stamped
from jaxsrda.core.records import described
from jaxsrda.experiment.registry import METHODS
from jaxsrda.scoring.fit import bootstrap_interval

KEPT = (
    "maer",
    "mssim_loss",
    "rmse",
    "crps",
    "spread_skill",
    "energy",
    "variogram",
    "crps_block8",
    "spread_skill_block8",
    "crps_gradient",
    "crps_laplacian",
    "crps_change",
    "energy_distance_members",
)
"""Scores that a row keeps: of points, and joint ones."""

COMPARED = ("maer", "crps", "energy")
"""Scores that are divided by the reference's."""


class Row:
    """What is scored so far, truth by truth; with a path, each addition is written at once.

    data: name; protocol: its name, fingerprint, tasks and seeds; method: its spec, settings and hash; truths: the
    digest of each, by seed; of each task the seeds, `KEPT` scores by truth, their means and intervals, seconds,
    members, command and provenance, and both with their seeds of what was scored earlier by another command or other
    code; the reference's hash, scores and provenance; cost; and text about it: a note.  command: of what is added.
    """

    def __init__(self, name: str, protocol: Protocol, method: Mapping[str, Any], path: Path | None = None):
        self.protocol, self.path, self.command = protocol, path, ""
        self.data: dict[str, Any] = {
            "name": name,
            "protocol": {
                "name": protocol.name,
                "fingerprint": protocol.fingerprint,
                "tasks": list(protocol.task_names),
                "truth_seeds": list(protocol.truth_seeds),
            },
            "method": json.loads(json.dumps(described(method))),
            "truths": {},
            "tasks": {},
            "cost": {},
        }

    @classmethod
    def opened(
        cls,
        path: str | Path | None,
        name: str,
        protocol: Protocol,
        method: Mapping[str, Any],
        about: Mapping[str, str] | None = None,
    ) -> Row:
        """The row that a file holds, or an empty one for it; about: text that it is given, such as its command.

        What a method's earlier source scored is made anew, with a warning.  Raises ValueError for a file of something
        else: another method, other settings, another protocol; and for the name of another method of `METHODS`.
        """
        if name in METHODS and method.get("spec") != name:
            raise ValueError(
                f"name: {name} is a method of ours, and this is {method.get('spec')}; choose another --name"
            )
        row = cls(name, protocol, method, None if path is None else check_writable(path, (".json",)))
        said = {key: text for key, text in (about or {}).items() if text}
        row.command = said.pop("command", "")
        row.data |= said
        if row.path is None or not row.path.exists():
            return row
        found = read_row(row.path)
        for what in ("protocol", "name"):
            if found[what] != row.data[what]:
                raise ValueError(
                    f"{row.path}: a row of another {what}, expected {name} under {protocol.name}; move it, or choose "
                    "another --out or --name"
                )
        for what in ("spec", "settings"):
            if found["method"].get(what) != row.data["method"].get(what):
                raise ValueError(
                    f"{row.path}: a row of {found['method'].get('spec')} with other settings; move it, or choose "
                    "another --name"
                )
        if found["method"].get("hash") != row.data["method"].get("hash"):
            warnings.warn(f"{row.path}: the method has changed since; it is scored anew", stacklevel=3)
            return row
        row.data = found | said
        return row

    def missing(self, task: str, seeds: Sequence[int], any_code: bool = False) -> tuple[int, ...]:
        """The seeds of a task that are not scored yet, or by other code than this unless that counts too."""
        found = self.data["tasks"].get(task)
        if found is None or not all(same_code(each, any_code) for each in made(found)):
            return tuple(seeds)
        return tuple(seed for seed in seeds if seed not in found["seeds"])

    def check_truths(self, digests: Mapping[Any, str]) -> None:
        """ValueError if truths of the row are not the same, bit by bit, as these."""
        for seed, digest in digests.items():
            known = self.data["truths"].setdefault(str(seed), digest)
            if known != digest:
                raise ValueError(
                    f"{self.path}: its truth {seed} is not this machine's, bit by bit; finish it where it was begun, "
                    "or choose another --out"
                )

    def add(
        self,
        task: str,
        seeds: Sequence[int],
        per_truth: Mapping[str, Any],
        seconds: Mapping[str, float],
        members: int,
        any_code: bool = False,
    ) -> None:
        """Add the scores of some truths; those that other code made go, unless any code will do: they keep its name."""
        stamp = stamped({"command": self.command})
        fresh = {"seeds": [], "members": members, "per_truth": {}, "seconds": {"compile": 0.0, "run": 0.0}} | stamp
        entry = self.data["tasks"].get(task, fresh)
        if not all(same_code(each, any_code) for each in made(entry)):
            entry = fresh
        elif not same_code(entry) or entry["command"] != self.command:
            entry["earlier"] = list(made(entry))
            entry |= stamp
        self.data["tasks"][task] = entry
        entry["seeds"] += list(seeds)
        order = np.argsort(entry["seeds"], kind="stable")
        entry["seeds"] = [entry["seeds"][i] for i in order]
        for score in KEPT:
            if score in per_truth:
                values = entry["per_truth"].get(score, []) + [float(value) for value in per_truth[score]]
                entry["per_truth"][score] = [values[i] for i in order]
        entry["seconds"] = {part: entry["seconds"][part] + seconds.get(part, 0.0) for part in entry["seconds"]}
        entry["scores"] = {score: interval(values) for score, values in entry["per_truth"].items()}
        entry.pop("reference", None)
        self.save()

    def compared(self, task: str, reference: str, any_code: bool = False) -> bool:
        """Whether all truths of a task have the scores of the reference of this hash beside them."""
        entry = self.data["tasks"].get(task, {})
        other = entry.get("reference", {})
        known = other.get("hash") == reference and same_code(other, any_code)
        return known and other.get("seeds") == entry["seeds"]

    def compare(self, task: str, beside: Row) -> None:
        """Keep the scores of a reference on the same truths, as far as it has them."""
        mine, other = (each.data["tasks"][task] for each in (self, beside))
        seeds = [seed for seed in mine["seeds"] if seed in other["seeds"]]
        at = [other["seeds"].index(seed) for seed in seeds]
        kept = {score: [other["per_truth"][score][i] for i in at] for score in COMPARED}
        mine["reference"] = {
            "method": beside.data["name"],
            "hash": beside.data["method"]["hash"],
            "seeds": seeds,
            "per_truth": kept,
            "provenance": other["provenance"],
        }
        self.save()

    def ratio(self, task: str, score: str = "maer") -> dict[str, float] | None:
        """A score over the reference's, truth by truth: mean and interval; None without a reference or the score."""
        return ratio_of(self.data["tasks"][task], score)

    def cost_is_due(self, reference: str | None, any_code: bool = False) -> bool:
        """Whether the cost was not measured yet, or not beside the reference of this hash, or of other code."""
        cost = self.data["cost"]
        beside = reference is None or (cost and cost.get("reference_hash") == reference)
        return not cost or not beside or not same_code(cost, any_code)

    def put_cost(self, task: str, cost: Mapping[str, Any]) -> None:
        """Keep what a cycle of a task costs."""
        self.data["cost"] = stamped({"task": task, **cost})
        self.save()

    def save(self) -> None:
        """Write the file, if there is one."""
        if self.path is not None:
            write_json(self.path, self.data)


def made(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Of a task's entry: seeds, command and provenance of each run that added to it, earlier ones first."""
    earlier = entry.get("earlier", [])
    yield from earlier
    before = {seed for each in earlier for seed in each["seeds"]}
    rest = [seed for seed in entry["seeds"] if seed not in before]
    yield {"seeds": rest, "command": entry["command"], "provenance": entry["provenance"]}


def interval(values: Any) -> dict[str, float]:
    """Mean and 95 % bootstrap interval over truths."""
    return dict(zip(("mean", "low", "high"), map(float, bootstrap_interval(values))))


def ratio_of(entry: Mapping[str, Any], score: str) -> dict[str, float] | None:
    """A score of a task's entry over the reference's, truth by truth: mean and interval; None without either."""
    other = entry.get("reference", {})
    if score not in other.get("per_truth", {}) or score not in entry["per_truth"]:
        return None
    own = dict(zip(entry["seeds"], entry["per_truth"][score]))
    return interval([own[seed] / value for seed, value in zip(other["seeds"], other["per_truth"][score])])


def read_row(path: Path) -> dict[str, Any]:
    """The data of a row's file; ValueError for a file that is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected the file of a row, could not read it: {error}") from None
    if not isinstance(found, dict) or not {"name", "protocol", "method", "truths", "tasks"} <= set(found):
        raise ValueError(f"{path}: expected the file of a row, found other JSON; move it, or choose another --out")
    for entry in found["tasks"].values():
        entry.setdefault("command", found.get("command", ""))  # rows of before had one for all tasks
    return found
