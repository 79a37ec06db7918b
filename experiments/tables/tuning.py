"""The page's section on the tuning of filters."""

from __future__ import annotations

from typing import Any

from experiments.tables.origin import noted
from experiments.tables.records import TUNING, Records
from experiments.tables.text import prose, table

TUNED = ("enkf-hr", "enkf-sr", "enkf-dual", "enkf-lagrange", "oi-lagrange", "enkf-dual-lagrange")
"""Filters with a record of their tuning."""

KNOBS = ("localization", "additive", "rtps", "representativeness", "inflation", "viscosity")
"""Settings that the tunings vary."""

MOST = 10
"""Rows of a table."""

Trial = tuple[str, int, int, tuple[int, ...]]
"""What scores compare within: layout, members, frames (0 for all), truths."""


def tuning(records: Records) -> str:
    """Scores of the settings that were tried for each filter, a table for each kind of trial."""
    parts = ["## Tuning of the filters"]
    parts.append(
        prose(
            "Settings were tried on validation truths, which no other table uses. The row in bold has the lowest CRPS "
            "of its table; RTPS is relaxation to prior spread, representativeness is a variance that is added to R, "
            "and a viscosity of 0 stands for the model's own."
        )
    )
    for method in TUNED:
        runs = records[f"benchmarks/tune_{method}"]["runs"]
        trials: dict[Trial, list[dict[str, Any]]] = {}
        for run in runs:
            trials.setdefault(trial(run), []).append(run)
        parts.append(f"### `{method}`")
        for kind, some in trials.items():
            parts += [prose(heading(kind, some, method)), noted(rows(method, some), some)]
    return "\n\n".join(parts)


def trial(run: dict[str, Any]) -> Trial:
    """The kind of trial that a run is of."""
    label = run["label"]
    return label["layout"], label["config"]["members"], label.get("frames") or 0, tuple(label["truth_seeds"])


def heading(kind: Trial, runs: list[dict[str, Any]], method: str) -> str:
    """What a table shows."""
    layout, members, frames, seeds = kind
    shown = "all" if len(runs) <= MOST else f"the best {MOST}"
    some = f"the first {frames} frames of " if frames else ""
    return (
        f"{members} members, layout `{layout}`, {some}truths {seeds[0]} to {seeds[-1]}, {shown} of {len(runs)} "
        f"settings. The record is [`results/tune_{method}.json`](results/tune_{method}.json)."
    )


def rows(method: str, runs: list[dict[str, Any]]) -> str:
    """The best runs, in the order that they were tried."""
    best = sorted(runs, key=crps)[:MOST]
    lines = []
    for run in [run for run in runs if run in best]:
        config, seeds = {"viscosity": 0.0} | run["label"]["config"], run["label"]["truth_seeds"]
        options = " ".join(f"--{knob} {config[knob]:g}" for knob in KNOBS)
        if run["label"].get("frames"):
            options += f" --frames {run['label']['frames']}"
        command = f"{TUNING} {method} --members {config['members']} {options}"
        cells = [f"{config[knob]:g}" for knob in KNOBS]
        cells += [f"{run['mean'][score]:.3f}" for score in ("maer", "crps", "spread_skill")]
        if run is best[0]:
            cells = [f"**{cell}**" for cell in cells]
        lines.append([*cells, f"`{command} --truths {len(seeds)}`"])
    return table([*KNOBS, "MAER", "CRPS", "spread–skill", "command"], lines)


def crps(run: dict[str, Any]) -> float:
    """The mean CRPS of a run; infinite where it did not stay finite."""
    value = run["mean"]["crps"]
    return float("inf") if value is None else value
