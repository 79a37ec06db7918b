"""Sums of an ensemble's statistics that merge over frames and seeds.

What is counted point by point (ranks, events, p(ω), structure functions) leaves out the walls, where ω = 0 for all.
Every function is a pure function of arrays of one floating type.  Shapes that do not match raise ValueError.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core import draws, roots
from jaxsrda.core.checks import check_shape
from jaxsrda.core.linalg import matmul
from jaxsrda.flow.grid import ChannelGrid, spectra, to_spectral
from jaxsrda.scoring.point import best, check_ensemble, expected_error
from jaxsrda.scoring.spectra import log_spectral_distance

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


# Sums over frames -----------------------------------------------------------------------------


class Tally(NamedTuple):
    """Sums over frames; `merge` adds two.  Counts are int32: room for 3·10⁴ frames of 128 × 65 points.

    Pairs and triples are ordered truth, (analysis,) members' average; M members, K shells,
    T = `THRESHOLDS`, R separations below nx / 2.
    """

    frames: Array  # () frames tallied
    ranks: Array  # (M + 1,) points whose truth has 0 … M members below it
    events: Array  # (T, 2, M + 1) points by ω ≤ or > threshold and members above the threshold
    squared_error: Array  # () of the analysis, area mean
    variance: Array  # () that the members make one expect of that error, area mean
    energy: Array  # (3, K) kinetic-energy spectra, as `grid.spectra`
    enstrophy: Array  # (3, K) enstrophy spectra
    structure: Array  # (2, 4, R) structure functions of orders 1 … 4
    histogram: Array  # (2, 57) points in the bins of ω


def empty_tally(grid: ChannelGrid, members: int, dtype: Any = jnp.float32) -> Tally:
    """The tally of no frame, to start a scan or a `merge` with."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    truth = jax.ShapeDtypeStruct(grid.shape, dtype)
    ensemble = jax.ShapeDtypeStruct((members, *grid.shape), dtype)
    shapes = jax.eval_shape(lambda k, e, t: frame_tally(k, grid, e, t), key, ensemble, truth)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def frame_tally(key: Array, grid: ChannelGrid, ensemble: Array, truth: Array, analysis: Array | None = None) -> Tally:
    """The tally of one frame: ensemble ω[M, nx, ny] and truth ω[nx, ny] on `grid`; `key` breaks ties of rank.

    analysis: the estimate ω[nx, ny] that the members are independent draws around, by default their mean.
    Structure functions are S_p(r) = <|ω(x + r, y) − ω(x, y)|^p> along the periodic x.  Those, p(ω) and the
    members' spectra use the first `SAMPLED_MEMBERS` members.
    """
    check_shape("truth", truth, grid.shape)
    check_ensemble(ensemble, truth)
    mean, sample = best(ensemble, analysis), ensemble[:SAMPLED_MEMBERS]
    inner, inner_truth, inner_sample = ensemble[:, :, 1:-1], truth[:, 1:-1], sample[:, :, 1:-1]
    spectra_of = jax.vmap(lambda field: jnp.stack(spectra(grid, to_spectral(grid, field))))
    energy, enstrophy = jnp.stack([spectra_of(f).mean(0) for f in (truth[None], mean[None], sample)], axis=1)
    return Tally(
        frames=jnp.ones((), jnp.int32),
        ranks=_rank_counts(key, inner, inner_truth),
        events=jnp.stack([_event_counts(inner > level, inner_truth > level) for level in THRESHOLDS]),
        squared_error=jnp.mean((mean - truth) ** 2),
        variance=expected_error(ensemble, analysis),
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

    frames (); spread_skill (): sqrt(mean variance / mean squared error) of all frames (`point.spread_skill`).
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
        "spread_skill": roots.sqrt(sums.variance / sums.squared_error),
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
    below, ties = (ensemble < truth[None]).sum(0, dtype=jnp.int32), (ensemble == truth[None]).sum(0, dtype=jnp.int32)
    above_ties = draws.uniform(key, truth.shape, truth.dtype) * (ties + 1).astype(truth.dtype)
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
    step = jnp.abs(shifted - fields[None])
    return jnp.stack([(step**p).mean((1, 2, 3)) for p in (1, 2, 3, 4)])
