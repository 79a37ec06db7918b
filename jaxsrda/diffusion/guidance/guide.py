"""What guides have in common: what they are given, and the algebra of a gain.

A guide is a function (denoise, observe, readings, samples) → denoiser.  `observe` is any differentiable function A of a
sample, through a decoder or not; J is its Jacobian at the estimate D = D(x_σ, σ); y are the values and R the variances
of their noise; d = y − A(D).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxsrda.core.checks import check_positive
from jaxsrda.diffusion.denoiser import Denoiser

Observe = Callable[[Array], Array]
"""A: what the sensors would measure of a sample, (p,)."""

Covariance = Callable[[Array], Array]
"""V u of an array u shaped as a sample; symmetric, no eigenvalue below zero."""

Blur = Callable[[Array, Array], Array]
"""(field shaped as a sample, σ) → field."""

Shrunk = Callable[[Array, Array], Array]
"""(u, v) → (S⁻¹ + I/v)⁻¹ u for a covariance S of x₀ around its mean, linear in u."""


class Readings(NamedTuple):
    """What the sensors say: values (p,), mask (p,) False where there is none, variance (p,) of the noise."""

    values: Array
    mask: Array
    variance: Array


class Samples(NamedTuple):
    """What is known of the samples that are guided.

    std: standard deviation s of x₀ around its mean; covariance: more than that, if it is known; sigmas: the noise
    levels that the sampler goes through; smooth: (σ → width in grid points) → blur, None where samples have no
    neighbours.
    """

    std: ArrayLike = 1.0
    covariance: Shrunk | None = None
    sigmas: np.ndarray | None = None
    smooth: Callable[[Callable[[Array], Array]], Blur] | None = None


class Guide(Protocol):
    """denoiser → denoiser; a dataclass that owns its options, or any function of the same arguments."""

    def __call__(self, denoise: Denoiser, observe: Observe, readings: Readings, samples: Samples) -> Denoiser: ...


def check_strength(strength: ArrayLike | None) -> None:
    """ValueError for a plain number that is not above zero; traced numbers pass."""
    if strength is not None and not isinstance(strength, Tracer) and np.ndim(strength) == 0:
        check_positive("strength", float(np.asarray(strength)))


def check_iterations(iterations: int) -> None:
    """ValueError for fewer than one iteration."""
    if iterations < 1:
        raise ValueError(f"iterations: expected at least 1, got {iterations}")


def join(parts: list[tuple[Observe, Readings]]) -> tuple[Observe, Readings]:
    """Several sets of sensors, each with an operator of its own, as one."""
    readings = jax.tree.map(lambda *a: jnp.concatenate(a), *(readings for _, readings in parts))
    return (lambda x: jnp.concatenate([observe(x) for observe, _ in parts])), readings


def linearize(observe: Observe, readings: Readings, at: Array) -> tuple[Array, Array, Covariance, Covariance]:
    """d = y − A (p,), R (p,), v → Jᵀ v and u → J u at a sample; masked sensors count for nothing, with R = 1.

    J u comes as the gradient of the linear Jᵀ v, because layers with a gradient of their own know no forward mode.
    """
    predicted, back = jax.vjp(observe, at)
    mask = readings.mask & jnp.isfinite(readings.variance)
    seen = mask.astype(at.dtype)

    def pull(v: Array) -> Array:
        return back(seen * v)[0]

    push = jax.vjp(pull, predicted)[1]
    departures = jnp.where(mask, readings.values - predicted, 0)
    return departures, jnp.where(mask, readings.variance, 1), pull, lambda u: push(u)[0]


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
    readings: Readings,
    estimate: Array,
    sigma: Array,
    covariance: Covariance,
    iterations: int,
) -> Array:
    """V Jᵀ (R + J V Jᵀ)⁻¹ (y − A(estimate)), shaped as the estimate; σ: its noise level.

    The Kalman update for an estimate with error covariance V (Evensen 2009, doi:10.1007/978-3-642-03711-5, eq. 3.39).
    """
    departures, noise, pull, push = linearize(observe, readings, estimate)
    weight = diagonal(noise, pull, push, sigma)
    return lifted_solution(noise, lambda v: covariance(pull(v)), push, departures, weight, iterations)


def remaining(spread: ArrayLike, sigma: Array) -> Array:
    """r² = s²σ²/(s² + σ²): the variance of x₀ ~ N(m, s²) that x_σ leaves."""
    square = jnp.square(spread)
    return square * sigma**2 / (square + sigma**2)
