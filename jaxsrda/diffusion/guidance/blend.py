"""Guidance that replaces the estimate at the sensors."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxsrda.diffusion.denoiser import Denoiser
from jaxsrda.diffusion.guidance.gain import Observe, linearize
from jaxsrda.observing.observations import Observations

# Methods without a derivative of the denoiser -------------------------------------------------


def blend(
    denoise: Denoiser,
    observe: Observe,
    sensors: Observations,
    strength: ArrayLike = 1.0,
    blur: Callable[[Array, Array], Array] | None = None,
    hard_below: float = 0.0,
) -> Denoiser:
    """The estimate replaced at the sensors: x̂ = D + blur(J⁺ α d), α = γ/(γ + R), or 1 at σ ≤ `hard_below`.

    strength: γ.  blur: (field, σ) → field, which carries what sensors say to their neighbours.  J⁺ = Jᵀ (J Jᵀ)⁻¹ with
    the row sums of J Jᵀ as its diagonal: for sensors that share no point.  After arXiv:2604.21180.
    """

    def guided(x: Array, sigma: Array) -> Array:
        estimate = denoise(x, sigma)
        departures, noise, pull, push = linearize(observe, sensors, estimate)
        soft = strength / (strength + noise)
        alone = push(pull(jnp.ones_like(departures)))
        share = jnp.where(sigma <= hard_below, jnp.ones_like(soft), soft) / jnp.where(alone > 0, alone, 1)
        change = pull(jnp.where(alone > 0, share, 0) * departures)
        return estimate + (change if blur is None else blur(change, sigma))

    return guided
