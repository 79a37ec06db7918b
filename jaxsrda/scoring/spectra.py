"""Distances between spectra."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxsrda.core.checks import check_shape
from jaxsrda.core.roots import sqrt


def log_spectral_distance(spectrum: Array, reference: Array, floor: float = 1e-12) -> Array:
    """Distance sqrt(mean_κ (10 log₁₀ E(κ)/E_ref(κ))²) over shells κ = 1, 2, … of spectra [shells], in dB.

    Both are raised to at least `floor` times the largest of E_ref: an empty shell is at a finite distance.
    """
    check_shape("reference", reference, (None,))
    check_shape("spectrum", spectrum, reference.shape)
    least = jnp.maximum(floor * reference.max(), float(jnp.finfo(reference.dtype).tiny))
    decibels = 10 * jnp.log10(jnp.maximum(spectrum, least) / jnp.maximum(reference, least))
    return sqrt(jnp.mean(decibels[1:] ** 2))
