"""Observations that correct a denoiser's estimate, step by step: transformations denoiser → denoiser.

The sampler knows nothing of it, and no training either.  `observe` is any differentiable function A of a sample,
through a decoder or not.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.diffusion.denoiser import Denoiser
from jaxsrda.observations import Observations


def lifted(
    denoise: Denoiser,
    observe: Callable[[Array], Array],
    sensors: Observations,
    spread: float = 1.0,
    iterations: int = 5,
) -> Denoiser:
    """The estimate moved towards the observations by a Kalman gain, as if its error were white.

    x̂ = D + r² Jᵀ v,   (R + r² J Jᵀ) v = y − A(D),   r² = s²σ²/(s² + σ²),

    with J the Jacobian of A at D, not through the denoiser, and v from `iterations` of conjugate gradients.  Exact for
    linear A and x₀ ~ N(m, s²I) where they converge: r² is then the variance of x₀ given x_σ.  s: `spread`.  Song et
    al. (2023, ΠGDM, https://openreview.net/forum?id=9_gsMA8MRKQ, eqs. 7-8, without the derivative of D).
    """

    def guided(x: Array, sigma: Array) -> Array:
        estimate = denoise(x, sigma)
        predicted, pull = jax.vjp(observe, estimate)
        seen = sensors.mask.astype(x.dtype)
        variance = spread**2 * sigma**2 / (spread**2 + sigma**2)

        def lift(v: Array) -> Array:
            return variance * pull(seen * v)[0]

        # J u as the gradient of the linear Jᵀ v: layers with a gradient of their own know no forward mode.
        push = jax.vjp(lambda v: pull(v)[0], predicted)[1]

        def system(v: Array) -> Array:
            return sensors.variance * v + seen * push(lift(v))[0]

        departure = jnp.where(sensors.mask, sensors.values - predicted, 0)
        # Symmetric and positive definite, the noise's variance at the least.
        solution, _ = jax.scipy.sparse.linalg.cg(system, departure, tol=0.0, maxiter=iterations)
        return estimate + lift(solution)

    return guided
