"""Pictures of a sweep: parallel coordinates of all settings, and heat maps of a grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Curve
from matplotlib.ticker import LogLocator, MaxNLocator

from jaxsrda.app.plotting import SCORE_NAMES, STYLE, save
from jaxsrda.app.sweep_report import columns, shown
from jaxsrda.experiment.space import LINEAR, varied
from jaxsrda.experiment.trials import SweepResult, Trial

COLOURS = "viridis"
BEST = "#D55E00"
LOST, GIVEN_UP = "0.72", (0, (4, 2))

MOST_TICKS = 8
"""Values of an option that each get a tick of their own."""

WIDE = 4.0
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""

FAN, LINE = 0.08, 0.008
"""Over how much of an axis the lines through one of its few values spread at most, and how far apart they lie."""

MOST_NUMBERS = 100
"""Cells of a heat map that each get their number."""


def score_norm(values: Sequence[float]) -> Normalize:
    """The colours of scores, logarithmic if they differ much."""
    finite = np.array([value for value in values if math.isfinite(value)])
    low, high = float(finite.min()), float(finite.max())
    wide = low > 0 and high > WIDE * low
    if high <= low:
        high = low + max(abs(low), 1.0) * 1e-3
    return LogNorm(low, high) if wide else Normalize(low, high)


class Scale:
    """Where the values of an option lie on an axis from 0 to 1: in order, by size, or by the logarithm of the size."""

    def __init__(self, name: str, values: Sequence[Any]):
        self.values = list(values)
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.values)
        self.ordinal = not numbers or len(self.values) < 2
        wide = not self.ordinal and min(self.values) > 0 and max(self.values) > WIDE * min(self.values)
        self.log = wide and name not in LINEAR

    def __call__(self, value: Any) -> float:
        if self.ordinal:
            return (self.values.index(value) + 0.5) / len(self.values)
        low, high = min(self.values), max(self.values)
        if self.log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels: every value of a few, else round numbers within the range."""
        if self.ordinal or len(self.values) <= MOST_TICKS:
            return [(self(value), shown(value) or "preset") for value in self.values]
        low, high = min(self.values), max(self.values)
        locator = LogLocator(subs=(1, 2, 5)) if self.log else MaxNLocator(6)
        inside = [float(value) for value in locator.tick_values(low, high) if low <= value <= high]
        return [(self(value), shown(value)) for value in inside]


# Parallel coordinates -------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def plot_parallel(path: str | Path, result: SweepResult) -> None:
    """A line for each setting through its options to its score, coloured by the score; the best stands out.

    Settings that diverged or were given up early are grey and reach no score.
    """
    names, ranked = columns(result), result.ranked()
    others = [trial for trial in result.trials if math.isinf(trial.loss(result.by))]
    values = varied([trial.parameters for trial in result.trials])
    alone = result.trials[0].parameters
    scales = [Scale(name, values[name] if name in values else [alone[name]]) for name in names]
    heights = np.transpose([_heights(scale, name, [*ranked, *others]) for name, scale in zip(names, scales)])
    scores = [trial.mean[result.by] for trial in ranked]
    norm, colours = score_norm(scores), matplotlib.colormaps[COLOURS]
    figure = Figure(figsize=(2.6 + 1.75 * len(names), 4.4), layout="constrained")
    axis = figure.subplots()
    for line in heights[len(ranked) :]:
        _curve(axis, line, color=LOST, linewidth=0.9, alpha=0.7, linestyle=GIVEN_UP)
    for line, score in list(zip(heights, scores))[:0:-1]:
        _curve(axis, [*line, _height(norm, score)], color=colours(norm(score)), linewidth=1.3, alpha=0.75)
    best = [*heights[0], _height(norm, scores[0])]
    _curve(axis, best, color="white", linewidth=5.0, zorder=4)
    _curve(axis, best, color=BEST, linewidth=2.8, zorder=5)
    axis.plot(range(len(best)), best, "o", color=BEST, markersize=6, markeredgecolor="white", zorder=6)
    for place, (name, scale) in enumerate(zip(names, scales)):
        _upright(axis, place, name, scale.ticks())
    _score_axis(axis, len(names), result.by, norm)
    lost = [(sum(not t.finite for t in others), "diverged"), (sum(t.pruned for t in others), "given up early")]
    grey = ", ".join(f"{count} {what}" for count, what in lost if count)
    told = f"best of {len(ranked)}: {SCORE_NAMES.get(result.by, result.by)} {scores[0]:.4g}"
    axis.plot([], [], color=BEST, linewidth=2.8, label=told)
    if grey:
        axis.plot([], [], color=LOST, linestyle=GIVEN_UP, linewidth=0.9, label=grey)
    axis.set(xlim=(-0.3, len(names) + 0.45), ylim=(-0.06, 1.09))
    axis.axis("off")
    figure.legend(loc="outside lower center", ncols=2)
    save(figure, path)


def _heights(scale: Scale, name: str, trials: Sequence[Trial]) -> np.ndarray:
    """Where trials, the best first, meet the axis of an option: side by side at one of a few values, the best above."""
    heights = np.array([scale(trial.parameters.get(name)) for trial in trials])
    if len(scale.values) <= MOST_TICKS:
        for value, among in [(value, heights == value) for value in np.unique(heights)]:
            (same,) = np.nonzero(among)
            places = np.linspace(0.5, -0.5, len(same)) if len(same) > 1 else np.zeros(1)
            heights[same] = value + min(FAN, LINE * (len(same) - 1)) * places
    return heights


def _height(norm: Normalize, score: float) -> float:
    """Where a score lies on its axis, the best at the top."""
    return 1 - float(norm(score))


def _curve(axis: Axes, heights: Sequence[float], **style: Any) -> None:
    """A line through heights at 0, 1, … that is level where it meets an upright axis."""
    points, codes = [(0.0, heights[0])], [Curve.MOVETO]
    for i, (a, b) in enumerate(itertools.pairwise(heights)):
        points += [(i + 0.4, a), (i + 0.6, b), (i + 1.0, b)]
        codes += [Curve.CURVE4] * 3
    axis.add_patch(PathPatch(Curve(points, codes), fill=False, edgecolor=style.pop("color"), capstyle="round", **style))


def _upright(axis: Axes, place: int, name: str, ticks: Sequence[tuple[float, str]]) -> None:
    """An upright axis with its name above and its ticks on the left."""
    axis.plot([place, place], [-FAN / 2, 1 + FAN / 2], color="0.25", linewidth=1.0, linestyle="-", zorder=3)
    axis.text(place, 1.09, name, ha="center", va="bottom", fontweight="bold")
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "boxstyle": "round,pad=0.12"}
    for height, label in ticks:
        axis.plot([place - 0.03, place], [height, height], color="0.25", linewidth=1.0, linestyle="-", zorder=3)
        axis.text(place - 0.05, height, label, ha="right", va="center", fontsize=8.5, bbox=box, zorder=7)


def _score_axis(axis: Axes, place: int, by: str, norm: Normalize) -> None:
    """The axis of the score, in its colours, the best at the top."""
    shades = np.linspace(1, 0, 256)[:, None]
    extent = (place, place + 0.06, 0, 1)
    axis.imshow(shades, cmap=COLOURS, extent=extent, aspect="auto", origin="lower", zorder=3, vmin=0, vmax=1)
    axis.text(place + 0.03, 1.09, SCORE_NAMES.get(by, by), ha="center", va="bottom", fontweight="bold")
    low, high = float(norm.vmin or 0), float(norm.vmax or 1)
    steps = np.geomspace(low, high, 5) if isinstance(norm, LogNorm) else np.linspace(low, high, 5)
    decimals = max(2 - math.floor(math.log10(high - low)), 0)
    for value in steps:
        axis.text(place + 0.1, _height(norm, value), f"{value:.{decimals}f}", ha="left", va="center", fontsize=8.5)


# Heat maps ------------------------------------------------------------------------------------


def grid_axes(result: SweepResult) -> dict[str, list[Any]]:
    """The options that differ and their values, if there are two or more and every combination was tried; else none."""
    settings = [trial.parameters for trial in result.trials]
    axes = varied(settings)
    tried = {tuple(setting.get(name) for name in axes) for setting in settings}
    whole = math.prod(len(values) for values in axes.values()) == len(tried)
    return axes if len(axes) > 1 and whole else {}


@matplotlib.rc_context(STYLE)
def plot_heat(path: str | Path, result: SweepResult) -> None:
    """A map of scores for each pair of options of a grid, the best over the others; ValueError for no grid.

    The best cell is framed; a cell in which no setting stayed finite is hatched.
    """
    axes = grid_axes(result)
    if not axes:
        raise ValueError("heat map: expected a grid of at least two options, got other settings")
    pairs = list(itertools.combinations(axes, 2))
    across = min(len(pairs), 3)
    rows = -(-len(pairs) // across)
    tables = {pair: _table(result, axes, pair) for pair in pairs}
    norm = score_norm([trial.mean[result.by] for trial in result.ranked()])
    most = [max(len(axes[pair[n]]) for pair in pairs) for n in range(2)]
    panel = (max(2.8, 0.62 * most[0] + 1.1), max(2.4, 0.46 * most[1] + 0.9))
    figure = Figure(figsize=(panel[0] * across + 1.0, panel[1] * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, across, squeeze=False).ravel()
    for axis in panels[len(pairs) :]:
        axis.remove()
    for axis, pair in zip(panels, pairs):
        _heat(axis, tables[pair], norm, [axes[name] for name in pair], [result.best.parameters.get(n) for n in pair])
        axis.set(xlabel=pair[0], ylabel=pair[1])
    name = SCORE_NAMES.get(result.by, result.by)
    label = name if len(axes) == 2 else f"{name}, the best over the other options"
    shades = ScalarMappable(norm, COLOURS)
    figure.colorbar(shades, ax=panels[: len(pairs)].tolist(), label=label, shrink=0.9, aspect=28, pad=0.02)
    save(figure, path)


def _table(result: SweepResult, axes: dict[str, list[Any]], pair: tuple[str, str]) -> np.ndarray:
    """Scores (values of the second option, of the first): the best over the others, NaN where none is finite."""
    table = np.full((len(axes[pair[1]]), len(axes[pair[0]])), np.nan)
    for trial in reversed(result.ranked()):
        column, row = (axes[name].index(trial.parameters.get(name)) for name in pair)
        table[row, column] = trial.mean[result.by]
    return table


def _heat(axis: Axes, table: np.ndarray, norm: Normalize, values: Sequence[list[Any]], best: Sequence[Any]) -> None:
    colours = matplotlib.colormaps[COLOURS]
    axis.set_facecolor("0.93")
    axis.pcolormesh(np.ma.masked_invalid(table), cmap=COLOURS, norm=norm, edgecolors="white", linewidth=1.5)
    x, y = (own.index(value) for own, value in zip(values, best))
    for (row, column), score in np.ndenumerate(table):
        if not math.isfinite(score):
            axis.add_patch(Rectangle((column, row), 1, 1, fill=False, hatch="////", edgecolor="0.65", linewidth=0))
        elif table.size <= MOST_NUMBERS:
            dark = float(np.dot(colours(norm(score))[:3], (0.299, 0.587, 0.114))) < 0.55
            weight = "bold" if (row, column) == (y, x) else "normal"
            shade = "white" if dark else "black"
            axis.text(
                column + 0.5,
                row + 0.5,
                f"{score:.3f}",
                ha="center",
                va="center",
                color=shade,
                fontsize=8,
                fontweight=weight,
            )
    axis.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor=BEST, linewidth=2.6, zorder=4, clip_on=False))
    for side, own in zip((axis.xaxis, axis.yaxis), values):
        side.set_ticks(np.arange(len(own)) + 0.5, [shown(value) or "preset" for value in own])
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
