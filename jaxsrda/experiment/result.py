"""The result of an experiment."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxsrda.cycling import cycle
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.testbed import FRAME, FRAMES_PER_CYCLE
from jaxsrda.observing.observations import Observations
from jaxsrda.scoring import fit as fit_module
from jaxsrda.scoring import tally as tally_module

if TYPE_CHECKING:
    pass


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The result of `assimilate`, on the host; a leading axis of truths where there are several (or one).

    per_truth: name → (truths,) scores, means over the scored frames; series: name → (truths, scored frames);
    statistics: one `tally_module.summarize` dictionary a truth; times: (frames,); mean, std, background, truth:
    (truths, frames or cycles, nx, ny); members: (truths, M, frames, nx, ny) if kept; seconds: compile and run.
    Without a truth to compare with, per_truth holds the fit to the observations alone, the others nothing.
    """

    method: str
    config: dict[str, Any]
    per_truth: dict[str, np.ndarray]
    series: dict[str, np.ndarray]
    statistics: list[dict[str, np.ndarray]]
    times: np.ndarray
    truth: np.ndarray | None
    mean: np.ndarray
    std: np.ndarray
    background: np.ndarray
    members: np.ndarray | None
    observations: Observations
    grid: ChannelGrid
    seconds: dict[str, float]
    finite: bool

    @property
    def scores(self) -> dict[str, tuple[float, float, float]]:
        """Each score's mean over the truths and its 95 % bootstrap interval, (mean, low, high)."""
        intervals = {name: fit_module.bootstrap_interval(values) for name, values in self.per_truth.items()}
        return {name: tuple(float(v) for v in interval) for name, interval in intervals.items()}  # type: ignore


class DivergedError(ValueError):
    """A method's ensemble stopped being finite."""


def check_healthy(history: cycle.History, first_cycle: int = 0) -> None:
    """Raise `DivergedError` naming the truth, the time and the likely cause of an ensemble that is not finite."""
    lost = np.argwhere(~np.asarray(history.finite))
    if len(lost):
        truth, i = (int(n) for n in lost[0])
        speed = np.asarray(history.speeds.speed)[truth, i]
        seen = speed[np.isfinite(speed)]
        raise DivergedError(
            f"truth {truth}, time {(first_cycle + i) * FRAMES_PER_CYCLE * FRAME:g}: the ensemble is no longer finite "
            f"(largest speed seen {seen.max() if seen.size else np.nan:.3g}); lower the additive noise or inflation, "
            "or the strength of a guidance, or check the observations"
        )


def _collect(method, settings, grid, observed, truth, carry, history, seconds) -> Analysis:
    truths, cycles = observed.values.shape[:2]
    series, summary = {}, {}
    for name, fit in (("background", history.fit_background), ("analysis", history.fit_analysis)):
        counted = np.where(fit["count"] > 0, 1.0, np.nan)
        for key in ("rmse", "chi2"):
            with np.errstate(invalid="ignore"):
                values = (fit[key] * counted)[:, 1:]
            summary[f"observation_{key}_{name}"] = np.nanmean(values, 1) if np.isfinite(values).any() else None
    statistics = []
    if truth is not None:
        series = {name: s[:, 1:].reshape(truths, -1) for name, s in history.scores.items()}
        summary = {name: s.mean(1) for name, s in series.items()} | summary
        summarize = jax.vmap(lambda tally: tally_module.summarize(tally, grid))(carry.tally)
        statistics = [{k: np.asarray(v[i]) for k, v in summarize.items()} for i in range(truths)]
        for name in ("spread_skill", "energy_distance_mean", "energy_distance_members"):
            summary[name] = np.array([s[name] for s in statistics])
    fields = history.fields

    def frames(array):  # (truths, cycles, 4, nx, ny) → (truths, frames, nx, ny)
        return array.reshape(truths, -1, *grid.shape)

    members = fields.members
    if members is not None:
        members = np.moveaxis(members, 2, 1).reshape(truths, members.shape[2], -1, *grid.shape)
    return Analysis(
        method=method,
        config=settings,
        per_truth={name: values for name, values in summary.items() if values is not None},
        series=series,
        statistics=statistics,
        times=FRAME * np.arange(cycles * FRAMES_PER_CYCLE),
        truth=truth,
        mean=frames(fields.mean),
        std=frames(fields.std),
        background=fields.background,
        members=members,
        observations=jax.tree.map(np.asarray, observed),
        grid=grid,
        seconds=seconds,
        finite=bool(history.finite.all()),
    )
