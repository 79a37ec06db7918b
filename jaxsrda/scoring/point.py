"""Scores of one frame, from fields and ensembles.

An ensemble is ω[M, nx, ny], a truth or estimate ω[nx, ny]; vorticity is non-dimensional.  Area means are
means over the grid points, walls included.  Every function is a pure function of arrays of one floating type, which it
returns, and can be jitted, vmapped and scanned.  Shapes that do not match raise ValueError.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core.checks import check_shape
from jaxsrda.core.linalg import matmul
from jaxsrda.core.roots import deviation, sqrt
from jaxsrda.flow.testbed import jet

# One frame ------------------------------------------------------------------------------------


def maer(estimate: Array, truth: Array) -> Array:
    """Ratio of absolute errors Σ|ω̂ − ω| / Σ|ω| of fields [nx, ny], without units (arXiv:2604.21180)."""
    _check_pair(estimate, truth)
    return jnp.abs(estimate - truth).sum() / jnp.abs(truth).sum()


def rmse(estimate: Array, truth: Array) -> Array:
    """Error sqrt(<(ω̂ − ω)²>) of fields [nx, ny], in units of ω."""
    _check_pair(estimate, truth)
    return sqrt(jnp.mean((estimate - truth) ** 2))


def mssim_loss(estimate: Array, truth: Array, data_range: float | None = None) -> Array:
    """1 − mean structural similarity of fields [nx, ny], at least 11 points a side; a scalar, 0 if they agree.

    SSIM = (2 μ_a μ_b + C₁)(2 σ_ab + C₂) / ((μ_a² + μ_b² + C₁)(σ_a² + σ_b² + C₂)), C₁ = (0.01 R)², C₂ = (0.03 R)²,
    with population moments in 11 × 11 Gaussian windows (σ = 1.5), those that lie inside the field.  R is
    `data_range`, by default the span of the paper's training runs.  Raises ValueError for smaller fields.
    Source: Wang et al. (2004), doi:10.1109/TIP.2003.819861.
    """
    _check_pair(estimate, truth)
    nx, ny = truth.shape
    if min(nx, ny) < 11:
        raise ValueError(f"mssim_loss: expected at least 11 points a side for its window, got {nx} × {ny}")
    span = float(np.ptp(jet().vorticity_range)) if data_range is None else data_range
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
    members = check_ensemble(ensemble, truth)
    errors = ensemble - truth[None]
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
    return sqrt(member_variance(ensemble).mean())


def spread_skill(ensemble: Array, truth: Array, analysis: Array | None = None) -> Array:
    """Spread–skill ratio: 1 if calibrated, below if overconfident.

    sqrt((M+1)/M) · spread / RMSE of the members' mean, which has an error of its own (Fortin et al. 2014,
    doi:10.1175/JHM-D-14-0008.1), or spread / RMSE of an analysis[nx, ny] that the members lie around.  Takes
    ω[M, nx, ny] and ω[nx, ny]; has no units.
    """
    check_ensemble(ensemble, truth)
    return sqrt(expected_error(ensemble, analysis)) / rmse(best(ensemble, analysis), truth)


def error_spread_correlation(ensemble: Array, truth: Array, analysis: Array | None = None) -> Array:
    """Correlation in space of the standard deviation of ω[M, nx, ny] and |error of the analysis|; 0 for M = 1.

    The analysis[nx, ny] is the members' mean unless another is given.
    """
    check_ensemble(ensemble, truth)
    return correlation(deviation(ensemble, ddof=1), jnp.abs(best(ensemble, analysis) - truth))


def correlation(a: Array, b: Array) -> Array:
    """Pearson correlation of two maps [nx, ny]; 0 if either is constant."""
    _check_pair(a, b)
    a, b = a - a.mean(), b - b.mean()
    norm = sqrt((a**2).sum() * (b**2).sum())
    return jnp.where(norm > 0, (a * b).sum() / jnp.where(norm > 0, norm, 1), 0)


class Scored(NamedTuple):
    """What scores are of: an ensemble ω[M, nx, ny], the truth ω[nx, ny], the span of vorticity, the analysis ω[nx, ny]
    that the members lie around, None if that is their mean, and ensemble and truth of the cycle's first frame, None
    where a frame stands alone."""

    ensemble: Array
    truth: Array
    span: float | None = None
    analysis: Array | None = None
    first: tuple[Array, Array] | None = None

    @property
    def best(self) -> Array:
        """The best estimate ω[nx, ny]."""
        return best(self.ensemble, self.analysis)


Score = Callable[[Scored], Array]

SCORES: dict[str, Score] = {
    "maer": lambda of: maer(of.best, of.truth),
    "mssim_loss": lambda of: mssim_loss(of.best, of.truth, of.span),
    "rmse": lambda of: rmse(of.best, of.truth),
    "crps": lambda of: crps(of.ensemble, of.truth),
    "spread": lambda of: spread(of.ensemble),
    "spread_skill": lambda of: spread_skill(of.ensemble, of.truth, of.analysis),
    "error_spread_correlation": lambda of: error_spread_correlation(of.ensemble, of.truth, of.analysis),
}
"""Scores of a frame by name; one more line is one more score in series, tables and files."""


def frame_scores(
    ensemble: Array,
    truth: Array,
    data_range: float | None = None,
    analysis: Array | None = None,
    first: tuple[Array, Array] | None = None,
    scores: Mapping[str, Score] | None = None,
) -> dict[str, Array]:
    """The scores of one frame, ensemble ω[M, nx, ny] and truth ω[nx, ny].

    analysis: the estimate ω[nx, ny] that the members are independent draws around, by default their mean; first: those
    of the cycle's first frame; scores: by default `SCORES`.
    """
    check_ensemble(ensemble, truth)
    of = Scored(ensemble, truth, data_range, analysis, first)
    return {name: score(of) for name, score in (SCORES if scores is None else scores).items()}


def best(ensemble: Array, analysis: Array | None) -> Array:
    """The analysis (nx, ny), the members' mean unless it is given."""
    return ensemble.mean(0) if analysis is None else analysis


def expected_error(ensemble: Array, analysis: Array | None) -> Array:
    """Mean squared error to expect of the analysis from the members: their variance, 1 + 1/M of it for their mean."""
    own = 1 + 1 / len(ensemble) if analysis is None else 1.0
    return own * member_variance(ensemble).mean()


def member_variance(ensemble: Array) -> Array:
    """Unbiased variance over the members; 0 for one member."""
    return ensemble.var(0, ddof=1) if len(ensemble) > 1 else jnp.zeros_like(ensemble[0])


def _check_pair(estimate: Array, truth: Array) -> None:
    check_shape("truth", truth, (None, None))
    check_shape("estimate", estimate, truth.shape)


def check_ensemble(ensemble: Array, truth: Array) -> int:
    """The number of members, once the shapes are checked."""
    check_shape("truth", truth, (None, None))
    check_shape("ensemble", ensemble, (None, *truth.shape), hint="; one member is ensemble[None]")
    return len(ensemble)
