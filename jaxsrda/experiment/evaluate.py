"""Score analyses that are already in a file, the package's own or anyone's."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.app.datasets import read_fields, variable_names
from jaxsrda.experiment.result import Analysis
from jaxsrda.experiment.truth import prepare_truth
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.testbed import FRAME, FRAMES_PER_CYCLE, LEVELS, level_grid
from jaxsrda.observing.observations import Observations
from jaxsrda.scoring import point, tally


def evaluate_file(path: Path, truth_path: Path | None = None) -> Analysis:
    """Scores of the analyses in `path` from frame 4 on, against a truth (by default the file's omega_truth).

    With members (`omega`, a member axis before time) every score is computed; from omega_mean and
    omega_std those that need no members.  Raises ValueError for missing variables or frames that do not match.
    """
    names = variable_names(path)
    truth = read_fields(path, "omega_truth") if truth_path is None else read_fields(truth_path)
    truth = prepare_truth(truth, str(truth_path or path))
    grid = level_grid(LEVELS["hr"])
    members = None
    if "omega_mean" in names:
        mean, std = (_with_truths(read_fields(path, name), 4) for name in ("omega_mean", "omega_std"))
    if "omega" in names or "omega_mean" not in names:
        members = _with_truths(read_fields(path, "omega", (4, 5)), 5)
        mean, std = members.mean(1), members.std(1, ddof=1) if members.shape[1] > 1 else 0 * members[:, 0]
    frames = mean.shape[1] // FRAMES_PER_CYCLE * FRAMES_PER_CYCLE
    wanted = (len(truth), frames, *grid.shape)
    if (mean.shape[0], frames, *mean.shape[2:]) != wanted or truth.shape[1] < frames:
        raise ValueError(
            f"{path}: expected analyses of truths × frames × nx × ny like the truth's {truth.shape}, got {mean.shape}; "
            "evaluate against the truth they were made for"
        )
    mean, std, truth = mean[:, :frames], std[:, :frames], truth[:, :frames]

    statistics: list[dict[str, np.ndarray]] = []
    if members is None:
        series = jax.lax.map(lambda args: jax.vmap(_moment_scores)(*args), _device(mean, std, truth))
    else:
        ensembles = np.moveaxis(members[:, :, :frames], 1, 2)
        series, statistics = _member_scores(grid, ensembles, truth)
    series = {name: np.asarray(values)[:, FRAMES_PER_CYCLE:] for name, values in series.items()}
    summary = {name: values.mean(1) for name, values in series.items()}
    if statistics:
        for name in ("spread_skill", "energy_distance_mean", "energy_distance_members"):
            summary[name] = np.array([s[name] for s in statistics])
    background = mean[:, ::FRAMES_PER_CYCLE]
    if "omega_background" in names:
        background = _with_truths(read_fields(path, "omega_background"), 4)
    empty = np.zeros((len(mean), frames // FRAMES_PER_CYCLE, 0))
    return Analysis(
        method=Path(path).stem,
        config={"file": str(path), "truth": str(truth_path or path)},
        per_truth=summary,
        series=series,
        statistics=statistics,
        times=FRAME * np.arange(frames),
        truth=truth,
        mean=mean,
        std=std,
        background=background,
        members=members,
        observations=Observations(empty, np.zeros((*empty.shape, 2)), empty.astype(bool), empty),  # type: ignore
        grid=grid,
        seconds={},
        finite=True,
    )


def _with_truths(array: np.ndarray, ndim: int) -> np.ndarray:
    return array if array.ndim == ndim else array[None]


def _device(*arrays: np.ndarray) -> tuple[Array, ...]:
    dtype = jnp.zeros(()).dtype
    return tuple(jnp.asarray(array, dtype) for array in arrays)


def _moment_scores(mean: Array, std: Array, truth: Array) -> dict[str, Array]:
    """Scores of one frame that its mean and standard deviation determine (spread–skill of a large ensemble)."""
    spread, rmse = jnp.sqrt(jnp.mean(std**2)), point.rmse(mean, truth)
    return {
        "maer": point.maer(mean, truth),
        "mssim_loss": point.mssim_loss(mean, truth),
        "rmse": rmse,
        "spread": spread,
        "spread_skill": spread / rmse,
        "error_spread_correlation": point.correlation(std, jnp.abs(mean - truth)),
    }


def _member_scores(
    grid: ChannelGrid, ensembles: np.ndarray, truth: np.ndarray
) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """Every score of (truths, frames, M, nx, ny), and the statistics of each truth from frame 4 on."""

    @jax.jit
    def one(key, ensemble, truth):
        return point.frame_scores(ensemble, truth), tally.tally(key, grid, ensemble, truth)

    series, statistics = [], []
    for i, (frames, truths) in enumerate(zip(ensembles, truth)):
        total = tally.empty_tally(grid, frames.shape[1], jnp.zeros(()).dtype)
        rows = []
        for j, (ensemble, true) in enumerate(zip(frames, truths)):
            row, sums = one(jax.random.fold_in(jax.random.key(i), j), *_device(ensemble, true))
            rows.append(jax.tree.map(np.asarray, row))
            total = tally.merge(total, sums) if j >= FRAMES_PER_CYCLE else total
        series.append({name: np.stack([row[name] for row in rows]) for name in rows[0]})
        statistics.append({k: np.asarray(v) for k, v in tally.summarize(total, grid).items()})
    return {name: np.stack([s[name] for s in series]) for name in series[0]}, statistics
