"""Scores of an ensemble against the truth, and sums of them that merge over frames and seeds.

An ensemble is ω[M, nx, ny], a truth or estimate ω[nx, ny]; vorticity is non-dimensional.  Area means are
means over the grid points, walls included; what is counted point by point (ranks, events, p(ω), structure
functions) leaves out the walls, where ω = 0 for all.  Every function but `bootstrap_interval` is a pure
function of arrays of one floating type, which it returns, and can be jitted, vmapped and scanned.
Shapes that do not match raise ValueError.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxsrda.core.checks import check_shape
from jaxsrda.core.linalg import matmul
from jaxsrda.flow import testbed as config
from jaxsrda.flow.grid import ChannelGrid, spectra, to_spectral

COVERAGE_LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Nominal levels of the central intervals."""

THRESHOLDS = (-4.0, -1.0, 1.0, 4.0)
"""Events ω > threshold of the reliability diagrams."""

PROBABILITY_BINS = 11
"""Bins of forecast probability, centred at 0, 0.1, …, 1."""

VORTICITY_CENTRES = np.linspace(-14.0, 14.0, 57)
"""Centres of the bins of p(ω), half a unit wide; vorticity beyond ±14.25 counts in the end bins."""

SEPARATIONS = (1, 2, 4, 8, 16, 32)
"""Separations of the structure functions in grid steps; those below nx / 2 are used."""

SAMPLED_MEMBERS = 8
"""Members, the first ones, whose spectra, structure functions and p(ω) are tallied."""


# One frame ------------------------------------------------------------------------------------


def maer(estimate: Array, truth: Array) -> Array:
    """Ratio of absolute errors Σ|ω̂ − ω| / Σ|ω| of fields [nx, ny], without units (arXiv:2604.21180)."""
    _check_pair(estimate, truth)
    return jnp.abs(estimate - truth).sum() / jnp.abs(truth).sum()


def rmse(estimate: Array, truth: Array) -> Array:
    """Error sqrt(<(ω̂ − ω)²>) of fields [nx, ny], in units of ω."""
    _check_pair(estimate, truth)
    return jnp.sqrt(jnp.mean((estimate - truth) ** 2))


def mssim_loss(estimate: Array, truth: Array, data_range: float | None = None) -> Array:
    """1 − mean structural similarity of fields [nx, ny], at least 11 points a side; a scalar, 0 if they agree.

    SSIM = (2 μ_a μ_b + C₁)(2 σ_ab + C₂) / ((μ_a² + μ_b² + C₁)(σ_a² + σ_b² + C₂)), C₁ = (0.01 R)², C₂ = (0.03 R)²,
    with population moments in 11 × 11 Gaussian windows (σ = 1.5), those that lie inside the field.  R is
    `data_range`, by default the span of `config.VORTICITY_RANGE`.  Raises ValueError for smaller fields.
    Source: Wang et al. (2004), doi:10.1109/TIP.2003.819861.
    """
    _check_pair(estimate, truth)
    nx, ny = truth.shape
    if min(nx, ny) < 11:
        raise ValueError(f"mssim_loss: expected at least 11 points a side for its window, got {nx} × {ny}")
    span = config.VORTICITY_RANGE[1] - config.VORTICITY_RANGE[0] if data_range is None else data_range
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    fields = jnp.stack([estimate, truth, estimate**2, truth**2, estimate * truth])
    mean_a, mean_b, mean_aa, mean_bb, mean_ab = matmul(_windows(nx), matmul(fields, _windows(ny).T))
    covariance = mean_ab - mean_a * mean_b
    variances = mean_aa - mean_a**2 + mean_bb - mean_b**2
    ssim = (2 * mean_a * mean_b + c1) * (2 * covariance + c2) / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))
    return 1 - ssim.mean()


@functools.cache
def _windows(size: int) -> np.ndarray:
    """Banded matrix (size − 10, size) of Gaussian windows of 11 points, σ = 1.5."""
    weights = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights /= weights.sum()
    return sum(w * np.eye(size - 10, size, offset) for offset, w in enumerate(weights))  # type: ignore[return-value]


def crps(ensemble: Array, truth: Array) -> Array:
    """Fair continuous ranked probability score of ω[M, nx, ny], in units of ω; a scalar, <|x − ω|> for M = 1.

    CRPS = <(1/M) Σ_i |x_i − ω| − 1/(2M(M−1)) Σ_ij |x_i − x_j|>, area mean <·>; the double sum is
    2 Σ_i (2i − M − 1) x_(i) over the sorted members.  Source: Ferro (2014), doi:10.1002/qj.2270.
    """
    members = _check_ensemble(ensemble, truth)
    errors = ensemble - truth
    distance = jnp.abs(errors).mean()
    if members == 1:
        return distance
    weights = jnp.asarray(np.arange(1 - members, members, 2) / (members * (members - 1)), truth.dtype)
    return distance - (weights[:, None, None] * _sort_members(errors)).sum(0).mean()


def _sort_members(ensemble: Array) -> Array:
    """The ensemble sorted along its first axis, by a bitonic network.

    Its (log₂ M)² / 2 stages are minima and maxima of whole fields: on CPU five to eleven times faster than
    `jnp.sort`, two to four times faster than a loop over pairs (M = 100, 128 × 65 points).
    """
    members, *area = ensemble.shape
    size = 1 << (members - 1).bit_length()
    ordered = jnp.pad(ensemble, ((0, size - members), *((0, 0) for _ in area)), constant_values=jnp.inf)
    for block in (2**i for i in range(1, size.bit_length())):
        for half in (block >> i for i in range(1, block.bit_length())):
            # The first stage of a merge compares a sorted half with the mirror image of the other.
            flip = slice(None, None, -1) if half == block // 2 else slice(None)
            pairs = ordered.reshape(-1, 2, half, *area)
            low, high = pairs[:, 0], pairs[:, 1, flip]
            ordered = jnp.stack([jnp.minimum(low, high), jnp.maximum(low, high)[:, flip]], axis=1)
    return ordered.reshape(size, *area)[:members]


def spread(ensemble: Array) -> Array:
    """Ensemble spread sqrt(<s²>) of ω[M, nx, ny], s² the unbiased variance, in units of ω; 0 for M = 1."""
    check_shape("ensemble", ensemble, (None, None, None))
    return jnp.sqrt(_variance(ensemble).mean())


def spread_skill(ensemble: Array, truth: Array) -> Array:
    """Spread–skill ratio sqrt((M+1)/M) · spread / RMSE of the mean: 1 if calibrated, below if overconfident.

    Takes ω[M, nx, ny] and ω[nx, ny]; has no units.  Source: Fortin et al. (2014), doi:10.1175/JHM-D-14-0008.1.
    """
    members = _check_ensemble(ensemble, truth)
    return (1 + 1 / members) ** 0.5 * spread(ensemble) / rmse(ensemble.mean(0), truth)


def error_spread_correlation(ensemble: Array, truth: Array) -> Array:
    """Correlation in space of the standard deviation of ω[M, nx, ny] and |error of its mean|; 0 for M = 1."""
    _check_ensemble(ensemble, truth)
    return correlation(jnp.sqrt(_variance(ensemble)), jnp.abs(ensemble.mean(0) - truth))


def correlation(a: Array, b: Array) -> Array:
    """Pearson correlation of two maps [nx, ny]; 0 if either is constant."""
    _check_pair(a, b)
    a, b = a - a.mean(), b - b.mean()
    norm = jnp.sqrt((a**2).sum() * (b**2).sum())
    return jnp.where(norm > 0, (a * b).sum() / jnp.where(norm > 0, norm, 1), 0)


def log_spectral_distance(spectrum: Array, reference: Array, floor: float = 1e-12) -> Array:
    """Distance sqrt(mean_κ (10 log₁₀ E(κ)/E_ref(κ))²) over shells κ = 1, 2, … of spectra [shells], in dB.

    Both are raised to at least `floor` times the largest of E_ref: an empty shell is at a finite distance.
    """
    check_shape("reference", reference, (None,))
    check_shape("spectrum", spectrum, reference.shape)
    least = jnp.maximum(floor * reference.max(), float(jnp.finfo(reference.dtype).tiny))
    decibels = 10 * jnp.log10(jnp.maximum(spectrum, least) / jnp.maximum(reference, least))
    return jnp.sqrt(jnp.mean(decibels[1:] ** 2))


def frame_scores(ensemble: Array, truth: Array) -> dict[str, Array]:
    """All scalar scores of one frame, ensemble ω[M, nx, ny] and truth ω[nx, ny]; the estimate is the mean."""
    _check_ensemble(ensemble, truth)
    mean = ensemble.mean(0)
    return {
        "maer": maer(mean, truth),
        "mssim_loss": mssim_loss(mean, truth),
        "rmse": rmse(mean, truth),
        "crps": crps(ensemble, truth),
        "spread": spread(ensemble),
        "spread_skill": spread_skill(ensemble, truth),
        "error_spread_correlation": error_spread_correlation(ensemble, truth),
    }


# Sums over frames -----------------------------------------------------------------------------


class Tally(NamedTuple):
    """Sums over frames; `merge` adds two.  Counts are int32: room for 3·10⁴ frames of 128 × 65 points.

    Pairs and triples are ordered truth, (ensemble mean,) members' average; M members, K shells,
    T = `THRESHOLDS`, R separations below nx / 2.
    """

    frames: Array  # () frames tallied
    ranks: Array  # (M + 1,) points whose truth has 0 … M members below it
    events: Array  # (T, 2, M + 1) points by ω ≤ or > threshold and members above the threshold
    squared_error: Array  # () of the ensemble mean, area mean
    variance: Array  # () unbiased, area mean
    energy: Array  # (3, K) kinetic-energy spectra, as `grid.spectra`
    enstrophy: Array  # (3, K) enstrophy spectra
    structure: Array  # (2, 4, R) structure functions of orders 1 … 4
    histogram: Array  # (2, 57) points in the bins of ω


def empty_tally(grid: ChannelGrid, members: int, dtype: Any = jnp.float32) -> Tally:
    """The tally of no frame, to start a scan or a `merge` with."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    truth = jax.ShapeDtypeStruct(grid.shape, dtype)
    ensemble = jax.ShapeDtypeStruct((members, *grid.shape), dtype)
    shapes = jax.eval_shape(lambda k, e, t: tally(k, grid, e, t), key, ensemble, truth)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def tally(key: Array, grid: ChannelGrid, ensemble: Array, truth: Array) -> Tally:
    """The tally of one frame: ensemble ω[M, nx, ny] and truth ω[nx, ny] on `grid`; `key` breaks ties of rank.

    Structure functions are S_p(r) = <|ω(x + r, y) − ω(x, y)|^p> along the periodic x.  Those, p(ω) and the
    members' spectra use the first `SAMPLED_MEMBERS` members.
    """
    check_shape("truth", truth, grid.shape)
    _check_ensemble(ensemble, truth)
    mean, sample = ensemble.mean(0), ensemble[:SAMPLED_MEMBERS]
    inner, inner_truth, inner_sample = ensemble[:, :, 1:-1], truth[:, 1:-1], sample[:, :, 1:-1]
    spectra_of = jax.vmap(lambda field: jnp.stack(spectra(grid, to_spectral(grid, field))))
    energy, enstrophy = jnp.stack([spectra_of(f).mean(0) for f in (truth[None], mean[None], sample)], axis=1)
    return Tally(
        frames=jnp.ones((), jnp.int32),
        ranks=_rank_counts(key, inner, inner_truth),
        events=jnp.stack([_event_counts(inner > level, inner_truth > level) for level in THRESHOLDS]),
        squared_error=jnp.mean((mean - truth) ** 2),
        variance=_variance(ensemble).mean(),
        energy=energy,
        enstrophy=enstrophy,
        structure=jnp.stack([_structure(inner_truth[None]), _structure(inner_sample)]),
        histogram=jnp.stack([_histogram(inner_truth), _histogram(inner_sample)]),
    )


def merge(a: Tally, b: Tally) -> Tally:
    """The tally of the frames of both, which share grid and ensemble size."""
    for name, left, right in zip(Tally._fields, a, b):
        check_shape(name, right, left.shape, hint="; merge tallies of one grid and ensemble size")
    return jax.tree.map(jnp.add, a, b)


def summarize(sums: Tally, grid: ChannelGrid) -> dict[str, Array]:
    """The statistics of a tally on `grid`, a flat dictionary of arrays; NaN where nothing was counted.

    frames (); spread_skill (): sqrt((M+1)/M · mean variance / mean squared error) of all frames.
    rank_histogram (M + 1,): frequencies, 1 / (M + 1) each if calibrated.
    coverage_nominal, _expected, _observed (levels,): an interval of level p lies between the m-th smallest
        and m-th largest member, m the integer nearest to (M + 1)(1 − p)/2, at least 1 and at most M / 2; a
        calibrated truth falls there with probability 1 − 2m/(M + 1), the expected coverage (M = 1: all of ℝ).
    event_threshold (T,), event_count, event_forecast, event_observed (T, bins): points, mean forecast
        probability (members above the threshold / M) and frequency of ω > threshold in each bin.
    shell (K,), energy_ and enstrophy_ with truth, mean and members (K,): mean spectra;
    energy_ and enstrophy_distance_ with mean and members: `log_spectral_distance` of them from the truth's, dB.
    separation (R,) in units of length, structure_truth and _members (4, R): S_p(r), p = 1 … 4.
    vorticity (57,), density_truth and _members (57,): p(ω) at bin centres.
    """
    check_shape("energy", sums.energy, (3, min(grid.kmax, grid.lmax) + 1), hint="; was it tallied on this grid?")
    dtype, members = sums.variance.dtype, len(sums.ranks) - 1
    frames, ranks = sums.frames.astype(dtype), sums.ranks.astype(dtype)
    ranks = ranks / ranks.sum()
    trims = [min(max(round((members + 1) * (1 - level) / 2), 1), members // 2) for level in COVERAGE_LEVELS]

    above = np.arange(members + 1)  # members above the threshold, and the bin of their fraction:
    nearest = (2 * (PROBABILITY_BINS - 1) * above + members) // (2 * members)
    in_bin = (nearest[:, None] == np.arange(PROBABILITY_BINS)).astype(int)
    events = sums.events.astype(dtype)
    not_observed, observed = jnp.moveaxis(matmul(events, in_bin), 1, 0)
    count = not_observed + observed
    forecast = matmul(events.sum(1), in_bin * above[:, None] / members)

    result = {
        "frames": sums.frames,
        "spread_skill": jnp.sqrt((1 + 1 / members) * sums.variance / sums.squared_error),
        "rank_histogram": ranks,
        "coverage_nominal": jnp.asarray(COVERAGE_LEVELS, dtype),
        "coverage_expected": jnp.asarray([1 - 2 * m / (members + 1) for m in trims], dtype),
        "coverage_observed": jnp.stack([ranks[m : members + 1 - m].sum() for m in trims]),
        "event_threshold": jnp.asarray(THRESHOLDS, dtype),
        "event_count": count,
        "event_forecast": forecast / count,
        "event_observed": observed / count,
        "shell": jnp.arange(sums.energy.shape[1], dtype=dtype),
        "separation": jnp.asarray(np.array(_separations(grid.nx)) * grid.spacing[0], dtype),
        "structure_truth": sums.structure[0] / frames,
        "structure_members": sums.structure[1] / frames,
        "vorticity": jnp.asarray(VORTICITY_CENTRES, dtype),
    }
    for name, spectrum in (("energy", sums.energy / frames), ("enstrophy", sums.enstrophy / frames)):
        for source, values in zip(("truth", "mean", "members"), spectrum):
            result[f"{name}_{source}"] = values
            if source != "truth":
                result[f"{name}_distance_{source}"] = log_spectral_distance(values, spectrum[0])
    for source, counts in zip(("truth", "members"), sums.histogram.astype(dtype)):
        result[f"density_{source}"] = counts / (0.5 * counts.sum())
    return result


def _count(index: Array, length: int) -> Array:
    """How often each of 0 … length − 1 occurs, int32."""
    return jnp.bincount(index.ravel(), length=length).astype(jnp.int32)


def _rank_counts(key: Array, ensemble: Array, truth: Array) -> Array:
    """Points (M + 1) by the number of members below the truth; ties are broken at random."""
    below, ties = (ensemble < truth).sum(0, dtype=jnp.int32), (ensemble == truth).sum(0, dtype=jnp.int32)
    above_ties = jax.random.uniform(key, truth.shape, truth.dtype) * (ties + 1).astype(truth.dtype)
    return _count(below + jnp.floor(above_ties).astype(jnp.int32), len(ensemble) + 1)


def _event_counts(forecast: Array, occurred: Array) -> Array:
    """Points (2, M + 1) by occurrence and number of members that forecast the event."""
    bins = len(forecast) + 1
    index = forecast.sum(0, dtype=jnp.int32) + bins * occurred.astype(jnp.int32)
    return _count(index, 2 * bins).reshape(2, bins)


def _histogram(values: Array) -> Array:
    """Values in the bins of `VORTICITY_CENTRES`."""
    index = jnp.floor((values + 14.25) / 0.5).astype(jnp.int32)
    return _count(jnp.clip(index, 0, len(VORTICITY_CENTRES) - 1), len(VORTICITY_CENTRES))


def _separations(nx: int) -> list[int]:
    """The separations shorter than half the channel."""
    return [r for r in SEPARATIONS if r < nx / 2]


def _structure(fields: Array) -> Array:
    """Structure functions (4, R) of orders 1 … 4 along x of fields [n, nx, ny], averaged over them."""
    shifted = jnp.stack([jnp.roll(fields, -r, axis=1) for r in _separations(fields.shape[1])])
    step = jnp.abs(shifted - fields)
    return jnp.stack([(step**p).mean((1, 2, 3)) for p in (1, 2, 3, 4)])


# Observations and seeds -----------------------------------------------------------------------


def observation_fit(values: Array, predicted: Array, mask: Array, variance: ArrayLike) -> dict[str, Array]:
    """Fit of an ensemble to observations: `rmse` of its mean, `chi2` and the `count` of sensors used.

    χ² = mean of (y − HX̄)² / (R + diag HPHᵀ), 1 if the innovations are as large as the filter expects.
    values y [p], predicted HX [M, p], mask [p] (False: left out, whatever its value), variance R [p] or one
    number.  Without a sensor all are 0.  Source: Desroziers et al. (2005), doi:10.1256/qj.05.108.
    """
    check_shape("values", values, (None,))
    check_shape("predicted", predicted, (None, *values.shape))
    check_shape("mask", mask, values.shape)
    if np.ndim(variance):
        check_shape("variance", variance, values.shape)
    used = mask.astype(bool)
    count = used.sum(dtype=jnp.int32)
    innovation = jnp.where(used, values - predicted.mean(0), 0)
    expected = jnp.where(used, jnp.asarray(variance, values.dtype) + _variance(predicted), 1)
    number = jnp.maximum(count, 1).astype(values.dtype)
    return {
        "rmse": jnp.sqrt((innovation**2).sum() / number),
        "chi2": (innovation**2 / expected).sum() / number,
        "count": count,
    }


def bootstrap_interval(
    values: ArrayLike, seed: int | np.random.Generator = 0, level: float = 0.95, resamples: int = 2000
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over the leading axis (seeds) and its bootstrap percentile interval: (mean, low, high), on the host.

    values [n, ...], in any units; one value gives an interval of no width.  Raises ValueError for no value or a
    level outside (0, 1).  Source: Efron (1979), doi:10.1214/aos/1176344552.
    """
    samples = np.asarray(values, dtype=float)
    if samples.ndim == 0 or len(samples) == 0:
        raise ValueError(f"values: expected at least one value along a leading axis, got shape {samples.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, got {level!r}")
    mean, n = samples.mean(0), len(samples)
    if n == 1:
        return mean, mean, mean
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples) / n
    low, high = np.quantile(np.tensordot(weights, samples, 1), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return mean, low, high


def _variance(ensemble: Array) -> Array:
    """Unbiased variance over the members; 0 for one member."""
    return ensemble.var(0, ddof=1) if len(ensemble) > 1 else jnp.zeros_like(ensemble[0])


def _check_pair(estimate: Array, truth: Array) -> None:
    check_shape("truth", truth, (None, None))
    check_shape("estimate", estimate, truth.shape)


def _check_ensemble(ensemble: Array, truth: Array) -> int:
    """The number of members, once the shapes are checked."""
    check_shape("truth", truth, (None, None))
    check_shape("ensemble", ensemble, (None, *truth.shape), hint="; one member is ensemble[None]")
    return len(ensemble)
