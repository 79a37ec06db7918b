"""Guidance that replaces the estimate at the sensors, and guidance that waits until the samples are drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxsrda.core.checks import check_positive
from jaxsrda.diffusion.denoiser import Denoiser
from jaxsrda.diffusion.guidance.gain import WHITE
from jaxsrda.diffusion.guidance.guide import Observe, Readings, Samples, check_strength, linearize


def geometric(ends: tuple[float, float], sigmas: np.ndarray) -> Callable[[Array], Array]:
    """σ → width, from one end at the first level to the other at the last that is evaluated, geometric in σ."""
    first, last = float(sigmas[0]), float(sigmas[max(len(sigmas) - 2, 1)])
    power = float(np.log(ends[1] / ends[0]) / np.log(last / first)) if last > 0 else 0.0
    return lambda sigma: ends[0] * (sigma / first) ** power


@dataclasses.dataclass(frozen=True)
class Blend:
    """The estimate replaced at the sensors: x̂ = D + blur(J⁺ α d), α = γ/(γ + R), or 1 in the last steps.

    strength: γ.  blur: widths in grid points at the first and the last level, geometric in σ between them, of the blur
    that carries what sensors say to their neighbours (none for samples without neighbours).  hard_steps: how many of
    the last steps have α = 1.  J⁺ = Jᵀ (J Jᵀ)⁻¹ with the row sums of J Jᵀ as its diagonal: for sensors that share no
    point.  After arXiv:2604.21180.
    """

    strength: ArrayLike = 1.0
    blur: tuple[float, float] = (1.0, 1.0)
    hard_steps: int = 0

    def __post_init__(self):
        check_strength(self.strength)
        if len(self.blur) != 2:
            raise ValueError(f"blur: expected two widths, at the first and the last level, got {self.blur}")
        for width in self.blur:
            check_positive("blur", width)
        if self.hard_steps < 0:
            raise ValueError(f"hard_steps: expected 0 or more, got {self.hard_steps}")

    def __call__(self, denoise: Denoiser, observe: Observe, readings: Readings, samples: Samples = WHITE) -> Denoiser:
        sigmas, smooth = samples.sigmas, None
        if samples.smooth is not None and sigmas is not None:
            smooth = samples.smooth(geometric(self.blur, sigmas))
        hard_below = 0.0
        if self.hard_steps:
            if sigmas is None or self.hard_steps > len(sigmas) - 1:
                steps = "unknown" if sigmas is None else len(sigmas) - 1
                raise ValueError(
                    f"hard_steps: expected at most as many as there are steps, {steps}, got {self.hard_steps}"
                )
            hard_below = float(sigmas[-1 - self.hard_steps]) * 1.0001  # float32 may round the level up

        def guided(x: Array, sigma: Array) -> Array:
            estimate = denoise(x, sigma)
            departures, noise, pull, push = linearize(observe, readings, estimate)
            soft = self.strength / (self.strength + noise)
            alone = push(pull(jnp.ones_like(departures)))
            share = jnp.where(sigma <= hard_below, jnp.ones_like(soft), soft) / jnp.where(alone > 0, alone, 1)
            change = pull(jnp.where(alone > 0, share, 0) * departures)
            return estimate + (change if smooth is None else smooth(change, sigma))

        return guided


@dataclasses.dataclass(frozen=True)
class Projected:
    """Samples drawn without guidance; in the end each one's misfit at the sensors is interpolated onto its analysis."""

    def __call__(self, denoise: Denoiser, observe: Observe, readings: Readings, samples: Samples = WHITE) -> Denoiser:
        return denoise
