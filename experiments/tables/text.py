"""Numbers, intervals, tables and prose as Markdown."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Interval = dict[str, float]
"""mean, low and high of a score over the truths."""

WIDTH = 118
"""Columns of a line of prose."""

CONFIDENCE = 0.95
"""Level of every interval."""

RESAMPLES = 2000
"""Resamples of the bootstrap, as in the package."""

SCORES = {"maer": "MAER", "mssim_loss": "MSSIM loss", "crps": "CRPS", "spread_skill": "spread–skill"}
"""Names of the scores in the tables."""


@functools.cache
def resampling(n: int) -> np.ndarray:
    """Weights (resamples, n) of the bootstrap."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n


def bootstrap(values: Sequence[float]) -> Interval:
    """Mean over the truths and its bootstrap percentile interval, by the same recipe as the package."""
    samples = np.asarray(values, dtype=float)
    low, high = np.quantile(resampling(len(samples)) @ samples, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"mean": float(samples.mean()), "low": float(low), "high": float(high)}


def paired(row: dict[str, Any], base: dict[str, Any], score: str = "maer") -> Interval:
    """A score over that of another row, truth by truth."""
    return bootstrap(np.array(row["per_truth"][score]) / np.array(base["per_truth"][score]))


def interval(value: Interval, digits: int = 3) -> str:
    """Mean and interval."""
    mean, low, high = (f"{value[key]:.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def scores(row: dict[str, Any], names: Iterable[str] = SCORES, digits: int = 3) -> list[str]:
    """Cells of scores with their intervals."""
    return [interval(row["scores"][name], digits) for name in names]


def mean(row: dict[str, Any], score: str) -> float:
    """The mean of a score."""
    return row["scores"][score]["mean"]


def percent(ratio: float) -> str:
    """How far a ratio is from 1."""
    return f"{100 * abs(1 - ratio):.0f} %"


def millions(count: int, digits: int = 1) -> str:
    """A count of parameters."""
    return f"{count / 1e6:.{digits}f} M"


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [list(heads), ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |".replace("|  |", "| |") for line in lines)


def prose(text: str) -> str:
    """A paragraph in lines of at most `WIDTH` columns."""
    return textwrap.fill(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def bullets(*texts: str) -> str:
    """A list of paragraphs."""
    return "\n".join(textwrap.indent(prose(text), "  ").replace("  ", "- ", 1) for text in texts)


def fenced(*lines: str) -> str:
    """A block of commands."""
    return "\n".join(["```bash", *lines, "```"])


def page(*blocks: str) -> str:
    """Blocks with an empty line between them, and the note that the file is generated."""
    note = "<!-- Generated from the JSON records by `python -m experiments.tables`; edit that, not this file. -->"
    return "\n\n".join([note, *filter(None, blocks)]) + "\n"


def small_energy(statistics: dict[str, Any], low: int, high: int | None = None) -> float:
    """Energy of the members over that of the truth in the wavenumbers from `low` to below `high`."""
    shell = np.asarray(statistics["shell"])
    band = (shell >= low) & (shell < (np.inf if high is None else high))
    members, truth = (np.asarray(statistics[f"energy_{name}"])[band].sum() for name in ("members", "truth"))
    return float(members / truth)
