"""What a person sees of a result: tables, the JSON record, the dataset, and pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from jaxsrda.experiment.result import Result

SHOWN = {
    "maer": "MAER",
    "mssim_loss": "MSSIM loss",
    "rmse": "RMSE",
    "crps": "CRPS",
    "spread": "spread",
    "spread_skill": "spread–skill",
    "observation_rmse_background": "obs. RMSE, background",
    "observation_rmse_analysis": "obs. RMSE, analysis",
    "observation_rmse_withheld": "obs. RMSE, withheld",
    "observation_chi2_background": "obs. χ², background",
    "observations_rejected": "observations rejected",
    "energy_distance_members": "energy spectrum, dB",
    "energy": "energy score",
    "variogram": "variogram score",
    "crps_block4": "CRPS, means of 4 × 4",
    "crps_block8": "CRPS, means of 8 × 8",
    "crps_block16": "CRPS, means of 16 × 16",
    "spread_skill_block4": "spread–skill, 4 × 4",
    "spread_skill_block8": "spread–skill, 8 × 8",
    "spread_skill_block16": "spread–skill, 16 × 16",
    "crps_gradient": "CRPS, gradient",
    "crps_laplacian": "CRPS, Laplacian",
    "crps_change": "CRPS, change",
    "laplacian_rmse": "RMSE, Laplacian",
}
"""Scores of the table, in order, and their headings."""


def score_table(results: dict[str, dict[str, tuple[float, float, float]]]) -> Table:
    """A table with a line a score and a column a result, mean and 95 % interval over the truths."""
    table = Table()
    table.add_column("score")
    for label in results:
        table.add_column(label, justify="right")
    for name, heading in SHOWN.items():
        row = [shown(scores.get(name)) for scores in results.values()]
        if any(row):
            table.add_row(heading, *row)
    return table


def shown(value: tuple[float, ...] | None) -> str:
    """A mean, low and high as text; the mean alone where they are one, nothing for None."""
    if value is None:
        return ""
    mean, low, high = value
    return f"{mean:.3f}" if low == high else f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def record(result: Result) -> dict[str, Any]:
    """The JSON record: method, config, scores with intervals, series and their times, statistics, seconds, finite."""
    series = {name: values.mean(0) for name, values in result.series.items()}
    length = len(next(iter(series.values()), ()))  # the frames that are scored: those from the second analysis on
    return {
        "method": result.method,
        "config": result.config,
        "scores": scores_record(result.scores),
        "series": series,
        "times": result.times[-length:] if length else None,
        "statistics": mean_statistics(result.statistics),
        "truths": result.truths,
        "seconds": result.seconds,
        "finite": result.finite,
    }


def scores_record(scores: dict[str, tuple[float, float, float]]) -> dict[str, dict[str, float]]:
    """Scores as name → {mean, low, high}."""
    return {name: dict(zip(("mean", "low", "high"), value)) for name, value in scores.items()}


def mean_statistics(statistics: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """`scores.summarize` dictionaries of several truths, averaged (empty bins left out)."""
    if not statistics:
        return {}
    stacked = {name: np.stack([s[name] for s in statistics]).astype(float) for name in statistics[0]}
    filled = {name: np.isfinite(values).sum(0) for name, values in stacked.items()}
    return {
        name: np.where(filled[name] > 0, np.nansum(values, 0) / np.maximum(filled[name], 1), np.nan)
        for name, values in stacked.items()
    }


def dataset(result: Result) -> Any:
    """The result as an xarray dataset; the truth axis is dropped if there is one truth only."""
    from jaxsrda.app.datasets import analysis_dataset

    def plain(array):
        return None if array is None else array[0] if result.truths == 1 else array

    every = result.testbed.frames_per_cycle
    observed = {name: plain(values) for name, values in result.observations._asdict().items()}
    observed["times"] = result.times[::every]
    mean, std, background = result.fields()
    fields = {
        "omega_mean": mean,
        "omega_std": std,
        "omega": result.members,
        "omega_background": background,
        "omega_truth": result.truth,
    }
    return analysis_dataset(
        {name: plain(array) for name, array in fields.items()},
        result.times,
        result.grid,
        {"method": result.method, "config": result.config},
        every,
        observed,
    )


def pictures(folder: Path, result: Result, times: Iterable[float] | None = None, animate: bool = False) -> list[Path]:
    """Write the pictures of a result's first truth (series: of all) into a folder; returns their paths.

    times: analysis times of the field picture, by default four spread over the run.
    """
    from jaxsrda.app import field_pictures, plotting

    folder.mkdir(parents=True, exist_ok=True)
    every = result.testbed.frames_per_cycle
    mean, std, background = result.mean, result.std, result.background
    if mean is None:
        mean, std, background = result.fields()  # says what to keep
    # Frames at assimilation times; analyses from elsewhere may have none of these.
    cycles = np.flatnonzero(np.rint(result.times / result.testbed.frame).astype(int) % every == 0)
    cycles = cycles if len(cycles) else np.arange(mean.shape[1])
    count = len(cycles)
    chosen = np.unique(np.linspace(count // 4, count - 1, 4).round().astype(int))
    if times is not None:
        chosen = np.unique([int(np.argmin(abs(result.times[cycles] - t))) for t in times])
    frames = cycles[chosen]
    truth = None if result.truth is None else result.truth[0]
    observed = None
    if result.observations.values.shape[1] == count:
        seen = np.asarray(result.observations.mask[0], bool)
        observed = [result.observations.positions[0, i][seen[i]] for i in chosen]
    paths = [folder / "fields.png"]
    field_pictures.plot_fields(
        paths[0],
        result.times[frames],
        None if truth is None else truth[frames],
        None if background is None else background[0, chosen],
        mean[0, frames],
        None if std is None else std[0, frames],
        observed,
        title=result.method,
    )
    if result.series:
        paths.append(folder / "series.png")
        scores = [name for name in plotting.SERIES_SCORES if name in result.series]
        scored = next(iter(result.series.values())).shape[1]
        plotting.plot_series(paths[-1], result.times[-scored:], {result.method: result.series}, scores)
    if result.statistics:  # there are none of analyses without members
        paths += [folder / "spectra.png", folder / "rank_histogram.png"]
        statistics = mean_statistics(result.statistics)
        spectra = {name: statistics[f"energy_{name}"] for name in ("truth", "mean", "members")}
        plotting.plot_spectra(paths[-2], spectra)
        plotting.plot_rank_histogram(paths[-1], statistics["rank_histogram"])
    if animate:
        paths.append(folder / "animation.gif")
        field_pictures.animate(paths[-1], result.times, truth, mean[0], None if std is None else std[0])
    return paths
