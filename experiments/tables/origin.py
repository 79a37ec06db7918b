"""Where the rows of a table come from: commits, dates and devices, and the truths behind a choice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from experiments.tables.text import prose

FIRST_VALIDATION = 1000
"""First seed of the validation truths."""


def described(provenance: dict[str, Any]) -> str:
    """Commit, its state, and the device of one run."""
    commit, dirty = provenance["commit"], provenance["dirty"]
    known = commit != "unknown"
    code = f"commit `{commit[:10]}`" if known else "an unknown commit"
    code += " with changes" if known and dirty else ""
    return f"{code} (source `{provenance['source']}`, {provenance['device']['kind']})"


def made_at(rows: Iterable[dict[str, Any]]) -> str:
    """The commits that made some rows, in a sentence; empty where none is on record."""
    rows = list(rows)
    runs = [row["provenance"] for row in rows if "provenance" in row]
    if not runs:
        return ""
    days: dict[str, list[str]] = {}
    for run in runs:
        days.setdefault(described(run), []).append(run["date"][:10])
    spans = (f"{code}, {' to '.join(dict.fromkeys((min(dates), max(dates))))}" for code, dates in days.items())
    older = len(rows) - len(runs)
    rest = f" The record does not say which code made {older} of the {len(rows)} rows." if older else ""
    return prose(f"The rows were made at {'; '.join(spans)}.{rest}")


def noted(table: str, rows: Iterable[dict[str, Any]]) -> str:
    """A table, and below it the commits that made its rows, where they are on record."""
    return "\n\n".join(filter(None, [table, made_at(rows)]))


def on_test_truths(settings: dict[str, Any]) -> bool:
    """Whether a record is of test truths; older ones, which do not say so, are."""
    return settings.get("test_truths", True)


def truths(settings: dict[str, Any]) -> str:
    """Kind and seeds of the truths of a record."""
    kind, first = ("test", 0) if on_test_truths(settings) else ("validation", FIRST_VALIDATION)
    return f"{settings['truths']} {kind} truths (seeds {first} to {first + settings['truths'] - 1})"


def no_choice(settings: dict[str, Any], chosen: str) -> str:
    """What must be said where the package's defaults are among the rows of test truths."""
    if not on_test_truths(settings):
        return ""
    return (
        f"{chosen} is a default of the package and one of these rows. The rows are from test truths, and no record of "
        "validation truths supports the choice, so its scores may be slightly too good."
    )
