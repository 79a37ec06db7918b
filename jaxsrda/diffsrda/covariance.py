"""Covariances and blurs on the channel that guidance takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.diffusion.guidance.guide import Shrunk
from jaxsrda.flow.grid import ChannelGrid, bases, mode_weights, shells, to_physical, to_spectral


class ResidualCovariance(NamedTuple):
    """What a model draws is correlated like this, in the units of its samples; estimated at the end of training.

    spectrum (K + 1,): variance of the orthonormal Fourier × sine coefficients at total wavenumbers 0 … K, equal for all
    frames; between (frames, frames): correlations of the frames.
    """

    spectrum: np.ndarray
    between: np.ndarray

    def variances(self, grid: ChannelGrid) -> np.ndarray:
        """Variance of each mode (2K+1, L), log-linear between wavenumbers."""
        wavenumber = np.sqrt(bases(grid).k2)
        return np.exp(np.interp(wavenumber, np.arange(len(self.spectrum)), np.log(self.spectrum)))

    def shrunk(self, grid: ChannelGrid) -> Shrunk:
        """The covariance as guides take it."""
        return channel_covariance(grid, self.variances(grid), np.asarray(self.between))

    def field(self, grid: ChannelGrid, white: Array) -> Array:
        """White noise (nx, ny, frames) of variance one made a Gaussian field of this covariance, S^½ ξ."""
        values, vectors = np.linalg.eigh(np.asarray(self.between))
        root = jnp.asarray(vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T, white.dtype)
        sizes = jnp.asarray(np.sqrt(self.variances(grid)), white.dtype)[..., None]
        hat = jax.vmap(functools.partial(to_spectral, grid), -1, -1)(white @ root)
        return jax.vmap(functools.partial(to_physical, grid), -1, -1)(sizes * hat)

    def point_variance(self, grid: ChannelGrid) -> float:
        """The variance of a point, averaged over those between the walls: Σ variances / (nx (ny − 2))."""
        return float(self.variances(grid).sum() / (grid.nx * (grid.ny - 2)))


def estimate_residual_covariance(grid: ChannelGrid, residuals: Array) -> ResidualCovariance:
    """The covariance of residuals (windows, nx, ny, frames): spectrum by shells, and correlations of the frames."""
    norm = mode_weights(grid, residuals.dtype) * grid.nx * (grid.ny - 1)
    to_hat = jax.vmap(jax.vmap(functools.partial(to_spectral, grid), -1, -1))
    hat = np.asarray(to_hat(residuals) * jnp.sqrt(norm)[..., None], float)
    between = np.einsum("wklf,wklg->fg", hat, hat) / hat[..., 0].size
    deviations = np.sqrt(np.diag(between))
    shell = shells(grid)
    count = np.bincount(shell.ravel())
    power = np.bincount(shell.ravel(), (hat**2).mean((0, 3)).ravel())
    wavenumber = np.arange(len(count))
    known = count > 0  # no mode has a wavenumber below one
    spectrum = np.exp(np.interp(wavenumber, wavenumber[known], np.log(np.maximum(power[known] / count[known], 1e-12))))
    return ResidualCovariance(spectrum, between / np.outer(deviations, deviations))


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
        own = jnp.asarray(variances[..., None] * values, u.dtype)
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
