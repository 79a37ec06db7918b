"""A run of the suite: subjects in order, and the record of what they cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from benchmarks.case import QUICK, Pace, grouped, measured
from benchmarks.machine import machine
from benchmarks.subjects import SUBJECTS, peers, solver
from jaxsrda.core.costs import bandwidth, matrix_rate
from jaxsrda.core.provenance import stamped, this_run
from jaxsrda.experiment.rates import measured_rates

Record = dict[str, Any]
Said = Callable[[str, dict[str, Any]], None]

COUNTING = (
    "XLA counts the body of a loop once; where one loop holds nearly all of a program's work its count is multiplied "
    "by the loop's length, and elsewhere operations and bytes are left out."
)
"""What the counts of operations and bytes are."""


def run(names: Sequence[str], quick: bool, said: Said) -> Record:
    """The record of some subjects; `said(subject, row)` hears of each row as it comes."""
    jax.config.update("jax_enable_compilation_cache", False)  # else compile times are those of a look-up
    this_run()  # the code as it is now
    pace = QUICK if quick else Pace()
    record: Record = {"machine": machine(), "quick": quick, "counting": COUNTING, "left_out": []}
    record["roof"] = {
        "matrix_flops_per_second": matrix_rate(1024 if quick else 4096, budget=pace.budget),
        "bytes_per_second": bandwidth(64 if quick else 256, budget=pace.budget),
    }
    record["subjects"] = {}
    for name in names:
        rows = record["subjects"][name] = []
        for group in grouped(SUBJECTS[name](quick)):
            for row in measured(group, pace):
                rows.append(stamped(row | {"share_of_roof": share_of_roof(row, record["roof"])}))
                said(name, rows[-1])
        if name == "solver":
            record["left_out"] += peers.missing()
            record["agreement"] = peers.agreement()
            record["errors"] = solver.errors(quick)
            record["ratios"] = ratios(rows, record["errors"])
    record["rates"] = [rate._asdict() for rate in measured_rates(quick)]
    record["machine"]["load_after"] = machine()["load"]
    return stamped(record)


def share_of_roof(row: dict[str, Any], roof: dict[str, float]) -> float | None:
    """Least time that the measured matrix rate and bandwidth allow, over the time taken; None without counts.

    Bytes are those between XLA's operations: from caches, where arrays fit, so a share may pass 1.
    """
    if not row["flops"] or not row["moved_bytes"]:
        return None
    least = max(row["flops"] / roof["matrix_flops_per_second"], row["moved_bytes"] / roof["bytes_per_second"])
    return least / row["least_seconds"]


def ratios(rows: Sequence[dict[str, Any]], errors: dict[str, float]) -> dict[str, Any]:
    """Our time over the peers', per point and tendency, and the paper's scheme's over ours, both from medians.

    paper: for the fewest ETDRK4 steps a frame whose error is below `solver.WANTED`.
    """
    found: dict[str, Any] = {"peers": []}
    run = [row for row in rows if "peer" in row["size"]]
    for own in (row for row in run if row["size"]["peer"] in peers.OWN):
        where = {name: own["size"][name] for name in ("grid", "members")}
        for row in (
            row for row in run if where.items() <= row["size"].items() and row["size"]["peer"] not in peers.OWN
        ):
            ratio = per_unit(own) / per_unit(row)
            found["peers"].append(where | {"of": own["size"]["peer"], "to": row["size"]["peer"], "ratio": ratio})
    by_steps = {(row["size"]["scheme"], row["size"]["steps"]): row for row in rows if "scheme" in row["size"]}
    enough = [int(steps) for steps, error in errors.items() if error < solver.WANTED]
    slow = by_steps["rk2", solver.PAPER_STEPS]["median_seconds"]
    timed = [steps for steps in enough if ("etdrk4", steps) in by_steps]
    found["paper"] = {str(steps): slow / by_steps["etdrk4", steps]["median_seconds"] for steps in timed}
    return found


def per_unit(row: dict[str, Any]) -> float:
    """Median seconds of a unit of a case."""
    return row["median_seconds"] * row["seconds_per_unit"] / row["least_seconds"]
