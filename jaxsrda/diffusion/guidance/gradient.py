"""Guidance with a derivative of the denoiser."""

from __future__ import annotations

import dataclasses

import jax
from jax import Array
from jax.typing import ArrayLike

from jaxsrda.diffusion.denoiser import Denoiser
from jaxsrda.diffusion.guidance.gain import WHITE, Iterative
from jaxsrda.diffusion.guidance.guide import (
    Covariance,
    Observe,
    Readings,
    Samples,
    check_strength,
    diagonal,
    gain,
    lifted_solution,
    linearize,
    remaining,
)


def differentiated(denoise: Denoiser, x: Array, sigma: Array) -> tuple[Array, Covariance]:
    """D(x, σ), and u → σ² (∂D/∂x)ᵀ u."""
    estimate, back = jax.vjp(lambda x: denoise(x, sigma), x)
    return estimate, lambda u: sigma**2 * back(u)[0]


@dataclasses.dataclass(frozen=True)
class MMPS(Iterative):
    """Moment matching: V = σ² ∂D/∂x, the covariance of x₀ given x_σ by Tweedie's formula; strength multiplies R.

    The derivative of an exact denoiser is symmetric, so its transpose serves for it, one gradient an iteration.  Rozet
    et al. (2024, arXiv:2405.13712, eqs. 11-13).
    """

    iterations: int = 1

    def __call__(self, denoise: Denoiser, observe: Observe, readings: Readings, samples: Samples = WHITE) -> Denoiser:
        strength = 1.0 if self.strength is None else self.strength
        weighed = readings._replace(variance=strength * readings.variance)

        def guided(x: Array, sigma: Array) -> Array:
            estimate, tweedie = differentiated(denoise, x, sigma)
            return estimate + gain(observe, weighed, estimate, sigma, tweedie, self.iterations)

        return guided


@dataclasses.dataclass(frozen=True)
class PiGDM(Iterative):
    """D + σ² ∇ₓ of the likelihood of y under N(A(D), R + r² J Jᵀ), its covariance taken as constant.

    strength: s, by default the samples'.  Song et al. (2023, https://openreview.net/forum?id=9_gsMA8MRKQ, eqs. 7-8).
    """

    def __call__(self, denoise: Denoiser, observe: Observe, readings: Readings, samples: Samples = WHITE) -> Denoiser:
        spread = samples.std if self.strength is None else self.strength

        def guided(x: Array, sigma: Array) -> Array:
            estimate, tweedie = differentiated(denoise, x, sigma)
            departures, noise, pull, push = linearize(observe, readings, estimate)
            variance = remaining(spread, sigma)
            # Jᵀ v is wanted for the gradient: the white covariance goes to J's side.
            weight = diagonal(noise, pull, push, sigma)
            pulled = lifted_solution(noise, pull, lambda u: push(variance * u), departures, weight, self.iterations)
            return estimate + tweedie(pulled)

        return guided


@dataclasses.dataclass(frozen=True)
class Weighted:
    """The option of a guide whose strength is a weight."""

    strength: ArrayLike = 1.0

    def __post_init__(self):
        check_strength(self.strength)


@dataclasses.dataclass(frozen=True)
class SDA(Weighted):
    """D + σ² ∇ₓ of the likelihood of y under N(A(D), R + γσ² I); strength: γ.

    Rozet & Louppe (2023, arXiv:2306.10574, eq. 13, in variance-exploding form).
    """

    def __call__(self, denoise: Denoiser, observe: Observe, readings: Readings, samples: Samples = WHITE) -> Denoiser:
        def guided(x: Array, sigma: Array) -> Array:
            estimate, tweedie = differentiated(denoise, x, sigma)
            departures, noise, pull, _ = linearize(observe, readings, estimate)
            return estimate + tweedie(pull(departures / (noise + self.strength * sigma**2)))

        return guided


@dataclasses.dataclass(frozen=True)
class DPS(Weighted):
    """D − ζσ² ∇ₓ ½ Σ d²/R: the posterior's score with D in place of x₀, times ζ, the strength.

    Chung et al. (2023, arXiv:2209.14687, eq. 16).  With ζ = 1 the pull of precise sensors is too strong while D is
    uncertain, and many steps are needed to be stable.
    """

    strength: ArrayLike = 0.01

    def __call__(self, denoise: Denoiser, observe: Observe, readings: Readings, samples: Samples = WHITE) -> Denoiser:
        def guided(x: Array, sigma: Array) -> Array:
            estimate, tweedie = differentiated(denoise, x, sigma)
            departures, noise, pull, _ = linearize(observe, readings, estimate)
            return estimate + self.strength * tweedie(pull(departures / noise))

        return guided
