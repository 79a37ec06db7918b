"""What a person sees of a sweep: the best settings, the whole table as CSV, and pictures."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from rich.table import Table

from jaxsrda.app.report import SHOWN
from jaxsrda.core.files import atomic_path
from jaxsrda.experiment.space import varied
from jaxsrda.experiment.trials import SweepResult, Trial

TOP = 10
"""Settings of the table on the screen."""

BESIDE = ("maer", "crps", "spread_skill")
"""Scores that are shown beside the one that settings are judged by."""


def headline(result: SweepResult) -> str:
    """One line: what was run, how many settings stayed finite, what they are judged by."""
    trials, given = result.trials, result.experiment
    lost, pruned = sum(not t.finite for t in trials), sum(t.pruned for t in trials)
    more = f", {pruned} given up early" * (pruned > 0) + f", {lost} diverged" * (lost > 0)
    truths, settings = len(given.truth), len(trials)
    plural = "s" if truths > 1 else "", "s" if settings > 1 else ""
    heading = SHOWN.get(result.by, result.by)
    return f"{given.name}, {settings} setting{plural[1]} × {truths} truth{plural[0]}{more}; best by {heading}"


def columns(result: SweepResult) -> list[str]:
    """The options that differ between settings; all of them if there is one setting."""
    settings = [trial.parameters for trial in result.trials]
    return list(varied(settings)) or list(settings[0])


def best_table(result: SweepResult, top: int = TOP) -> Table:
    """The best settings: the options that differ, and scores, the one that settings are judged by first."""
    names, scores = columns(result), list(dict.fromkeys([result.by, *BESIDE]))
    table = Table()
    table.add_column("", justify="right")
    for name in names:
        table.add_column(name, justify="right")
    for name in scores:
        table.add_column(SHOWN.get(name, name), justify="right", style="bold" if name == result.by else "")
    for place, trial in enumerate(result.ranked()[:top], 1):
        values = [shown(trial.parameters.get(name)) for name in names]
        table.add_row(str(place), *values, *(f"{trial.mean[name]:.4f}" for name in scores))
    return table


def shown(value: Any) -> str:
    """A value of an option; empty where the preset's own is kept."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return f"{value:.4g}"


def write_csv(path: str | Path, result: SweepResult) -> None:
    """All settings in order, a line each: options, mean scores (empty where it diverged or was given up), whether all
    was finite, whether it was given up."""
    names = list(dict.fromkeys(name for trial in result.trials for name in trial.parameters))
    scores = list(dict.fromkeys(name for trial in result.trials for name in trial.per_truth))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, *scores, "finite", "pruned"])
    for trial in result.trials:
        writer.writerow([*(trial.parameters.get(name, "") for name in names), *_cells(trial, scores)])
    with atomic_path(path, (".csv",)) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _cells(trial: Trial, scores: list[str]) -> list[Any]:
    mean = [trial.mean.get(name, math.nan) for name in scores]
    state = [str(trial.finite).lower(), str(trial.pruned).lower()]
    return [value if math.isfinite(value) else "" for value in mean] + state


def pictures(folder: Path, result: SweepResult) -> list[Path]:
    """Parallel coordinates of all settings, and heat maps if they are a grid; returns the paths that were written."""
    from jaxsrda.app import sweep_pictures

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "parallel.png"]
    sweep_pictures.plot_parallel(paths[0], result)
    if sweep_pictures.grid_axes(result):
        paths.append(folder / "heat.png")
        sweep_pictures.plot_heat(paths[1], result)
    return paths
