"""Distances in the channel."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core.roots import sqrt
from jaxsrda.flow.grid import ChannelGrid


def distance(a: Array, b: Array) -> Array:
    """Distances (n, p) between positions a (n, 2) and b (p, 2), periodic in x."""
    dx = jnp.abs(a[:, None, 0] - b[None, :, 0])
    dx = jnp.minimum(dx, 2 * np.pi - dx)
    dy = a[:, None, 1] - b[None, :, 1]
    return sqrt(dx * dx + dy * dy)


def chord(a: Array, b: Array) -> Array:
    """Distances (n, p) between positions a (n, 2) and b (p, 2) through the cylinder that x winds round.

    Covariances of three dimensions are positive definite in it at any length.
    """
    across = 2 * jnp.sin((a[:, None, 0] - b[None, :, 0]) / 2)
    dy = a[:, None, 1] - b[None, :, 1]
    return sqrt(across * across + dy * dy)


def grid_positions(grid: ChannelGrid, dtype) -> Array:
    """Positions (nx · ny, 2) of the grid's points, in a field's memory order."""
    x, y = np.meshgrid(grid.x, grid.y, indexing="ij")
    return jnp.asarray(np.stack([x.ravel(), y.ravel()], -1), dtype)
