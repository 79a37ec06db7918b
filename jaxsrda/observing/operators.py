"""Observation operators: what sensors measure of a vorticity field.

An operator is a function (grid, ω[nx, ny], positions[p, 2]) → values[p]; any differentiable function of that form
will do.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core.checks import check_choice, check_shape
from jaxsrda.core.linalg import matmul
from jaxsrda.flow.grid import ChannelGrid, streamfunction_hat, to_physical, to_spectral, velocity

Operator = Callable[[ChannelGrid, Array, Array], Array]


# Operators ------------------------------------------------------------------------------------


def bilinear(grid: ChannelGrid, field: Array, positions: Array) -> Array:
    """Values (p,) of a field [nx, ny] at positions (p, 2): bilinear, periodic in x."""
    check_shape("field", field, grid.shape)
    dx, dy = grid.spacing
    at_x, at_y = positions[:, 0] / dx, jnp.clip(positions[:, 1] / dy, 0, grid.ny - 1)
    i, j = jnp.floor(at_x).astype(jnp.int32), jnp.clip(jnp.floor(at_y).astype(jnp.int32), 0, grid.ny - 2)
    a, b = at_x - i.astype(field.dtype), at_y - j.astype(field.dtype)
    i, right = i % grid.nx, (i + 1) % grid.nx
    low = (1 - a) * field[i, j] + a * field[right, j]
    high = (1 - a) * field[i, j + 1] + a * field[right, j + 1]
    return (1 - b) * low + b * high


def vorticity(grid: ChannelGrid, omega: Array, positions: Array) -> Array:
    """ω at the sensors; exact on grid points, bilinear between."""
    return bilinear(grid, omega, positions)


def vorticity_spectral(grid: ChannelGrid, omega: Array, positions: Array) -> Array:
    """ω at the sensors, exact anywhere: the field's truncated series summed at each position."""
    kx = positions[:, :1] * jnp.arange(1, grid.kmax + 1, dtype=omega.dtype)[None]
    in_x = jnp.concatenate([jnp.ones_like(kx[:, :1]), jnp.cos(kx), jnp.sin(kx)], axis=1)
    in_y = jnp.sin(positions[:, 1:] * jnp.arange(1, grid.lmax + 1, dtype=omega.dtype)[None])
    return jnp.sum(matmul(in_x, to_spectral(grid, omega)) * in_y, axis=1)


def streamfunction(grid: ChannelGrid, omega: Array, positions: Array) -> Array:
    """ψ at the sensors."""
    psi = to_physical(grid, streamfunction_hat(grid, to_spectral(grid, omega)))
    return bilinear(grid, psi, positions)


def velocity_x(grid: ChannelGrid, omega: Array, positions: Array) -> Array:
    """u at the sensors."""
    return bilinear(grid, velocity(grid, to_spectral(grid, omega))[0], positions)


def velocity_y(grid: ChannelGrid, omega: Array, positions: Array) -> Array:
    """v at the sensors."""
    return bilinear(grid, velocity(grid, to_spectral(grid, omega))[1], positions)


def speed(grid: ChannelGrid, omega: Array, positions: Array) -> Array:
    """√(u² + v²) at the sensors; its gradient is finite where the flow rests."""
    u, v = velocity(grid, to_spectral(grid, omega))
    return bilinear(grid, jnp.sqrt(u * u + v * v + 1e-12), positions)


def vorticity_arctan(grid: ChannelGrid, omega: Array, positions: Array) -> Array:
    """arctan ω at the sensors, which saturate in strong vortices."""
    return jnp.arctan(bilinear(grid, omega, positions))


def vorticity_arcsinh(grid: ChannelGrid, omega: Array, positions: Array) -> Array:
    """arcsinh ω at the sensors: ± ln 2|ω| where it is strong, ω where it is weak."""
    return jnp.arcsinh(bilinear(grid, omega, positions))


def block_mean(size: int) -> Operator:
    """The operator that averages ω over size × size grid points centred on the sensor's nearest point.

    Rows beyond a wall continue as the odd mirror image.  Raises ValueError for a size below 1 or beyond the grid.
    """
    if size < 1:
        raise ValueError(f"block_mean: expected a size of at least 1, got {size}")

    def operator(grid: ChannelGrid, omega: Array, positions: Array) -> Array:
        check_shape("omega", omega, grid.shape)
        if size > min(grid.nx, grid.ny - 1):
            raise ValueError(f"block_mean: expected a size of at most {min(grid.nx, grid.ny - 1)}, got {size}")
        dx, dy = grid.spacing
        ahead = jnp.arange(size, dtype=jnp.int32)[None] - (size - 1) // 2
        i = jnp.rint(positions[:, 0] / dx).astype(jnp.int32)[:, None] + ahead
        j = jnp.rint(positions[:, 1] / dy).astype(jnp.int32)[:, None] + ahead
        last = grid.ny - 1
        mirrored = jnp.where(j < 0, -j, jnp.where(j > last, 2 * last - j, j))
        sign = jnp.where(j == mirrored, 1, -1).astype(omega.dtype)
        return jnp.mean(omega[(i % grid.nx)[:, :, None], mirrored[:, None, :]] * sign[:, None, :], axis=(1, 2))

    return operator


OPERATORS: dict[str, Operator] = {
    "vorticity": vorticity,
    "vorticity-spectral": vorticity_spectral,
    "streamfunction": streamfunction,
    "velocity-x": velocity_x,
    "velocity-y": velocity_y,
    "speed": speed,
    "block-mean-4": block_mean(4),
    "vorticity-arctan": vorticity_arctan,
    "vorticity-arcsinh": vorticity_arcsinh,
}


def operator(name: str) -> Operator:
    """The operator called `name`; ValueError for a name that is not in OPERATORS."""
    return OPERATORS[check_choice("operator", name, OPERATORS)]


def probe(grid: ChannelGrid) -> tuple[Array, Array, Array]:
    """Two smooth fields [nx, ny] and three positions (3, 2), to try an operator on."""
    positions = jnp.asarray([[0.5, 0.7], [2.0, 1.6], [5.0, 2.5]], jnp.zeros(()).dtype)
    x, y = jnp.asarray(grid.x, positions.dtype)[:, None], jnp.asarray(grid.y, positions.dtype)[None]
    return jnp.cos(x) * jnp.sin(y) + 0.5 * jnp.sin(2 * y), jnp.sin(2 * x) * jnp.sin(3 * y), positions


def is_linear(operator: Operator, grid: ChannelGrid) -> bool:
    """Whether A(2a + b) = 2A(a) + A(b), tried on strong smooth fields at three sensors: guidance is exact only then."""

    @jax.jit
    def tried() -> Array:
        a, b, positions = probe(grid)
        together, first, second = (operator(grid, 8 * omega, positions) for omega in (2 * a + b, a, b))
        apart = 2 * first + second
        return jnp.allclose(together, apart, rtol=1e-3, atol=1e-4 * jnp.abs(apart).max())

    return bool(tried())


def check_operator(name: str, operator: Operator, grid: ChannelGrid, differentiable: bool) -> None:
    """ValueError unless a user's operator gives finite numbers, one a sensor, and derivatives if asked for."""
    smooth, _, positions = probe(grid)
    kind = "differentiable function" if differentiable else "function"
    steepest = 0.0
    for count, strength in ((3, 1.0), (2, 8.0), (2, -8.0)):  # a sensor may have a threshold

        def see(omega: Array, at: Array = positions[:count]) -> Array:
            return operator(grid, omega, at)

        try:
            values, slope = jnp.asarray(jax.jit(see)(strength * smooth)), 0.0
            if differentiable:
                slope = jax.vjp(see, strength * smooth)[1](jnp.ones_like(values))[0]
        except Exception as error:  # whatever a user's function raises
            raise ValueError(
                f"{name}: expected a {kind} (grid, omega, positions) → values of JAX arrays, got {error!r}"
            ) from None
        if values.shape != (count,):
            raise ValueError(f"{name}: expected one value a sensor, {(count,)}, got shape {values.shape}")
        if not (np.isfinite(values).all() and np.isfinite(slope).all()):
            raise ValueError(
                f"{name}: expected finite values and derivatives on a smooth field of vorticity up to "
                f"{float(jnp.abs(strength * smooth).max()):.2g}, got NaN or infinity"
            )
        steepest = max(steepest, float(np.abs(slope).max()))
    if differentiable and steepest == 0:
        raise ValueError(
            f"{name}: its derivative is zero everywhere, so that it cannot guide; expected a {kind}, not one that "
            "rounds, compares or stops gradients"
        )
