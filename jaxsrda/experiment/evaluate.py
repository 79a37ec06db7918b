"""Score analyses that are already there, without running anything."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.experiment.result import Result
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.testbed import Testbed
from jaxsrda.observing.observations import Observations
from jaxsrda.scoring import point, tally


def evaluate(
    testbed: Testbed,
    truth: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    members: np.ndarray | None = None,
    background: np.ndarray | None = None,
) -> Result:
    """Scores of analyses (truths, frames, nx, ny) from the second assimilation time on, against truths.

    members: (truths, M, frames, nx, ny), for the scores that need them; background: (truths, cycles, nx, ny).
    Raises ValueError for analyses and truths that do not match.
    """
    every, grid = testbed.frames_per_cycle, testbed.grid
    frames = mean.shape[1] // every * every
    wanted = (len(truth), frames, *grid.shape)
    if (mean.shape[0], frames, *mean.shape[2:]) != wanted or truth.shape[1] < frames:
        raise ValueError(
            f"expected analyses of truths × frames × nx × ny like the truth's {truth.shape}, got {mean.shape}; "
            "evaluate against the truth they were made for"
        )
    mean, std, truth = mean[:, :frames], std[:, :frames], truth[:, :frames]

    statistics: list[dict[str, np.ndarray]] = []
    span = float(np.ptp(testbed.vorticity_range))
    if members is None:

        def one(mean: Array, std: Array, truth: Array) -> dict[str, Array]:
            return _moment_scores(mean, std, truth, span)

        series = jax.lax.map(lambda frames: jax.vmap(one)(*frames), _device(mean, std, truth))
    else:
        ensembles = np.moveaxis(members[:, :, :frames], 1, 2)
        # A mean of its own is what the members are draws around.
        own = None if np.allclose(mean, members[:, :, :frames].mean(1), atol=1e-4 * float(np.abs(mean).max())) else mean
        series, statistics = _member_scores(testbed, ensembles, truth, own)
    series = {name: np.asarray(values)[:, every:] for name, values in series.items()}
    summary = {name: values.mean(1) for name, values in series.items()}
    if statistics:
        for name in ("spread_skill", "energy_distance_mean", "energy_distance_members"):
            summary[name] = np.array([s[name] for s in statistics])
    empty = np.zeros((len(mean), frames // every, 0))
    return Result(
        method="analyses",
        config={},
        per_truth=summary,
        series=series,
        statistics=statistics,
        times=testbed.frame * np.arange(frames),
        truth=truth,
        mean=mean,
        std=std,
        background=mean[:, ::every] if background is None else background,
        members=members,
        observations=Observations(empty, np.zeros((*empty.shape, 2)), empty.astype(bool), empty),  # type: ignore
        grid=grid,
        seconds={},
        finite=True,
        testbed=testbed,
    )


def _device(*arrays: np.ndarray) -> tuple[Array, ...]:
    dtype = jnp.zeros(()).dtype
    return tuple(jnp.asarray(array, dtype) for array in arrays)


def _moment_scores(mean: Array, std: Array, truth: Array, span: float) -> dict[str, Array]:
    """Scores of one frame that its mean and standard deviation determine (spread–skill of a large ensemble)."""
    spread, rmse = jnp.sqrt(jnp.mean(std**2)), point.rmse(mean, truth)
    return {
        "maer": point.maer(mean, truth),
        "mssim_loss": point.mssim_loss(mean, truth, span),
        "rmse": rmse,
        "spread": spread,
        "spread_skill": spread / rmse,
        "error_spread_correlation": point.correlation(std, jnp.abs(mean - truth)),
    }


def _member_scores(
    testbed: Testbed, ensembles: np.ndarray, truth: np.ndarray, analyses: np.ndarray | None
) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """Every score of (truths, frames, M, nx, ny), and the statistics of each truth from the second time on."""

    grid: ChannelGrid = testbed.grid
    span = float(np.ptp(testbed.vorticity_range))

    @jax.jit
    def one(key: Array, ensemble: Array, truth: Array, analysis: Array | None = None):
        scores = point.frame_scores(ensemble, truth, span, analysis)
        return scores, tally.frame_tally(key, grid, ensemble, truth, analysis)

    series, statistics = [], []
    for i, (frames, truths) in enumerate(zip(ensembles, truth)):
        total = tally.empty_tally(grid, frames.shape[1], jnp.zeros(()).dtype)
        rows = []
        for j, (ensemble, true) in enumerate(zip(frames, truths)):
            own = () if analyses is None else (analyses[i, j],)
            row, sums = one(jax.random.fold_in(jax.random.key(i), j), *_device(ensemble, true, *own))
            rows.append(jax.tree.map(np.asarray, row))
            total = tally.merge(total, sums) if j >= testbed.frames_per_cycle else total
        series.append({name: np.stack([row[name] for row in rows]) for name in rows[0]})
        statistics.append({k: np.asarray(v) for k, v in tally.summarize(total, grid).items()})
    return {name: np.stack([s[name] for s in series]) for name in series[0]}, statistics
