"""The result of an experiment."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxsrda.cycling.cycle import Carry, History
from jaxsrda.experiment.carry import next_time
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.testbed import Testbed
from jaxsrda.observing.observations import Observations
from jaxsrda.scoring.fit import bootstrap_interval
from jaxsrda.scoring.tally import Tally, summarize


@dataclasses.dataclass(frozen=True)
class Result:
    """What `run` and `assimilate` return, on the host; a leading axis of truths where there are several (or one).

    per_truth: name → (truths,) scores, means over the scored frames; series: name → (truths, scored frames);
    statistics: one dictionary of `scoring.tally.summarize` a truth, of all frames since the start where the run went
    on from a carry; times: (frames,); truth, mean (the analysis: the
    members' mean, or what they are draws around), std, background: (truths, frames or cycles, nx, ny), the last three
    None if scores alone were kept; members: (truths, M, frames, nx, ny) if kept; seconds: compile (none if an equal
    experiment was compiled before) and run; carry: the last, of all truths.  Without a truth to compare with, per_truth
    holds the fit to the observations alone, the others nothing.
    """

    method: str
    config: dict[str, Any]
    per_truth: dict[str, np.ndarray]
    series: dict[str, np.ndarray]
    statistics: list[dict[str, np.ndarray]]
    times: np.ndarray
    truth: np.ndarray | None
    mean: np.ndarray | None
    std: np.ndarray | None
    background: np.ndarray | None
    members: np.ndarray | None
    observations: Observations
    grid: ChannelGrid
    seconds: dict[str, float]
    finite: bool
    testbed: Testbed
    carry: Carry | None = None

    @property
    def truths(self) -> int:
        """How many truths there were."""
        return len(self.observations.values)

    def fields(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean, standard deviation and background; ValueError if scores alone were kept."""
        if self.mean is None or self.std is None or self.background is None:
            raise ValueError("result: scores alone were kept; run with keep fields for analyses, files and pictures")
        return self.mean, self.std, self.background

    @property
    def scores(self) -> dict[str, tuple[float, float, float]]:
        """Each score's mean over the truths and its 95 % bootstrap interval, (mean, low, high)."""
        intervals = {name: bootstrap_interval(values) for name, values in self.per_truth.items()}
        return {name: tuple(float(v) for v in interval) for name, interval in intervals.items()}  # type: ignore


class DivergedError(ValueError):
    """A method's ensemble stopped being finite: that of the truth number `truth`, as `told`."""

    def __init__(self, truth: int, told: str):
        super().__init__(truth, told)  # from which pickle makes it again
        self.truth, self.told = truth, told

    def __str__(self) -> str:
        return f"truth {self.truth}, {self.told}"


def check_healthy(history: History, interval: float, first_cycle: int = 0) -> None:
    """Raise `DivergedError` naming the truth, the time and the likely cause of an ensemble that is not finite.

    interval: time from one cycle to the next.
    """
    lost = np.argwhere(~np.asarray(history.finite))
    if len(lost):
        truth, i = (int(n) for n in lost[0])
        speed = np.asarray(history.speeds.speed)[truth, i]
        seen = speed[np.isfinite(speed)]
        raise DivergedError(
            truth,
            f"time {(first_cycle + i) * interval:g}: the ensemble is no longer finite "
            f"(largest speed seen {seen.max() if seen.size else np.nan:.3g}); lower the additive noise or inflation, "
            "or the strength of a guidance, or check the observations",
        )


@functools.partial(jax.jit, static_argnums=0)
def _summarize(grid: ChannelGrid, tally: Tally) -> dict[str, Array]:
    """The statistics of tallies, truths leading, as one program."""
    return jax.vmap(lambda sums: summarize(sums, grid))(tally)


def summarized(
    history: History, tally: Tally | None, grid: ChannelGrid, skip: int = 1
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """Series, scores and statistics (see `Result`) of a history on the host and its sums, truths leading.

    tally: None without a truth, when the fit to the observations is all there is.  skip: cycles that are not scored.
    """
    series: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    statistics: list[dict[str, np.ndarray]] = []
    for name, fit in (("background", history.fit_background), ("analysis", history.fit_analysis)):
        counted = np.where(fit["count"] > 0, 1.0, np.nan)
        for key in ("rmse", "chi2"):
            with np.errstate(invalid="ignore"):
                values = (fit[key] * counted)[:, skip:]
            summary[f"observation_{key}_{name}"] = np.nanmean(values, 1) if np.isfinite(values).any() else None
    if history.rejected is not None:
        summary["observations_rejected"] = history.rejected.sum(1).astype(float)
    if tally is not None and history.finite.shape[1] > skip:
        series = {name: s[:, skip:].reshape(len(s), -1) for name, s in (history.scores or {}).items()}
        summary = {name: s.mean(1) for name, s in series.items()} | summary
        summary |= spread_skill_of_blocks(summary)
        with jax.debug_nans(False):  # where nothing was counted, NaN is meant
            sums = jax.tree.map(np.asarray, _summarize(grid, tally))
        statistics = [{k: v[i] for k, v in sums.items()} for i in range(len(history.finite))]
        for name in ("spread_skill", "energy_distance_mean", "energy_distance_members"):
            summary[name] = np.array([s[name] for s in statistics])
    return series, {name: values for name, values in summary.items() if values is not None}, statistics


def spread_skill_of_blocks(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The spread–skill ratios of what has a mean variance and a mean squared error among the scores."""
    parts = [name.removeprefix("variance_") for name in summary if name.startswith("variance_")]
    return {f"spread_skill_{part}": np.sqrt(summary[f"variance_{part}"] / summary[f"error_{part}"]) for part in parts}


def collect(
    method: str,
    settings: dict[str, Any],
    testbed: Testbed,
    observed: Observations,
    truth: np.ndarray | None,
    carry: Carry,
    history: History,
    seconds: dict[str, float],
) -> Result:
    """The result of a run's last carry and its history, truths leading, on the host."""
    grid = testbed.grid
    truths, cycles = observed.values.shape[:2]
    # The first cycle of all is not scored; that of a run which goes on is.
    skip, first = (1 if int(carry.index[0]) == cycles else 0), next_time(carry) - cycles
    fields: Any = history.fields
    series, summary, statistics = summarized(history, None if truth is None else carry.tally, grid, skip)
    kept: dict[str, Any] = dict.fromkeys(("mean", "std", "background", "members"))
    if fields is not None:
        kept["background"] = fields.background
        for name in ("mean", "std"):  # (truths, cycles, F, nx, ny) → (truths, frames, nx, ny)
            kept[name] = getattr(fields, name).reshape(truths, -1, *grid.shape)
        if fields.members is not None:
            members = np.moveaxis(fields.members, 2, 1)
            kept["members"] = members.reshape(truths, members.shape[1], -1, *grid.shape)
    return Result(
        method=method,
        config=settings,
        per_truth=summary,
        series=series,
        statistics=statistics,
        times=testbed.frame * (first * testbed.frames_per_cycle + np.arange(cycles * testbed.frames_per_cycle)),
        truth=truth,
        **kept,
        observations=jax.tree.map(np.asarray, observed),
        grid=grid,
        seconds=seconds,
        finite=bool(np.asarray(carry.finite).all()),
        testbed=testbed,
        carry=carry,
    )
