"""Roots of numbers and matrices: values, slopes, batches, and duplicates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxsrda.core.roots import deviation, inverse_root, shrinkage, sqrt

RNG = np.random.default_rng(4)


def test_sqrt_is_flat_at_zero(dtype):
    x = jnp.asarray([0.0, 1e-30, 0.25, 9.0], dtype)
    np.testing.assert_allclose(sqrt(x), np.sqrt(np.asarray(x)), rtol=1e-6)
    slopes = jax.vmap(jax.grad(sqrt))(x)
    assert slopes.dtype == dtype and slopes[0] == 0
    np.testing.assert_allclose(slopes[2:], [1.0, 1 / 6], rtol=1e-6)
    assert jnp.isnan(sqrt(jnp.asarray(jnp.nan, dtype)))


@pytest.mark.parametrize("ddof", [0, 1])
def test_deviation_is_that_of_numpy(ddof):
    x = jnp.asarray(RNG.normal(size=(5, 3, 2))).at[:, 1].set(2.0)
    np.testing.assert_allclose(deviation(x, ddof), np.std(x, axis=0, ddof=ddof), atol=1e-15)
    assert jnp.isfinite(jax.grad(lambda x: deviation(x, ddof).sum())(x)).all()
    assert not deviation(x[:1], 1).any()


def gram(size, sensors=6, repeated=False):
    y = RNG.normal(size=(9, sensors)) * size**0.5
    if repeated:
        y[:, sensors // 2 :] = y[:, : sensors // 2]
    return y, y.T @ y


def expected(a):
    value, vector = np.linalg.eigh(a)
    value = np.maximum(value, 0)
    root = np.sqrt(1 + value)
    functions = 1 / root, 1 / (1 + value), -1 / (root * (1 + root))
    return [(vector * f) @ vector.T for f in functions]


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e2, 1e4])
@pytest.mark.parametrize("repeated", [False, True])
def test_matrix_functions(dtype, size, repeated):
    """Against eigenvectors; in float32 as exact as the largest eigenvalue leaves the identity beside it."""
    y, a = gram(size, repeated=repeated)
    root, inverse, shrink = expected(a)
    given = jnp.asarray(a, dtype)
    largest = 1 + np.linalg.norm(a, 2)
    lost = np.finfo(dtype).eps * (largest if repeated else largest**0.5)
    got = inverse_root(jnp.eye(6, dtype=dtype) + given), *shrinkage(given)
    for one, true in zip(got, (root, inverse, shrink)):
        assert one.dtype == dtype
        np.testing.assert_allclose(one, true, atol=30 * lost * np.abs(true).max(), rtol=0)
    # What an analysis sees of it, to a unit of spread.
    effect, wanted = y @ np.asarray(got[2], float) @ y.T, y @ shrink @ y.T
    np.testing.assert_allclose(effect, wanted, atol=min(30 * lost, 0.05), rtol=0)


def test_derivatives_and_batches():
    a = jnp.asarray(np.stack([gram(size)[1] for size in (0.5, 2.0, 7.0)]))

    def functions(a):
        return inverse_root(jnp.eye(6) + a), *shrinkage((a + a.T) / 2)

    check_grads(functions, (a[0],), 1, modes=("fwd", "rev"), rtol=1e-4)
    batched = jax.jit(jax.vmap(functions))(a)
    for i in range(3):
        for one, alone in zip(batched, functions(a[i])):
            np.testing.assert_allclose(one[i], alone, atol=1e-12)


def test_what_is_not_finite_stays_so():
    a = jnp.eye(3).at[0, 0].set(jnp.nan)
    assert not jnp.isfinite(inverse_root(a)).all()
