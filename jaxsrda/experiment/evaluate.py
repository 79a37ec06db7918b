"""Score analyses that are already there, without running anything."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.experiment.result import Result, spread_skill_of_blocks
from jaxsrda.experiment.truth import read_truth
from jaxsrda.flow.frames import Frames, align, in_common
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.labelled import labelled
from jaxsrda.flow.plausible import check_frames, numbers
from jaxsrda.flow.testbed import Testbed
from jaxsrda.observing.observations import Observations
from jaxsrda.scoring import point, tally
from jaxsrda.scoring.joint import JOINT_SCORES


def evaluate(
    testbed: Testbed,
    truth: Any,
    mean: Any = None,
    std: Any = None,
    members: Any = None,
    background: Any = None,
    joint: bool = False,
) -> Result:
    """Scores of analyses against truths, at the times that both have, from the second assimilation time on.

    truth: as `read_truth` takes it.  mean, std: (truths, frames, nx, ny), members: (truths, M, frames, nx, ny),
    background: (truths, cycles, nx, ny), each an array, of which the leading axes of length 1 may be left out, or a
    DataArray or `Labelled` in any order.  Without times, frame k is the truth's frame k.  A mean or members are needed;
    what members give need not be given, and without spread or members the scores that need these are left out.  joint:
    whether `scoring.JOINT_SCORES` of members are computed too.  Raises ValueError for analyses that do not match the
    truth, and for joint scores of no members or of cycles that lack frames.
    """
    every, grid = testbed.frames_per_cycle, testbed.grid
    true = read_truth(truth, testbed)
    given = Analyses.of(testbed, mean, std, members, background, joint)
    at, kept = in_common(true, given.mean, testbed.frame)
    if len(given.mean) != len(true):
        raise ValueError(
            f"{given.mean.source}: expected analyses of {len(true)} truth(s), got {len(given.mean)}; evaluate against "
            "the truths that they were made for, or name the dimensions"
        )
    scored = at >= every
    if not scored.any():
        raise ValueError(
            f"{given.mean.source}: expected frames after the first {testbed.frame * every:g} time units of the truth, "
            "which are not scored, got none; analyse a longer time"
        )
    times, count = true.start + testbed.frame * at, given.mean.shape[1]
    notes = [f"truth: {note}" for note in true.notes] + given.notes
    if not len(at) == count == true.shape[1]:
        notes.append(f"compared at {len(at)} times: {count} frames of the analyses, {true.shape[1]} of the truth")
    truths = true.values[:, at]
    center, spread, drawn = (None if each is None else each.values[..., kept, :, :] for each in given[:3])
    if joint and drawn is None:
        raise ValueError(f"{given.mean.source}: joint scores need members, got none; give omega with an axis member")
    if drawn is None:
        series, statistics = _moment_series(testbed, truths, center, spread), []
    else:
        starts = _starts(at, every) if joint else np.arange(len(at))
        series, statistics = _member_series(testbed, truths, center, drawn, scored, starts, joint)
    series = {name: np.asarray(values)[:, scored] for name, values in series.items()}
    summary = {name: values.mean(1) for name, values in series.items()}
    summary |= spread_skill_of_blocks(summary)
    if "spread" in series:  # of all frames together, as where there are members
        summary["spread_skill"] = np.sqrt((series["spread"] ** 2).mean(1) / (series["rmse"] ** 2).mean(1))
    if statistics:
        for name in ("spread_skill", "energy_distance_mean", "energy_distance_members"):
            summary[name] = np.array([s[name] for s in statistics])
    cycles = np.flatnonzero(np.rint(times / testbed.frame).astype(int) % every == 0)
    empty = np.zeros((len(true), len(cycles), 0))
    return Result(
        method="analyses",
        config={"notes": notes},
        per_truth=summary,
        series=series,
        statistics=statistics,
        times=times,
        truth=truths,
        mean=center,
        std=spread,
        background=given.background_at(times[cycles], len(kept) == count),
        members=drawn,
        observations=Observations(empty, np.zeros((*empty.shape, 2)), empty.astype(bool), empty),  # type: ignore
        grid=grid,
        seconds={},
        finite=True,
        testbed=testbed,
    )


class Analyses(NamedTuple):
    """Analyses in the package's order: mean and std (truths, frames, nx, ny), members (truths, M, frames, nx, ny)."""

    mean: Frames
    std: Frames | None = None
    members: Frames | None = None
    background: Frames | None = None

    @classmethod
    def of(cls, testbed: Testbed, mean: Any, std: Any, members: Any, background: Any, joint: bool = False) -> Analyses:
        """Read and checked; ValueError for what does not fit together.  joint: whether a single member is kept."""

        def read(given: Any, name: str, axes: tuple[str, ...] = ("truth", "time")) -> Frames | None:
            if given is None:
                return None
            frames = align(numbers(labelled(given, name), testbed), axes, [testbed.grid])
            return frames if name == "std" else check_frames(frames, testbed)

        drawn = read(members, "members", ("truth", "member", "time"))
        center, spread, before = (
            read(each, name) for each, name in ((mean, "mean"), (std, "std"), (background, "background"))
        )
        if drawn is not None:
            center = drawn.noted(values=drawn.values.mean(1)) if center is None else center
            if drawn.shape[1] == 1:  # one field has no spread
                drawn = drawn if joint else None
            elif spread is None:
                spread = drawn.noted(values=drawn.values.std(1, ddof=1))
        if center is None:
            raise ValueError("analyses: expected a mean or members, got neither; give one of these")
        if spread is not None and (spread.values < 0).any():
            raise ValueError(f"{spread.source}: expected standard deviations, got some below 0; give no variances")
        for other in filter(None, (spread, drawn)):
            if (len(other), *other.shape[-3:]) != center.shape:
                raise ValueError(
                    f"{other.source}: expected truths × frames × nx × ny like {center.source}'s {center.shape}, got "
                    f"{other.shape}; give the same frames of both"
                )
            if other.times is not None and center.times is not None and not np.allclose(other.times, center.times):
                raise ValueError(f"{other.source}: expected the times of {center.source}, got others; give the same")
        return cls(center, spread, drawn, before)

    @property
    def notes(self) -> list[str]:
        """What was done to any of them; what was done to several is said once."""
        notes = dict.fromkeys(f"analyses: {note}" for each in self if each is not None for note in each.notes)
        if self.std is not None and (still := int((self.std.values == 0).all((0, 2, 3)).sum())):
            notes[f"analyses: no spread at all in {still} of {self.std.shape[1]} frames"] = None
        return list(notes)

    def background_at(self, times: np.ndarray, whole: bool) -> np.ndarray | None:
        """The backgrounds of these times, None unless there is one of each; whole: whether no frame was left out."""
        before = self.background
        if before is None or len(before) != len(self.mean):
            return None
        if before.times is None or before.clock:
            return before.values if whole and before.shape[1] == len(times) else None
        at = [np.flatnonzero(np.isclose(before.times, time)) for time in times]
        return before.values[:, np.concatenate(at)] if at and all(len(each) == 1 for each in at) else None


def _device(*arrays: np.ndarray) -> tuple[Array, ...]:
    dtype = jnp.zeros(()).dtype
    return tuple(jnp.asarray(array, dtype) for array in arrays)


def _moment_series(testbed: Testbed, truth: Any, mean: Any, std: Any) -> dict[str, Array]:
    """Scores of each frame that need no members."""
    arrays = _device(truth, mean, *([] if std is None else [std]))
    return _moment_scores_of_all(arrays, float(np.ptp(testbed.vorticity_range)))


@jax.jit
def _moment_scores_of_all(arrays: tuple[Array, ...], span: Any) -> dict[str, Array]:
    return jax.lax.map(lambda frames: jax.vmap(lambda *frame: _moment_scores(span, *frame))(*frames), arrays)


def _moment_scores(span: Any, truth: Array, mean: Array, std: Array | None = None) -> dict[str, Array]:
    """Scores of one frame that its mean and, if given, its standard deviation determine (of a large ensemble)."""
    scores = {
        "maer": point.maer(mean, truth),
        "mssim_loss": point.mssim_loss(mean, truth, span),
        "rmse": point.rmse(mean, truth),
    }
    if std is None:
        return scores
    spread = jnp.sqrt(jnp.mean(std**2))
    return scores | {
        "spread": spread,
        "spread_skill": spread / scores["rmse"],
        "error_spread_correlation": point.correlation(std, jnp.abs(mean - truth)),
    }


@functools.lru_cache(8)
def _member_scores(grid: ChannelGrid, span: float, scores: tuple[Any, ...]) -> Callable[..., Any]:
    """The scores and the tally of one frame, compiled once for the same entries of the table of scores."""

    @jax.jit
    def one(key: Array, first: tuple[Array, Array], ensemble: Array, truth: Array, analysis: Array | None = None):
        sums = tally.frame_tally(key, grid, ensemble, truth, analysis)
        return point.frame_scores(ensemble, truth, span, analysis, first, dict(scores)), sums

    return one


def _starts(at: np.ndarray, every: int) -> np.ndarray:
    """Which of the frames number `at` begins the cycle of each; ValueError if some cycle lacks frames."""
    first = at[0] - at[0] % every
    if not np.array_equal(at, np.arange(at[0], at[-1] + 1)) or at[0] != first or len(at) % every:
        raise ValueError(
            f"analyses: joint scores need all {every} frames of each cycle; give these, or no joint scores"
        )
    return np.arange(len(at)) // every * every


def _member_series(
    testbed: Testbed,
    truth: Any,
    mean: Any,
    members: Any,
    scored: np.ndarray,
    starts: np.ndarray,
    joint: bool,
) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """Every score of each frame, and the statistics of each truth over the frames that are scored; starts: the frame
    that begins the cycle of each."""
    ensembles = np.moveaxis(members, 1, 2)
    # A mean of its own is what the members are draws around.
    same = np.allclose(mean, ensembles.mean(2), atol=1e-4 * float(np.abs(mean).max()))
    analyses = None if same else mean
    grid = testbed.grid
    one = _member_scores(
        grid,
        float(np.ptp(testbed.vorticity_range)),
        tuple((point.SCORES | JOINT_SCORES if joint else point.SCORES).items()),
    )
    series, statistics = [], []
    for i, (frames, truths) in enumerate(zip(ensembles, truth)):
        total = tally.empty_tally(grid, frames.shape[1], jnp.zeros(()).dtype)
        rows = []
        for j, (ensemble, true) in enumerate(zip(frames, truths)):
            own = () if analyses is None else (analyses[i, j],)
            first = _device(frames[starts[j]], truths[starts[j]])
            row, sums = one(jax.random.fold_in(jax.random.key(i), j), first, *_device(ensemble, true, *own))
            rows.append(jax.tree.map(np.asarray, row))
            total = tally.merge(total, sums) if scored[j] else total
        series.append({name: np.stack([row[name] for row in rows]) for name in rows[0]})
        with jax.debug_nans(False):  # where nothing was counted, NaN is meant
            statistics.append({k: np.asarray(v) for k, v in tally.summarize(total, grid).items()})
    return {name: np.stack([s[name] for s in series]) for name in series[0]}, statistics
