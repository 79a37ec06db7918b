"""Covariances and blurs on the channel that guidance takes."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.flow.grid import ChannelGrid, to_physical, to_spectral


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
