"""Square roots with finite slopes: of numbers, and of matrices by products alone, which batch on any device."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.core.linalg import matmul

ITERATIONS = {"float32": 24, "float64": 40}
"""Of `inverse_root`: enough for a condition of 1e6 in float32 and 1e12 in float64; √λ grows by a half in each."""


def sqrt(x: Array) -> Array:
    """√x for x ≥ 0, with slope zero instead of infinity at zero: a spread that vanishes stays so to first order."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), jnp.where(jnp.isnan(x), x, 0))


def deviation(x: Array, ddof: int = 0) -> Array:
    """Standard deviation along the first axis, by `sqrt`; zeros where there are not more than `ddof`."""
    return sqrt(x.var(0, ddof=ddof)) if len(x) > ddof else jnp.zeros_like(x[0])


def inverse_root(a: Array) -> Array:
    """A^{-1/2} (n, n) of a symmetric positive definite A with eigenvalues of 1 and above.

    Coupled Newton–Schulz iteration Y ← Y T, Z ← T Z, T = (3 I − Z Y)/2 from Y = A/s, Z = I; then Y → (A/s)^{1/2} and
    Z → (A/s)^{-1/2}, for s ≥ λ_max, here the smaller of the trace and the largest row sum.  Higham (2008, Functions of
    Matrices, doi:10.1137/1.9780898717778, eq. 6.35).
    """
    one = jnp.eye(len(a), dtype=a.dtype)
    # Largest eigenvalue from above; where A is not finite the result is not either.
    size = jnp.minimum(jnp.trace(a), jnp.abs(a).sum(1).max(initial=1))

    def step(pair: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        y, z = pair
        turn = 1.5 * one - 0.5 * matmul(z, y)
        return (matmul(y, turn), matmul(turn, z)), None

    (_, z), _ = jax.lax.scan(step, (a / size, one), length=ITERATIONS[a.dtype.name])
    return z / jnp.sqrt(size)


def shrinkage(a: Array) -> tuple[Array, Array]:
    """(I + A)^{-1} and ((I + A)^{-1/2} − I) A^{-1} of a symmetric A ≥ 0, (n, n), A^{-1} never formed.

    With Z = (I + A)^{-1/2}: Z² and −Z² (I + Z)^{-1}.  I + Z has eigenvalues in (1, 2]: Newton's X ← X (2 I − (I + Z) X)
    from the best X linear in Z, off by 1/17, squares the error each time.
    """
    one = jnp.eye(len(a), dtype=a.dtype)
    z = inverse_root(one + a)
    inverse = matmul(z, z)
    b = one + z
    # 1/b on [1, 2] by 48/17 − 32/17 b of b/2 in [1/2, 1].
    x = (24 * one - 8 * b) / 17
    for _ in range(4):
        x = matmul(x, 2 * one - matmul(b, x))
    return inverse, -matmul(inverse, x)
