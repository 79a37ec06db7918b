"""Pictures of scores: series, intervals, spectra, rank histograms, reliability, loss curves.

Every quantity is non-dimensional.  Each
function writes one file, atomically, in the format of its suffix, and raises ValueError for arrays
that do not fit together, an unknown suffix or a missing folder.  Figures are objects of their own:
no pyplot, no global state, no display needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsrda.core.checks import check_shape
from jaxsrda.core.files import atomic_path

PICTURE_SUFFIXES = (".png", ".pdf", ".svg")
"""Formats of the still pictures."""

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    # Okabe & Ito's colours, distinct to colour-blind readers, then the same dashed.
    "axes.prop_cycle": cycler(linestyle=["-", "--"])
    * cycler(color=["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]),
}

SCORE_NAMES = {
    "maer": "MAER",
    "rmse": "RMSE",
    "crps": "CRPS",
    "spread_skill": "Spread–skill ratio",
    "mssim_loss": "MSSIM loss",
}
"""Axis labels of the scores; any other score goes by its own name."""

SERIES_SCORES = ("maer", "crps", "spread_skill", "mssim_loss")
"""Scores whose series are drawn unless others are asked for."""


def note(axis: Axes, text: str) -> None:
    """A small note in the upper right corner of a panel."""
    box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "boxstyle": "round,pad=0.2"}
    axis.text(0.98, 0.95, text, transform=axis.transAxes, ha="right", va="top", fontsize=8, bbox=box)


# Scores ---------------------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def plot_series(
    path: str | Path,
    times: Any,
    series: Mapping[str, Mapping[str, Any]],
    scores: Sequence[str] = SERIES_SCORES,
) -> None:
    """A panel for each score over time, a line for each label; several truths give a mean and its range.

    series: label → score → (frames,) or (truths, frames); a label without a score is left out of
    its panel.  The shading is the 95 % bootstrap interval of the mean over truths.
    """
    if not scores:
        raise ValueError("scores: expected at least one name, got none")
    for score in scores:
        if not any(score in lines for lines in series.values()):
            known = sorted({name for lines in series.values() for name in lines})
            raise ValueError(f"scores: expected {score!r} in the series, found {', '.join(known) or 'none'}; drop it")
    columns = 2 if len(scores) > 3 else len(scores)
    rows = -(-len(scores) // columns)
    figure = Figure(figsize=(4.4 * columns, 2.5 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axis in axes[len(scores) :]:
        axis.remove()
    colours = list(zip(series, matplotlib.rcParams["axes.prop_cycle"]()))
    for axis, score in zip(axes, scores):
        if score == "spread_skill":
            axis.axhline(1.0, color="0.3", linewidth=1, zorder=3)
        for label, line_style in colours:
            if score not in series[label]:
                continue
            values = np.atleast_2d(np.asarray(series[label][score], float))
            check_shape(f"series {label!r} {score}", values, (None, len(times)), hint=" (truths, frames)")
            axis.plot(times, values.mean(0), label=label, **line_style)
            if len(values) > 1:
                axis.fill_between(times, *_interval(values), color=line_style["color"], alpha=0.2, linewidth=0)
        axis.set_ylabel(SCORE_NAMES.get(score, score))
        axis.margins(x=0)
        if score != "spread_skill":
            axis.set_ylim(bottom=0.0)
    for axis in axes[max(0, len(scores) - columns) : len(scores)]:
        axis.set_xlabel("Time")
        axis.tick_params(labelbottom=True)
    handles = {h.get_label(): h for axis in axes[: len(scores)] for h in axis.get_legend_handles_labels()[0]}
    figure.legend(handles=handles.values(), loc="outside upper center", ncols=min(4, len(handles)))
    save(figure, path)


def plot_intervals(
    path: str | Path,
    groups: Mapping[str, Mapping[str, Mapping[str, tuple[float, float, float]]]],
    scores: Sequence[str] = ("maer", "crps", "spread_skill"),
) -> None:
    """A row of panels for each group, a panel for each score: a line for each label, its mean as a dot and its range.

    groups: group → label → score → (mean, low, high).  ValueError without groups, or for a label without a score.
    """
    if not groups or not all(groups.values()):
        raise ValueError("groups: expected at least one label in each, got none")
    sizes = [len(labels) for labels in groups.values()]
    figure = Figure(figsize=(3.0 * len(scores) + 1, 0.6 + sum(0.7 + 0.22 * n for n in sizes)), layout="constrained")
    axes = figure.subplots(len(groups), len(scores), squeeze=False, height_ratios=[n + 1 for n in sizes], sharex="col")
    for line, (group, labels) in zip(axes, groups.items()):
        for axis, score in zip(line, scores):
            if missing := [label for label, of in labels.items() if score not in of]:
                raise ValueError(f"{group}: expected {score} of every label, {', '.join(missing)} lack it")
            values = np.array([labels[label][score] for label in labels])
            if score == "spread_skill":
                axis.axvline(1.0, color="0.3", linewidth=1)
            axis.axvline(values[0, 0], color="0.75", linewidth=1, linestyle=":")  # the first label, to compare with
            axis.hlines(range(len(values)), values[:, 1], values[:, 2], color="#0072B2")
            axis.plot(values[:, 0], range(len(values)), "o", color="#0072B2", markersize=4)
            axis.set_yticks(range(len(values)), list(labels) if axis is line[0] else [])
            axis.set_ylim(len(values) - 0.5, -0.5)
        line[0].set_title(group, loc="left")
    for axis, score in zip(axes[-1], scores):
        axis.set_xlabel(SCORE_NAMES.get(score, score))
        axis.locator_params(axis="x", nbins=5)
    save(figure, path)


def _interval(values: np.ndarray) -> np.ndarray:
    """95 % bootstrap interval of the mean over truths: (truths, frames) → (2, frames)."""
    picks = np.random.default_rng(0).integers(len(values), size=(1000, len(values)))
    return np.percentile(values[picks].mean(1), [2.5, 97.5], axis=0)


@matplotlib.rc_context(STYLE)
def plot_spectra(path: str | Path, spectra: Mapping[str, Any], ylabel: str = "Kinetic energy") -> None:
    """Spectra on log–log axes from wavenumber 1, each (shells,) from wavenumber 0; `truth` is black."""
    figure = Figure(figsize=(4.8, 3.8), layout="constrained")
    axis = figure.subplots()
    top = 0.0
    for label, values in spectra.items():
        check_shape(f"spectrum {label!r}", values, (None,), hint=" (shells)")
        energy = np.asarray(values, float)[1:]
        top = max(top, float(energy.max(initial=0.0)))
        black = {"color": "black", "linewidth": 2.2, "linestyle": "-"} if label.lower() == "truth" else {}
        axis.loglog(np.arange(1, len(energy) + 1), np.where(energy > 0, energy, np.nan), label=label, **black)
    if not top:
        raise ValueError("spectra: expected at least one with energy at wavenumber 1 or above, got none")
    axis.set(xlabel="Wavenumber", ylabel=ylabel)
    axis.set_ylim(bottom=max(axis.get_ylim()[0], 1e-10 * top), top=3 * top)
    axis.set_xlim(left=1)
    figure.legend(loc="outside upper center", ncols=min(3, len(spectra)))
    save(figure, path)


@matplotlib.rc_context(STYLE)
def plot_curve(path: str | Path, curve: Sequence[Mapping[str, float]]) -> None:
    """A training's losses against the samples seen; curve: rows of `samples` and losses.

    Raises ValueError for an empty curve.
    """
    if not curve:
        raise ValueError("curve: expected at least one row, got none")
    samples = [row["samples"] for row in curve]
    figure = Figure(figsize=(5.6, 3.2), layout="constrained")
    axis = figure.subplots()
    for name in [name for name in ("loss", "diffusion", "regression") if name in curve[0]]:
        axis.plot(samples, [row[name] for row in curve], label=name)
    axis.set(xlabel="samples", ylabel="training loss", yscale="log")
    axis.legend(frameon=False)
    save(figure, path)


def plot_rank_histogram(path: str | Path, counts: Any) -> None:
    """Ranks of the truth among M members, counts (M + 1,), over the count of a calibrated ensemble."""
    check_shape("counts", counts, (None,), hint=" (members + 1)")
    counts = np.asarray(counts, float)
    if not counts.sum() > 0:
        raise ValueError("counts: expected at least one truth counted, got none")
    figure = Figure(figsize=(4.8, 3.0), layout="constrained")
    axis = figure.subplots()
    axis.stairs(counts / counts.mean(), np.arange(len(counts) + 1) - 0.5, fill=True, color="#0072B2", alpha=0.75)
    axis.axhline(1.0, color="black", linewidth=1)
    axis.set(xlabel=f"Rank of the truth among {len(counts) - 1} members", ylabel="Frequency / uniform")
    axis.set_xlim(-0.5, len(counts) - 0.5)
    save(figure, path)


@matplotlib.rc_context(STYLE)
def plot_reliability(path: str | Path, probability: Any, frequency: Any, counts: Any, thresholds: Any) -> None:
    """Observed frequency against forecast probability, a line a threshold, with the counts below.

    probability, frequency, counts: (thresholds, bins); bins that count nothing are left out.
    thresholds: (thresholds,), of vorticity.
    """
    check_shape("probability", probability, (len(thresholds), None), hint=" (thresholds, bins)")
    shape = tuple(np.shape(probability))
    check_shape("frequency", frequency, shape, hint=" as the probability has")
    check_shape("counts", counts, shape, hint=" as the probability has")
    figure = Figure(figsize=(4.4, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.5", linewidth=0.8, linestyle="-")
    lines = zip(np.asarray(probability), np.asarray(frequency), np.asarray(counts), thresholds)
    for (p, f, n, threshold), line_style in zip(lines, matplotlib.rcParams["axes.prop_cycle"]()):
        seen = n > 0
        upper.plot(p[seen], f[seen], marker="o", markersize=3.5, label=f"ω > {float(threshold):g}", **line_style)
        lower.plot(p[seen], n[seen], **line_style)
    upper.set(ylabel="Observed frequency", xlim=(0, 1), ylim=(0, 1))
    upper.legend(loc="upper left")
    lower.set(xlabel="Forecast probability", ylabel="Count", yscale="log")
    save(figure, path)


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure in the format of its suffix, atomically."""
    with atomic_path(path, PICTURE_SUFFIXES) as temporary:
        figure.savefig(temporary, dpi=150)
