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


def grid_positions(grid: ChannelGrid, dtype) -> Array:
    """Positions (nx · ny, 2) of the grid's points, in a field's memory order."""
    x, y = np.meshgrid(grid.x, grid.y, indexing="ij")
    return jnp.asarray(np.stack([x.ravel(), y.ravel()], -1), dtype)
