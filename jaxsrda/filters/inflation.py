"""Inflation and relaxation of an ensemble's spread."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxsrda.core.roots import deviation

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
