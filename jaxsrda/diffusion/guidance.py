"""Observations that correct a denoiser's estimate, step by step: transformations denoiser → denoiser.

The sampler knows nothing of it, and no training either.  `observe` is any differentiable function A of a sample,
through a decoder or not, J its Jacobian at the estimate D = D(x_σ, σ); y the values, R the variances of their noise.

    name     estimate                                       error of D is taken as        exact if x₀ is Gaussian
    blend    D + blur(J⁺ α d),  α = γ/(γ + R)                one number, blurred           no
    lifted   D + V Jᵀ (R + J V Jᵀ)⁻¹ d,  V = r² I            white, r² = s²σ²/(s² + σ²)    and white
    diffpir  the same with V = σ²/λ I                       white                         no
    oi       the same with V = (S⁻¹ + σ⁻² I)⁻¹               what a given S leaves         with covariance S
    mmps     the same with V = σ² ∂D/∂x                     Tweedie's covariance          yes
    pigdm    D + σ² (∂D/∂x)ᵀ Jᵀ (R + r² J Jᵀ)⁻¹ d            white, r² as in lifted        and white
    sda      D + σ² (∂D/∂x)ᵀ Jᵀ (R + γσ² I)⁻¹ d              one number for each sensor    no
    dps      D + ζσ² (∂D/∂x)ᵀ Jᵀ R⁻¹ d                       nothing                       no

with d = y − A(D).  Where an inverse is written, a few steps of conjugate gradients are taken: "exact" means with as
many as there are sensors, and enough steps of the sampler, which makes its next noise from the estimate as corrected.
Sensors of infinite variance count for nothing.  A method of your own is a function of the same arguments.

Measured on six dimensions with three sensors (tests/test_diffusion_guidance.py, 3000 samples), off by how many of the
posterior's standard deviations the mean is, and the samples' variance along what is seen over the posterior's: blend
(γ = 0.1) 0.8 and 0.01, diffpir (λ = 1) 0.2 and 0.8, sda (γ = s²) 0.5 and 1.0, dps (ζ = 0.1) 1.1 and 2.9 for a white
prior; these and lifted 1.7 to 2.8 deviations for one with variances from 0.05 to 2, pigdm 1.3; mmps none with four
iterations, with its one 0.4 (and 1.4 of the variance) and 0.6.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxsrda.diffusion.denoiser import Denoiser
from jaxsrda.flow.grid import ChannelGrid, to_physical, to_spectral
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


def modes(vectors: Array, variances: Array) -> Callable[[Array, Array], Array]:
    """The covariance S = Q diag(λ) Qᵀ for `oi`: (u, v) → Q diag(λv/(λ + v)) Qᵀ u.

    vectors (n, k): orthonormal columns over the flat sample; variances (k,) ≥ 0.
    """

    def apply(u: Array, variance: Array) -> Array:
        seen = jnp.matmul(u.ravel(), vectors, precision="highest")
        shrunk = variances * variance / (variances + variance) * seen
        return jnp.matmul(vectors, shrunk, precision="highest").reshape(u.shape)

    return apply


def channel_covariance(
    grid: ChannelGrid, variances: np.ndarray, between: np.ndarray
) -> Callable[[Array, Array], Array]:
    """The same for samples (nx, ny, frames) on the channel, S diagonal in Fourier × sine, equal for all frames.

    variances (2K+1, L): of the orthonormal coefficients (n for white noise of variance n); between (frames, frames):
    correlations of the frames.  What the basis cannot hold has no variance.
    """
    values, vectors = np.linalg.eigh(between)

    def apply(u: Array, variance: Array) -> Array:
        turn = jnp.asarray(vectors, u.dtype)
        own = jnp.asarray(variances, u.dtype)[..., None] * jnp.asarray(values, u.dtype)
        hat = jax.vmap(functools.partial(to_spectral, grid), -1, -1)(u) @ turn
        kept = own * variance / (own + variance) * hat
        return jax.vmap(functools.partial(to_physical, grid), -1, -1)(kept @ turn.T)

    return apply


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


def smoothing(width: float | Callable[[Array], Array], nx: int, ny: int) -> Callable[[Array, Array], Array]:
    """A blur for `blend` of samples (nx, ny, …): exp(−r²/2w²) in grid points, periodic in x; w: a number, or σ → w.

    Sensors at one place are not amplified: the sum is divided by that of the weights where it exceeds one.
    """
    x, y = np.arange(nx), np.arange(ny)
    around = np.abs(x[:, None] - x)
    distances = np.minimum(around, nx - around), np.abs(y[:, None] - y)

    def blur(field: Array, sigma: Array) -> Array:
        w = jnp.asarray(width(sigma) if callable(width) else width, field.dtype)
        in_x, in_y = (jnp.exp(-0.5 * (jnp.asarray(apart, field.dtype) / w) ** 2) for apart in distances)

        def spread(a: Array) -> Array:
            return jnp.einsum("xu,yv,uv...->xy...", in_x, in_y, a)

        weights = spread((field != 0).astype(field.dtype))
        return spread(field) / jnp.maximum(weights, 1)

    return blur
