"""Fit to observations, and intervals over seeds."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxsrda.core.checks import check_shape
from jaxsrda.core.roots import sqrt
from jaxsrda.scoring.point import member_variance

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
    expected = jnp.where(used, jnp.asarray(variance, values.dtype) + member_variance(predicted), 1)
    number = jnp.maximum(count, 1).astype(values.dtype)
    return {
        "rmse": sqrt((innovation**2).sum() / number),
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
