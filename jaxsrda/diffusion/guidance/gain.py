"""Guidance by a Kalman gain, without a derivative of the denoiser; and what all methods share."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxsrda.diffusion.denoiser import Denoiser
from jaxsrda.observing.observations import Observations

Observe = Callable[[Array], Array]
"""A: what the sensors would see of a sample, (p,)."""

Covariance = Callable[[Array], Array]
"""V u of an array u shaped as a sample; symmetric, no eigenvalue below zero."""

ITERATIONS = 3
"""Steps of conjugate gradients unless told."""


# What the methods share -----------------------------------------------------------------------


def join(parts: list[tuple[Observe, Observations]]) -> tuple[Observe, Observations]:
    """Several sets of sensors, each with an operator of its own, as one."""
    sensors = jax.tree.map(lambda *a: jnp.concatenate(a), *(sensors._replace(guides=None) for _, sensors in parts))
    return (lambda x: jnp.concatenate([observe(x) for observe, _ in parts])), sensors


def linearize(observe: Observe, sensors: Observations, at: Array) -> tuple[Array, Array, Covariance, Covariance]:
    """d = y − A (p,), R (p,), v → Jᵀ v and u → J u at a sample; masked sensors count for nothing, with R = 1.

    J u comes as the gradient of the linear Jᵀ v, because layers with a gradient of their own know no forward mode.
    """
    predicted, back = jax.vjp(observe, at)
    mask = sensors.mask & jnp.isfinite(sensors.variance)
    seen = mask.astype(at.dtype)

    def pull(v: Array) -> Array:
        return back(seen * v)[0]

    push = jax.vjp(pull, predicted)[1]
    departures = jnp.where(mask, sensors.values - predicted, 0)
    return departures, jnp.where(mask, sensors.variance, 1), pull, lambda u: push(u)[0]


def lifted_solution(
    noise: Array, lift: Callable[[Array], Array], push: Covariance, departures: Array, weight: Array, iterations: int
) -> Array:
    """L v for (R + J L) v = d after some steps of conjugate gradients, J L symmetric with no eigenvalue below zero.

    noise (p,): R; lift: v → L v; push: u → J u; weight (p,): a guess at the diagonal of R + J L, which preconditions.
    L v is summed up with v, so that a step costs one L and one J and the end nothing.  Golub & Van Loan (2013, Matrix
    Computations, algorithm 11.5.1).
    """

    def step(_, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        lifted, left, way, size = carry
        ahead = lift(way)
        change = noise * way + push(ahead)
        steep = jnp.sum(way * change)
        length = jnp.where(steep > 0, size / jnp.where(steep > 0, steep, 1), 0)
        left = left - length * change
        smaller = jnp.sum(left * left / weight)
        turn = jnp.where(size > 0, smaller / jnp.where(size > 0, size, 1), 0)
        return lifted + length * ahead, left, left / weight + turn * way, smaller

    shape = jax.eval_shape(lift, departures)
    first = departures / weight
    begin = (jnp.zeros(shape.shape, shape.dtype), departures, first, jnp.sum(departures * first))
    return jax.lax.fori_loop(0, iterations, step, begin)[0]


def diagonal(noise: Array, pull: Covariance, push: Covariance, sigma: Array) -> Array:
    """About the diagonal of R + r² J Jᵀ: near to it for sensors that share no point and x₀ of variance one.

    Others count as far as they are precise, so that those that know nothing change nothing.
    """
    alone = jnp.maximum(push(pull(1 / (1 + noise))), 0)
    return noise + remaining(1.0, sigma) * alone


def gain(
    observe: Observe,
    sensors: Observations,
    estimate: Array,
    sigma: Array,
    covariance: Covariance,
    iterations: int = ITERATIONS,
) -> Array:
    """V Jᵀ (R + J V Jᵀ)⁻¹ (y − A(estimate)), shaped as the estimate; σ: its noise level.

    The Kalman update for an estimate with error covariance V (Evensen 2009, doi:10.1007/978-3-642-03711-5, eq. 3.39).
    """
    departures, noise, pull, push = linearize(observe, sensors, estimate)
    weight = diagonal(noise, pull, push, sigma)
    return lifted_solution(noise, lambda v: covariance(pull(v)), push, departures, weight, iterations)


def updated(
    denoise: Denoiser,
    observe: Observe,
    sensors: Observations,
    covariance: Callable[[Array, Array], Array],
    iterations: int,
) -> Denoiser:
    """D and the gain of an error covariance V at each level; covariance: (u, σ) → V u."""

    def guided(x: Array, sigma: Array) -> Array:
        estimate = denoise(x, sigma)
        return estimate + gain(observe, sensors, estimate, sigma, lambda u: covariance(u, sigma), iterations)

    return guided


def remaining(spread: ArrayLike, sigma: Array) -> Array:
    """r² = s²σ²/(s² + σ²): the variance of x₀ ~ N(m, s²) that x_σ leaves."""
    square = jnp.square(spread)
    return square * sigma**2 / (square + sigma**2)


def lifted(
    denoise: Denoiser,
    observe: Observe,
    sensors: Observations,
    strength: ArrayLike = 1.0,
    iterations: int = ITERATIONS,
) -> Denoiser:
    """The estimate moved by a Kalman gain, as if its error were white: V = r² I, strength: s.

    Song et al. (2023, https://openreview.net/forum?id=9_gsMA8MRKQ, eqs. 7-8), without the derivative of D.
    """
    return updated(denoise, observe, sensors, lambda u, sigma: remaining(strength, sigma) * u, iterations)


def diffpir(
    denoise: Denoiser,
    observe: Observe,
    sensors: Observations,
    strength: ArrayLike = 1.0,
    iterations: int = ITERATIONS,
) -> Denoiser:
    """argmin_z ‖y − A(z)‖²_R + λ ‖z − D‖²/σ²: V = σ²/λ I, strength: λ.

    Zhu et al. (2023, arXiv:2305.08995, eq. 12).
    """
    return updated(denoise, observe, sensors, lambda u, sigma: sigma**2 / strength * u, iterations)


def oi(
    denoise: Denoiser,
    observe: Observe,
    sensors: Observations,
    strength: ArrayLike = 1.0,
    covariance: Callable[[Array, Array], Array] | None = None,
    iterations: int = ITERATIONS,
) -> Denoiser:
    """Optimal interpolation: V = (S⁻¹ + σ⁻² I)⁻¹ for a covariance S of x₀ around its mean; strength multiplies S.

    covariance: (u, variance) → (S⁻¹ + I/variance)⁻¹ u, linear in u, such as `modes`; by default S = I.  σ² goes in as
    variance/strength, and the result is multiplied by the strength.
    """

    def spread(u: Array, sigma: Array) -> Array:
        if covariance is None:
            return remaining(jnp.sqrt(jnp.asarray(strength, u.dtype)), sigma) * u
        return jnp.asarray(strength, u.dtype) * covariance(u, sigma**2 / strength)

    return updated(denoise, observe, sensors, spread, iterations)
