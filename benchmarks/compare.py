"""Two records of the suite: which cases became slower or heavier."""

from __future__ import annotations

from typing import Any

SAME = ("cpu", "cores", "cores_used", "devices")
"""What of the machine must be the same for times to compare."""

MEASURES = {"least_seconds": "slower", "memory_bytes": "heavier"}
"""What is compared, and what a larger number means."""


def rows_of(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """All rows by subject and name."""
    return {f"{name}: {row['name']}": row for name, rows in record["subjects"].items() for row in rows}


def check_same_machine(before: dict[str, Any], after: dict[str, Any]) -> None:
    """ValueError for records of different machines."""
    for name in SAME:
        old, new = before["machine"].get(name), after["machine"].get(name)
        if old != new:
            raise ValueError(
                f"compare: expected records of one machine, got {name} {old} and {new}; run both on one, or give "
                "--any-machine"
            )


def compared(before: dict[str, Any], after: dict[str, Any], threshold: float) -> tuple[list[dict[str, Any]], list[str]]:
    """Changes of cases that both records have, the worst first, and the names that only one has.

    A change is worse if the later number is more than `threshold` times the earlier one, better if the earlier is more
    than `threshold` times the later.  ValueError for a threshold of 1 or less and for records without a common case.
    """
    if threshold <= 1:
        raise ValueError(f"threshold: expected a number above 1, got {threshold:g}")
    old, new = rows_of(before), rows_of(after)
    common = [name for name in old if name in new]
    if not common:
        raise ValueError("compare: expected records with cases of the same names, found none in common")
    changes = []
    for name in common:
        for measure, worse in MEASURES.items():
            a, b = old[name][measure], new[name][measure]
            if not a or not b:
                continue
            ratio = b / a
            verdict = worse if ratio > threshold else "better" if ratio < 1 / threshold else "same"
            changes.append({"case": name, "measure": measure, "ratio": ratio, "verdict": verdict})
    changes.sort(key=lambda change: -change["ratio"])
    return changes, sorted(set(old) ^ set(new))
