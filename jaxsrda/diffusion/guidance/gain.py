"""Guidance by a Kalman gain, without a derivative of the denoiser."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxsrda.diffusion.denoiser import Denoiser
from jaxsrda.diffusion.guidance.guide import (
    Observe,
    Readings,
    Samples,
    check_iterations,
    check_strength,
    gain,
    remaining,
)

WHITE = Samples()


def updated(
    denoise: Denoiser,
    observe: Observe,
    readings: Readings,
    covariance: Callable[[Array, Array], Array],
    iterations: int,
) -> Denoiser:
    """D and the gain of an error covariance V at each level; covariance: (u, σ) → V u."""

    def guided(x: Array, sigma: Array) -> Array:
        estimate = denoise(x, sigma)
        return estimate + gain(observe, readings, estimate, sigma, lambda u: covariance(u, sigma), iterations)

    return guided


@dataclasses.dataclass(frozen=True)
class Iterative:
    """Options of a guide that solves by conjugate gradients: its strength (None for its own), and iterations."""

    strength: ArrayLike | None = None
    iterations: int = 3

    def __post_init__(self):
        check_strength(self.strength)
        check_iterations(self.iterations)


@dataclasses.dataclass(frozen=True)
class Lifted(Iterative):
    """The estimate moved by a Kalman gain, as if its error were white: V = r² I, strength: s, by default the samples'.

    Song et al. (2023, https://openreview.net/forum?id=9_gsMA8MRKQ, eqs. 7-8), without the derivative of D.
    """

    def __call__(self, denoise: Denoiser, observe: Observe, readings: Readings, samples: Samples = WHITE) -> Denoiser:
        spread = samples.std if self.strength is None else self.strength
        return updated(denoise, observe, readings, lambda u, sigma: remaining(spread, sigma) * u, self.iterations)


@dataclasses.dataclass(frozen=True)
class DiffPIR(Iterative):
    """argmin_z ‖y − A(z)‖²_R + λ ‖z − D‖²/σ²: V = σ²/λ I, strength: λ, by default 1.

    Zhu et al. (2023, arXiv:2305.08995, eq. 12).
    """

    def __call__(self, denoise: Denoiser, observe: Observe, readings: Readings, samples: Samples = WHITE) -> Denoiser:
        strength = 1.0 if self.strength is None else self.strength
        return updated(denoise, observe, readings, lambda u, sigma: sigma**2 / strength * u, self.iterations)


@dataclasses.dataclass(frozen=True)
class OI(Iterative):
    """Optimal interpolation: V = (S⁻¹ + σ⁻² I)⁻¹ for the samples' covariance S around their mean; strength: of S.

    Where the covariance is not known S = I times the strength, by default the samples' variance; else strength
    multiplies it, by default 1: σ² goes in as variance/strength, and the result is multiplied by the strength.
    Daley (1991, Atmospheric Data Analysis, chapter 4).
    """

    def __call__(self, denoise: Denoiser, observe: Observe, readings: Readings, samples: Samples = WHITE) -> Denoiser:
        covariance, strength = samples.covariance, self.strength
        if strength is None:
            strength = 1.0 if covariance is not None else jnp.square(samples.std)

        def spread(u: Array, sigma: Array) -> Array:
            if covariance is None:
                return remaining(jnp.sqrt(jnp.asarray(strength, u.dtype)), sigma) * u
            return jnp.asarray(strength, u.dtype) * covariance(u, sigma**2 / strength)

        return updated(denoise, observe, readings, spread, self.iterations)
