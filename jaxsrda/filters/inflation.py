"""Inflation and relaxation of an ensemble's spread."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxsrda.core.roots import deviation, sqrt
from jaxsrda.filters.analysis import departures
from jaxsrda.filters.config import FilterParams
from jaxsrda.observing.observations import Observations

# Inflation ------------------------------------------------------------------------------------


def inflate(ensemble: Array, factor: Array) -> Array:
    """Multiplicative inflation x̄ + λ x′ of an ensemble (M, …)."""
    mean = ensemble.mean(0, keepdims=True)
    return mean + factor * (ensemble - mean)


def relax_spread(analysis: Array, background: Array, alpha: Array) -> Array:
    """RTPS: x′ ← x′ (1 + α (σ_b − σ_a)/σ_a), point by point; α = 0 changes nothing.

    Whitaker & Hamill (2012, doi:10.1175/MWR-D-11-00276.1, eq. 2).
    """
    mean = analysis.mean(0, keepdims=True)
    spread_a, spread_b = deviation(analysis), deviation(background)
    safe = jnp.where(spread_a > 0, spread_a, 1)
    factor = jnp.where(spread_a > 0, alpha * (spread_b - spread_a) / safe, 0)
    return analysis + (analysis - mean) * factor[None]


def relax_perturbations(analysis: Array, background: Array, alpha: Array) -> Array:
    """RTPP: x′ ← (1 − α) x′ + α x′_b; α = 0 changes nothing.

    Zhang, Snyder & Sun (2004, doi:10.1175/1520-0493(2004)132<1238:IOIEAO>2.0.CO;2, eq. 5).
    """
    before = background - background.mean(0, keepdims=True)
    return analysis + alpha * (before - (analysis - analysis.mean(0, keepdims=True)))


# Adaptive inflation ---------------------------------------------------------------------------

BOUNDS = (0.25, 16.0)
"""Least and largest λ² that one time's departures may ask for: a factor of 0.5 to 4."""


def adapted(factor: Array, predicted: Array, observations: Observations, params: FilterParams) -> Array:
    """The inflation factor λ that departures ask for, λ² ← (1 − w) λ² + w λ² (dᵀR⁻¹d − p) / tr(R⁻¹ HPHᵀ).

    factor: () the last λ; predicted: (M, p) of the ensemble that is inflated by it, whose covariance is HPHᵀ; d is
    y − H x̄; w is `params.adaptive`: 0 keeps λ.  A time without observations, or without spread, keeps λ too.  One
    time's estimate is kept within `BOUNDS`.  Wang & Bishop (2003,
    doi:10.1175/1520-0469(2003)060<1140:ACOBAE>2.0.CO;2), smoothed in time as in Li, Kalnay & Miyoshi (2009,
    doi:10.1002/qj.371).
    """
    seen = departures(predicted, observations, params)
    count = jnp.sum(observations.mask, dtype=seen.variance.dtype)
    spread = jnp.sum(jnp.sum(seen.anomalies**2, 0) / seen.variance) / (len(predicted) - 1)
    excess = jnp.sum(seen.innovation**2 / seen.variance) - count
    told = (count > 0) & (spread > 0)
    estimate = jnp.clip(factor**2 * excess / jnp.where(told, spread, 1), *BOUNDS)
    return jnp.where(told, sqrt((1 - params.adaptive) * factor**2 + params.adaptive * estimate), factor)
