"""Observations that correct a denoiser's estimate at each step of a sampler: denoiser → denoiser."""

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


Guide = Callable[..., Denoiser]
"""guide(denoise, observe, sensors, strength) → denoiser."""

GUIDES: dict[str, Guide] = {
    "blend": blend,
    "lifted": lifted,
    "diffpir": diffpir,
    "oi": oi,
    "mmps": mmps,
    "pigdm": pigdm,
    "sda": sda,
    "dps": dps,
}
"""Methods by name; the choice is static, their strength may be traced."""
