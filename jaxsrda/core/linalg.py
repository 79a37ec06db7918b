"""Matrix products at full precision; Cholesky factors and triangular solves that run in batches on any device.

Before JAX 0.12 LAPACK's batched kernels wait, inside XLA's pool of threads, for threads of the same pool: as many of
them at once as there are cores, two on a small machine, wait for ever.  A batch therefore goes one matrix at a time
there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def matmul(a: ArrayLike, b: ArrayLike) -> Array:
    """a @ b at full precision on every platform, in the type of the traced operand.

    Accelerators would otherwise round float32 operands to 10 bits (TF32) or 8 (bfloat16).
    """
    dtype = a.dtype if isinstance(a, jax.Array) else b.dtype  # type: ignore[union-attr]
    return jnp.matmul(jnp.asarray(a, dtype), jnp.asarray(b, dtype), precision=jax.lax.Precision.HIGHEST)


def trailing(a: Array, x: Array) -> Array:
    """`a`, which goes along the last axes of x, with an axis of length 1 for each of the others."""
    return a.reshape((1,) * (x.ndim - a.ndim) + a.shape)


POOL_MAY_STARVE = jax.__version_info__ < (0, 12)


def one_at_a_time(function: Callable[..., Array]) -> Callable[..., Array]:
    """The function, with a vmap that is a loop on CPUs of JAX before 0.12."""
    if not POOL_MAY_STARVE:
        return function
    single: Any = jax.custom_batching.custom_vmap(function)

    @single.def_vmap
    def batched(size: int, has_batch: list[bool], *arrays: Array) -> tuple[Array, bool]:
        full = [a if there else jnp.broadcast_to(a, (size, *a.shape)) for a, there in zip(arrays, has_batch)]

        def loop(*arrays: Array) -> Array:
            return jax.lax.map(lambda row: single(*row), arrays)

        return jax.lax.platform_dependent(*full, cpu=loop, default=jax.vmap(function)), True

    return single


def forward(lower: Array, b: Array) -> Array:
    """L⁻¹ b."""
    return jax.scipy.linalg.solve_triangular(lower, b, lower=True)


def backward(lower: Array, b: Array) -> Array:
    """L⁻ᵀ b."""
    return jax.scipy.linalg.solve_triangular(lower, b, lower=True, trans="T")


FACTOR, FORWARD, BACKWARD = one_at_a_time(jnp.linalg.cholesky), one_at_a_time(forward), one_at_a_time(backward)


@jax.custom_jvp
def cholesky(a: Array) -> Array:
    """L (p, p) with L Lᵀ = A, lower triangular, for a symmetric positive definite A; NaN for others.

    Derivative: dL = L Φ(L⁻¹ dA L⁻ᵀ), Φ the lower triangle with half of the diagonal (Murray 2016, arXiv:1602.07527,
    eq. 8).
    """
    return FACTOR(a)


@cholesky.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    lower, change = cholesky(*primals), tangents[0]
    inner = solve(lower, solve(lower, 0.5 * (change + change.T)).T)
    return lower, matmul(lower, jnp.tril(inner) - 0.5 * jnp.diag(jnp.diagonal(inner)))


def solve(lower: Array, b: Array, transposed: bool = False) -> Array:
    """L⁻¹ b, or L⁻ᵀ b, for a lower triangular L (p, p) and b (p, m)."""

    def product(x: Array) -> Array:
        return matmul(lower.T if transposed else lower, x)

    def solution(_: Any, b: Array) -> Array:
        return (BACKWARD if transposed else FORWARD)(lower, b)

    def adjoint(_: Any, b: Array) -> Array:
        return (FORWARD if transposed else BACKWARD)(lower, b)

    return jax.lax.custom_linear_solve(product, b, solution, adjoint)
