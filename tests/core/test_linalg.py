"""Cholesky factors and solves: values, derivatives, batches, and no hang when many run at once."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxsrda.core import linalg
from jaxsrda.core.linalg import cholesky, one_at_a_time, solve

RNG = np.random.default_rng(7)


def positive(*shape, dtype="float64"):
    """Symmetric positive definite matrices (*shape, 5, 5)."""
    root = RNG.normal(size=(*shape, 5, 5))
    return jnp.asarray(root @ np.swapaxes(root, -1, -2) + np.eye(5), dtype)


def test_factor_and_solves(dtype):
    a, b = positive(dtype=dtype), jnp.asarray(RNG.normal(size=(5, 3)), dtype)
    lower = cholesky(a)
    tolerance = 1e-12 if dtype == "float64" else 1e-4
    assert lower.dtype == solve(lower, b).dtype == dtype
    np.testing.assert_array_equal(lower, jnp.tril(lower))
    np.testing.assert_allclose(lower @ lower.T, a, rtol=tolerance)
    np.testing.assert_allclose(lower @ solve(lower, b), b, atol=tolerance)
    np.testing.assert_allclose(lower.T @ solve(lower, b, transposed=True), b, atol=tolerance)
    np.testing.assert_allclose(a @ solve(lower, solve(lower, b), transposed=True), b, atol=100 * tolerance)
    assert jnp.isnan(cholesky(-a)).any()


@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_in_both_modes(order):
    b = jnp.asarray(RNG.normal(size=(5, 2)))

    def function(root):
        lower = cholesky(root @ root.T + jnp.eye(5))
        return solve(lower, b), solve(lower, b**2, transposed=True), jnp.log(jnp.diagonal(lower))

    check_grads(function, (jnp.asarray(RNG.normal(size=(5, 5))),), order, modes=("fwd", "rev"))


def inverse(a, b):
    lower = cholesky(a)
    return solve(lower, solve(lower, b), transposed=True)


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
def test_batches_are_the_single_ones(axes):
    a = positive(*(3,) * (axes[0] is not None))
    b = jnp.asarray(RNG.normal(size=(*(3,) * (axes[1] is not None), 5, 2)))
    expected = [inverse(a if axes[0] is None else a[i], b if axes[1] is None else b[i]) for i in range(3)]
    np.testing.assert_allclose(jax.jit(jax.vmap(inverse, axes))(a, b), jnp.stack(expected), rtol=1e-10)
    np.testing.assert_allclose(jax.vmap(jax.jit(inverse), axes)(a, b), jnp.stack(expected), rtol=1e-10)


def test_batches_of_batches_and_their_gradients():
    a, b = positive(2, 3), jnp.asarray(RNG.normal(size=(3, 5, 2)))

    def total(a):
        return (jax.vmap(jax.vmap(inverse), (0, None))(a, b) ** 2).sum()

    gradient = jax.jit(jax.grad(total))(a)
    for i in range(2):
        for j in range(3):
            alone = jax.grad(lambda a, j=j: (inverse(a, b[j]) ** 2).sum())(a[i, j])
            np.testing.assert_allclose(gradient[i, j], alone, rtol=1e-9)


def test_a_loop_serves_batches_where_kernels_may_starve(monkeypatch):
    """Each matrix goes alone, an operand without the batch with each of them; other versions are left alone."""
    monkeypatch.setattr(linalg, "POOL_MAY_STARVE", True)
    shapes = []

    def product(a, b):
        shapes.append((a.shape, b.shape))
        return a @ b

    looped = jax.vmap(one_at_a_time(product), (0, None))
    a, b = jnp.asarray(RNG.normal(size=(4, 2, 3))), jnp.asarray(RNG.normal(size=(3, 2)))
    np.testing.assert_allclose(looped(a, b), a @ b)
    text = str(jax.make_jaxpr(looped)(a, b))
    assert "scan" in text and "length=4" in text and set(shapes) == {((2, 3), (3, 2))}
    monkeypatch.setattr(linalg, "POOL_MAY_STARVE", False)
    assert one_at_a_time(product) is product


PROGRAM = """
import jax, jax.numpy as jnp
from jaxsrda.core.linalg import cholesky, solve

@jax.jit
def many(a):
    return [jax.vmap(lambda a: solve(cholesky(a), a))(a + i * jnp.eye(128)) for i in range(4)]

for _ in range(20):
    jax.block_until_ready(many(jnp.tile(jnp.eye(128), (8, 1, 1))))
"""


def test_many_factors_at_once_do_not_wait_for_one_another():
    """With jnp.linalg.cholesky this hangs on two cores before JAX 0.12, mostly at the first call."""
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=300)
