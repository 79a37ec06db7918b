"""The page of the leaderboard: the rows of each protocol, ranked task by task among rows of the same truths."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from experiments.tables.origin import made_at
from experiments.tables.records import PROTOCOLS, Records, experiment
from experiments.tables.text import bootstrap, bullets, interval, page, prose, table

Row = dict[str, Any]

REFERENCE = "enkf-lagrange"
"""The method by whose scores others are divided."""

SCORES = {"maer": "MAER", "crps": "CRPS", "spread_skill": "spread–skill", "energy": "energy", "variogram": "variogram"}


def leaderboard_page(records: Records) -> str:
    """The page of all protocols."""
    return page(
        "# Leaderboard",
        prose(
            "Scores of methods under the protocols of [docs/benchmark.md](../../docs/benchmark.md), which says how to "
            "add a row. All are better the smaller they are, but spread–skill, which is best at 1. MAER is "
            "Σ|ω̂ − ω| / Σ|ω| of the ensemble mean; the intervals are over the truths. A ratio is to the "
            f"`{REFERENCE}` of the same machine on the same truths, truth by truth. Machines round differently: ranks "
            "are among rows of the same truths, bit by bit, and ratios compare others. " + agreement(records)
        ),
        *(section for protocol in PROTOCOLS for section in sections(records, protocol)),
    )


def agreement(records: Records) -> str:
    """How long truths agree that differ in their rounding, in a sentence; nothing without the record."""
    found = records.get("experiments/truth_agreement")
    if found is None:
        return ""
    apart, times = np.max(found["difference"], 0), np.array(found["times"])
    said = ", ".join(f"{apart[times == time][0]:.1g} at t = {time}" for time in (5, 10, 15, 20, 23))
    return (
        f"{len(found['seeds'])} truths in single and in double precision, of the same seeds, differ by at most {said} "
        f"(Σ|ω₁ − ω₂| / Σ|ω₂|; `{experiment('truth_agreement')}`)."
    )


def sections(records: Records, protocol: str) -> Iterable[str]:
    """The sections of one protocol; none without rows."""
    rows = [row for name, row in records.items() if name.startswith(f"leaderboard/{protocol}/")]
    if not rows:
        return
    check_reference(rows, protocol)
    found = rows[0]["protocol"]
    tasks = found["tasks"]
    yield f"## {protocol}"
    yield prose(
        f"{len(found['truth_seeds'])} truths (fingerprint `{found['fingerprint']}`). MAER by task, in the order of "
        "names, since truths differ (ranks are below), with the number of truths in brackets where it is not all of "
        "them; – where a method was not run, or cannot take the observations. The last column is the time of "
        "a cycle over that of the reference, measured in turn in one process."
    )
    yield overview(rows, tasks)
    for task in tasks:
        yield from task_section(rows, protocol, task)
    yield f"### How the rows of {protocol} were made"
    yield bullets(*(said(row) for row in sorted(rows, key=lambda row: row["name"])))
    yield made_at(each for row in rows for entry in row["tasks"].values() for each in runs(entry))


def check_reference(rows: list[Row], protocol: str) -> None:
    """ValueError for rows that are divided by a reference of different settings."""
    found: dict[str, list[str]] = {}
    for row in rows:
        beside = [entry["reference"] for entry in row["tasks"].values() if "reference" in entry]
        hashes = [each.get("hash") for each in beside if each["method"] == REFERENCE]
        hashes += [row["cost"].get("reference_hash")] if timed(row) else []
        hashes += [row["method"]["hash"]] if is_reference(row) else []
        for each in dict.fromkeys(hashes):
            found.setdefault(str(each), []).append(row["name"])
    if len(found) > 1:
        rows_of = "; ".join(f"{each}: {', '.join(names)}" for each, names in found.items())
        raise ValueError(
            f"leaderboard/{protocol}: expected one {REFERENCE} for all rows, got settings of hash {rows_of}; run the "
            "commands of the older rows again"
        )


def is_reference(row: Row) -> bool:
    """Whether a row is of the reference itself: by its method, without options, not by its name alone."""
    method = row["method"]
    return row["name"] == method["spec"] == REFERENCE and not method.get("options")


def timed(row: Row) -> bool:
    """Whether a row has its time over the reference's."""
    found = row["cost"]
    return bool(found) and found["ratio"] is not None and found["reference"] == REFERENCE


def overview(rows: list[Row], tasks: list[str]) -> str:
    """MAER of each row by task, and its cost."""

    def cell(row: Row, task: str) -> str:
        if task not in row["tasks"]:
            return "–"
        mean, count = maer(row, task)["mean"], len(row["tasks"][task]["seeds"])
        return f"{mean:.3f}" if complete(row, task) else f"{mean:.3f} ({count})"

    lines = [
        [f"`{row['name']}`", row.get("note", ""), *(cell(row, task) for task in tasks), cost(row)]
        for row in sorted(rows, key=lambda row: row["name"])
    ]
    return table(["method", "", *tasks, "time"], lines)


def task_section(rows: list[Row], protocol: str, task: str) -> Iterable[str]:
    """A table for each set of truths that rows of a task have in common, that of most truths first."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if task in row["tasks"]:
            seeds = row["tasks"][task]["seeds"]
            groups.setdefault(tuple(f"{seed}:{row['truths'][str(seed)]}" for seed in seeds), []).append(row)
    if not groups:
        return
    yield f"### {task} ({protocol})"
    most = max(map(len, groups))
    for number, (truths, group) in enumerate(sorted(groups.items(), key=lambda item: (-len(item[0]), -len(item[1])))):
        seeds = [int(truth.partition(":")[0]) for truth in truths]
        another = ", those of another machine" if number and len(truths) == most else ""
        yield f"{len(truths)} truth{'s' * (len(truths) > 1)} ({named(seeds)}){another}:"
        reference = next((row for row in rows if is_reference(row) and has(row, task, truths)), None)
        lines = []
        for rank, row in enumerate(sorted(group, key=lambda row: maer(row, task)["mean"]), 1):
            entry = row["tasks"][task]
            values = [entry["per_truth"].get(score) for score in SCORES]
            cells = ["–" if each is None else interval(bootstrap(each)) for each in values]
            lines.append([rank, f"`{row['name']}`", entry["members"], *cells, ratio(row, reference, task)])
        yield table(["", "method", "members", *SCORES.values(), "MAER ratio"], lines)


def named(seeds: list[int]) -> str:
    """Seeds in words."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    whole = seeds == list(range(seeds[0], seeds[-1] + 1))
    return f"seeds {seeds[0]} to {seeds[-1]}" if whole else f"seeds {', '.join(map(str, seeds))}"


def has(row: Row, task: str, truths: Iterable[str]) -> bool:
    """Whether a row was scored on these truths (seed:digest) of a task."""
    seeds = row["tasks"].get(task, {}).get("seeds", [])
    return set(truths) <= {f"{seed}:{row['truths'][str(seed)]}" for seed in seeds}


def maer(row: Row, task: str) -> dict[str, float]:
    """The MAER of a row on a task."""
    return bootstrap(row["tasks"][task]["per_truth"]["maer"])


def complete(row: Row, task: str) -> bool:
    """Whether all truths of the protocol were run."""
    return row["tasks"][task]["seeds"] == row["protocol"]["truth_seeds"]


def ratio(row: Row, reference: Row | None, task: str) -> str:
    """The MAER over the reference's: that of a row of the same truths, or the one that was run beside it."""
    entry = row["tasks"][task]
    beside = entry.get("reference", {})
    if reference is not None:
        other = dict(zip(reference["tasks"][task]["seeds"], reference["tasks"][task]["per_truth"]["maer"]))
    elif beside.get("method") == REFERENCE:
        other = dict(zip(beside["seeds"], beside["per_truth"]["maer"]))
    else:
        return "–"
    pairs = [(own, other[seed]) for seed, own in zip(entry["seeds"], entry["per_truth"]["maer"]) if seed in other]
    return interval(bootstrap([own / of for own, of in pairs]))


def cost(row: Row) -> str:
    """The time of a cycle over the reference's."""
    if is_reference(row):
        return "1"
    return f"{row['cost']['ratio']:.2g}" if timed(row) else "–"


def said(row: Row) -> str:
    """A row's commands."""
    found = (each["command"] for entry in row["tasks"].values() for each in runs(entry))
    return f"`{row['name']}`: " + "; ".join(f"`{command}`" for command in dict.fromkeys(found))


def runs(entry: Row) -> list[Row]:
    """What has the command and the provenance of each run that added to a task's entry."""
    return [*entry.get("earlier", []), entry]
