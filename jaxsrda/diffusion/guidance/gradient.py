"""Guidance with a derivative of the denoiser."""

from __future__ import annotations

import jax
from jax import Array
from jax.typing import ArrayLike

from jaxsrda.diffusion.denoiser import Denoiser
from jaxsrda.diffusion.guidance.gain import (
    ITERATIONS,
    Covariance,
    Observe,
    diagonal,
    gain,
    lifted_solution,
    linearize,
    remaining,
)
from jaxsrda.observing.observations import Observations

# Methods with a derivative of the denoiser ----------------------------------------------------


def differentiated(denoise: Denoiser, x: Array, sigma: Array) -> tuple[Array, Covariance]:
    """D(x, σ), and u → σ² (∂D/∂x)ᵀ u."""
    estimate, back = jax.vjp(lambda x: denoise(x, sigma), x)
    return estimate, lambda u: sigma**2 * back(u)[0]


def mmps(
    denoise: Denoiser,
    observe: Observe,
    sensors: Observations,
    strength: ArrayLike = 1.0,
    iterations: int = 1,
) -> Denoiser:
    """Moment matching: V = σ² ∂D/∂x, the covariance of x₀ given x_σ by Tweedie's formula; strength multiplies R.

    The derivative of an exact denoiser is symmetric, so its transpose serves for it, one gradient an iteration.  Rozet
    et al. (2024, arXiv:2405.13712, eqs. 11-13).
    """

    def guided(x: Array, sigma: Array) -> Array:
        estimate, tweedie = differentiated(denoise, x, sigma)
        weighed = sensors._replace(variance=strength * sensors.variance)
        return estimate + gain(observe, weighed, estimate, sigma, tweedie, iterations)

    return guided


def pigdm(
    denoise: Denoiser,
    observe: Observe,
    sensors: Observations,
    strength: ArrayLike = 1.0,
    iterations: int = ITERATIONS,
) -> Denoiser:
    """D + σ² ∇ₓ of the likelihood of y under N(A(D), R + r² J Jᵀ), its covariance taken as constant; strength: s.

    Song et al. (2023, https://openreview.net/forum?id=9_gsMA8MRKQ, eqs. 7-8).
    """

    def guided(x: Array, sigma: Array) -> Array:
        estimate, tweedie = differentiated(denoise, x, sigma)
        departures, noise, pull, push = linearize(observe, sensors, estimate)
        variance = remaining(strength, sigma)
        # Jᵀ v is wanted for the gradient: the white covariance goes to J's side.
        weight = diagonal(noise, pull, push, sigma)
        pulled = lifted_solution(noise, pull, lambda u: push(variance * u), departures, weight, iterations)
        return estimate + tweedie(pulled)

    return guided


def sda(denoise: Denoiser, observe: Observe, sensors: Observations, strength: ArrayLike = 1.0) -> Denoiser:
    """D + σ² ∇ₓ of the likelihood of y under N(A(D), R + γσ² I); strength: γ.

    Rozet & Louppe (2023, arXiv:2306.10574, eq. 13, in variance-exploding form).
    """

    def guided(x: Array, sigma: Array) -> Array:
        estimate, tweedie = differentiated(denoise, x, sigma)
        departures, noise, pull, _ = linearize(observe, sensors, estimate)
        return estimate + tweedie(pull(departures / (noise + strength * sigma**2)))

    return guided


def dps(denoise: Denoiser, observe: Observe, sensors: Observations, strength: ArrayLike = 0.01) -> Denoiser:
    """D − ζσ² ∇ₓ ½ Σ d²/R: the posterior's score with D in place of x₀, times ζ, the strength.

    Chung et al. (2023, arXiv:2209.14687, eq. 16).  With ζ = 1 the pull of precise sensors is too strong while D is
    uncertain, and many steps are needed to be stable.
    """

    def guided(x: Array, sigma: Array) -> Array:
        estimate, tweedie = differentiated(denoise, x, sigma)
        departures, noise, pull, _ = linearize(observe, sensors, estimate)
        return estimate + strength * tweedie(pull(departures / noise))

    return guided
