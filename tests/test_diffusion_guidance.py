"""Guidance: exact for Gaussians, deaf to masked sensors, through decoders, and nothing without observations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrda.diffusion.denoiser import gaussian_denoiser
from jaxsrda.diffusion.guidance import lifted
from jaxsrda.diffusion.samplers import sample_members
from jaxsrda.diffusion.schedules import edm_sigmas
from jaxsrda.observations import Observations

SIZE = 6
SPREAD = 0.7


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), "float64")


def sensors(values, mask=None, variance=0.09):
    values = jnp.asarray(values, "float64")
    mask = jnp.ones(len(values), bool) if mask is None else jnp.asarray(mask)
    return Observations(
        values, jnp.zeros((len(values), 2), "float64"), mask, jnp.full(len(values), variance, "float64")
    )


def white(mean):
    """The exact denoiser of N(mean, SPREAD² I)."""
    return gaussian_denoiser(mean, jnp.eye(SIZE, dtype="float64"), jnp.full(SIZE, SPREAD**2, "float64"))


@pytest.mark.parametrize("sigma", [0.1, 2.0])
def test_the_estimate_is_the_posterior_mean_of_a_gaussian(sigma):
    """E[x₀ | x_σ, y] for x₀ ~ N(m, s²I): a Kalman update of E[x₀ | x_σ] with variance s²σ²/(s² + σ²)."""
    matrix, mean, x, y = normal(3, SIZE), normal(SIZE, seed=1), normal(SIZE, seed=2), normal(3, seed=3)
    guided = lifted(white(mean), lambda x: matrix @ x, sensors(y), SPREAD, iterations=8)
    precision = np.eye(SIZE) * (SPREAD**-2 + sigma**-2) + matrix.T @ matrix / 0.09
    expected = np.linalg.solve(precision, mean / SPREAD**2 + x / sigma**2 + matrix.T @ y / 0.09)
    np.testing.assert_allclose(guided(x, jnp.asarray(sigma, "float64")), expected, rtol=1e-8, atol=1e-10)


def test_samples_are_those_of_the_posterior():
    """Mean and covariance of many guided samples against the Kalman posterior's, within Monte-Carlo error."""
    matrix, mean, y = normal(2, SIZE), normal(SIZE, seed=1), normal(2, seed=3)
    guided = lifted(white(mean), lambda x: matrix @ x, sensors(y), SPREAD, iterations=4)
    members = 4000
    run = jax.jit(
        lambda key: sample_members(guided, key, members, (SIZE,), edm_sigmas(60, 0.005, 40.0), "heun", dtype="float64")
    )
    drawn = np.asarray(run(jax.random.key(0)))
    covariance = np.linalg.inv(np.eye(SIZE) / SPREAD**2 + matrix.T @ matrix / 0.09)
    expected = covariance @ (mean / SPREAD**2 + matrix.T @ y / 0.09)
    error = np.sqrt(np.diag(covariance) / members)
    assert (np.abs(drawn.mean(0) - expected) < 5 * error + 2e-3).all()
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=6 * SPREAD**2 / np.sqrt(members))


def test_masked_sensors_say_nothing_and_none_changes_nothing():
    matrix, mean, x = normal(3, SIZE), normal(SIZE, seed=1), normal(SIZE, seed=2)
    sigma = jnp.asarray(0.5, "float64")
    plain = white(mean)(x, sigma)
    deaf = lifted(white(mean), lambda x: matrix @ x, sensors([9.0, 9.0, 9.0], [False] * 3), SPREAD)
    np.testing.assert_array_equal(deaf(x, sigma), plain)
    some = lifted(white(mean), lambda x: matrix @ x, sensors([1.0, np.nan, 2.0], [True, False, True]), SPREAD, 8)
    kept = jnp.array([0, 2])
    fewer = lifted(white(mean), lambda x: matrix[kept] @ x, sensors([1.0, 2.0]), SPREAD, 8)
    np.testing.assert_allclose(some(x, sigma), fewer(x, sigma), rtol=1e-9)
    order = jnp.array([2, 0, 1])
    values = normal(3, seed=5)
    one = lifted(white(mean), lambda x: matrix @ x, sensors(values), SPREAD, 8)
    other = lifted(white(mean), lambda x: matrix[order] @ x, sensors(values[order]), SPREAD, 8)
    np.testing.assert_allclose(one(x, sigma), other(x, sigma), rtol=1e-9)
    certain = lifted(white(mean), lambda x: matrix @ x, sensors(values, variance=1e12), SPREAD, 8)
    np.testing.assert_allclose(certain(x, sigma), plain, atol=1e-9)


def test_a_nonlinear_operator_is_fitted_through_its_jacobian():
    mean, x, sigma = normal(SIZE, seed=1), normal(SIZE, seed=2), jnp.asarray(1.0, "float64")

    def observe(x):
        return jnp.tanh(x[:2])

    plain = white(mean)(x, sigma)
    target = observe(plain) + jnp.array([0.05, -0.05])
    guided = lifted(white(mean), observe, sensors(target, variance=1e-6), SPREAD, 8)(x, sigma)
    np.testing.assert_allclose(observe(guided), target, atol=5e-3)
    np.testing.assert_array_equal(guided[2:], plain[2:])
