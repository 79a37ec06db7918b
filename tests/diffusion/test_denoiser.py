"""Denoisers: the algebra of the parametrizations, their regressions, and the exact Gaussian one."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import quick_jit

from jaxsrda.diffusion import denoiser as dn
from jaxsrda.diffusion.denoiser import PARAMETRIZATIONS
from jaxsrda.diffusion.schedules import VP_SCHEDULE, VPSchedule

SHAPE = (3, 4)


def arrays(dtype="float64", count=3):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=SHAPE), dtype) for _ in range(count)]


def recording(network):
    """The network, and a list of what it is called with."""
    calls = []

    def record(z, level):
        calls.append((z, level))
        return network(z, level)

    return record, calls


# The parametrizations, each from its own definition


@pytest.mark.parametrize("sigma", [0.01, 0.7, 150.0])
def test_noise_prediction(sigma, dtype):
    x, answer, _ = arrays(dtype)
    network, calls = recording(lambda z, level: answer)
    got = dn.precondition("noise", network)(x, jnp.asarray(sigma, dtype))
    alpha_bar = 1 / (1 + sigma**2)
    assert got.dtype == dtype
    np.testing.assert_allclose(calls[0][0], math.sqrt(alpha_bar) * x, rtol=1e-5)
    np.testing.assert_allclose(calls[0][1], math.sqrt(alpha_bar), rtol=1e-6)
    # DDPM: x̂₀ = (z − √(1 − ᾱ) ε̂)/√ᾱ.
    expected = (math.sqrt(alpha_bar) * x - math.sqrt(1 - alpha_bar) * answer) / math.sqrt(alpha_bar)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.01, 0.7, 150.0])
def test_velocity_prediction(sigma, dtype):
    x, answer, _ = arrays(dtype)
    network, calls = recording(lambda z, level: answer)
    got = dn.precondition("velocity", network)(x, jnp.asarray(sigma, dtype))
    a = 1 / math.sqrt(1 + sigma**2)
    assert got.dtype == dtype
    np.testing.assert_allclose(calls[0][0], a * x, rtol=1e-5)
    np.testing.assert_allclose(calls[0][1], a, rtol=1e-6)
    np.testing.assert_allclose(got, a * (a * x) - math.sqrt(1 - a * a) * answer, rtol=1e-5, atol=1e-5)


def test_data_prediction(dtype):
    x, answer, _ = arrays(dtype)
    network, calls = recording(lambda z, level: answer)
    got = dn.precondition("data", network)(x, jnp.asarray(0.75, dtype))
    np.testing.assert_array_equal(got, answer)
    np.testing.assert_allclose(calls[0][0], 0.8 * x, rtol=1e-6)
    np.testing.assert_allclose(calls[0][1], 0.8, rtol=1e-6)


@pytest.mark.parametrize("sigma", [0.002, 0.7, 80.0])
def test_edm_preconditioning(sigma, dtype):
    x, answer, _ = arrays(dtype)
    network, calls = recording(lambda z, level: answer)
    got = dn.precondition("edm", network, 0.4)(x, jnp.asarray(sigma, dtype))
    total = sigma**2 + 0.4**2
    assert got.dtype == dtype
    np.testing.assert_allclose(calls[0][0], x / math.sqrt(total), rtol=1e-5)
    np.testing.assert_allclose(calls[0][1], np.log(sigma) / 4, rtol=1e-5)
    np.testing.assert_allclose(got, 0.16 / total * x + 0.4 * sigma / math.sqrt(total) * answer, rtol=1e-5, atol=1e-6)


def test_edm_inputs_and_targets_have_unit_variance(dtype):
    rng = np.random.default_rng(1)
    x0, noise = (jnp.asarray(s * rng.normal(size=20_000), dtype) for s in (0.4, 1.0))
    for sigma in (0.002, 0.4, 80.0):
        level = jnp.asarray(sigma, dtype)
        c = dn.preconditioning("edm", level, 0.4)
        target = dn.training_target("edm", x0, noise, level, 0.4)
        # 4.5 standard errors of a variance: 4.5 √(2/20000).
        assert abs(np.var(c.scale * (x0 + level * noise)) - 1) < 0.045
        assert abs(np.var(target) - 1) < 0.045


# Training is the inverse


def test_targets_are_the_named_quantities(dtype):
    x0, noise, _ = arrays(dtype)
    for sigma in (1e-3, 0.75, 100.0):
        a = 1 / math.sqrt(1 + sigma**2)
        level = jnp.asarray(sigma, dtype)
        tolerance = dict(rtol=2e-6, atol=2e-6)
        np.testing.assert_allclose(dn.training_target("noise", x0, noise, level), noise, **tolerance)
        np.testing.assert_allclose(dn.training_target("data", x0, noise, level), x0, **tolerance)
        velocity = a * noise - math.sqrt(1 - a * a) * x0
        np.testing.assert_allclose(dn.training_target("velocity", x0, noise, level), velocity, **tolerance)


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
@pytest.mark.parametrize("sigma", [0.01, 0.7, 50.0])
def test_a_network_that_meets_its_target_denoises_exactly(name, sigma, dtype):
    x0, noise, _ = arrays(dtype)
    sigma = jnp.asarray(sigma, dtype)
    target = dn.training_target(name, x0, noise, sigma, 0.4)
    assert target.dtype == dtype
    x = x0 + sigma * noise
    scale = {"float32": 1e-6, "float64": 1e-14}[dtype] * max(1, float(sigma))
    np.testing.assert_allclose(dn.precondition(name, lambda z, c: target, 0.4)(x, sigma), x0, atol=8 * scale)


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_training_loss(name, dtype):
    x0, noise, other = arrays(dtype)
    sigma = jnp.asarray(0.7, dtype)
    network, calls = recording(lambda z, level: other)
    target = dn.training_target(name, x0, noise, sigma, 0.4)
    for loss, expected in (("l1", abs(other - target).mean()), ("l2", ((other - target) ** 2).mean())):
        got = dn.training_loss(name, network, x0, noise, sigma, loss, 0.4)
        assert got.dtype == dtype and got.shape == ()
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    # In training the network sees what it sees in sampling.
    dn.precondition(name, network, 0.4)(x0 + sigma * noise, sigma)
    for trained, sampled in zip(calls[0], calls[-1]):
        np.testing.assert_allclose(trained, sampled, rtol=1e-6)


def test_training_levels(dtype):
    count, key = 20_000, jax.random.key(0)
    draws = quick_jit(lambda key: dn.edm_loss_sigma(key, (count,), -0.5, 0.8, dtype))(key)
    got = np.log(draws)
    assert got.dtype == dtype
    assert abs(got.mean() + 0.5) < 4.5 * 0.8 / math.sqrt(count)
    assert abs(got.std() / 0.8 - 1) < 4.5 / math.sqrt(2 * count)

    schedule = VPSchedule(steps=5)
    got = np.asarray(quick_jit(lambda key: dn.vp_loss_sigma(key, (count,), schedule, dtype))(key))
    assert got.dtype == dtype
    values, counts = np.unique(got, return_counts=True)
    np.testing.assert_allclose(values, schedule.sigmas(), rtol=1e-6)
    assert abs(counts - count / 5).max() < 4.5 * math.sqrt(count * 0.2 * 0.8)
    assert dn.vp_loss_sigma(key) in VP_SCHEDULE.sigmas()


# The exact denoiser


def test_gaussian_denoiser_is_bayes_rule(dtype):
    rng = np.random.default_rng(2)
    root = rng.normal(size=(12, 12))
    covariance, mean = root @ root.T, rng.normal(size=12)
    variances, vectors = np.linalg.eigh(covariance)
    denoise = dn.gaussian_denoiser(
        jnp.asarray(mean.reshape(SHAPE), dtype), jnp.asarray(vectors, dtype), jnp.asarray(variances, dtype)
    )
    x = rng.normal(size=12)
    for sigma in (0.1, 1.0, 30.0):
        gain = covariance @ np.linalg.inv(covariance + sigma**2 * np.eye(12))
        got = denoise(jnp.asarray(x.reshape(SHAPE), dtype), jnp.asarray(sigma, dtype))
        assert got.dtype == dtype and got.shape == SHAPE
        np.testing.assert_allclose(
            got.ravel(), mean + gain @ (x - mean), atol={"float32": 2e-5, "float64": 1e-11}[dtype]
        )


def test_gaussian_denoiser_of_a_degenerate_law():
    vectors = jnp.eye(12)[:, :2]
    denoise = dn.gaussian_denoiser(jnp.ones(SHAPE), vectors, jnp.array([3.0, 0.0]))
    got = denoise(jnp.full(SHAPE, 5.0), jnp.asarray(1.0)).ravel()
    np.testing.assert_allclose(got, [4.0] + [1.0] * 11)


X, SIGMA = jnp.zeros(SHAPE), jnp.asarray(1.0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: dn.precondition("nose", lambda z, c: z), "parametrization: expected one of .*did you mean 'noise'"),
        (lambda: dn.training_target("x0", X, X, SIGMA), "parametrization: expected one of .*got 'x0'"),
        (lambda: dn.precondition("edm", lambda z, c: z, 0.0), "sigma_data: expected a finite number above 0, got 0.0"),
        (lambda: dn.preconditioning("edm", SIGMA, -1.0), "sigma_data: expected a finite number above 0"),
        (lambda: dn.training_target("noise", X, X[0], SIGMA), r"noise: expected 2 dimensions \(3, 4\), got"),
        (
            lambda: dn.training_loss("noise", lambda z, c: z, X, X, SIGMA, "l3"),
            "loss: expected one of l1, l2; got 'l3'",
        ),
        (lambda: dn.gaussian_denoiser(X, jnp.eye(5), jnp.ones(5)), r"eigenvectors: expected shape \(12, any\)"),
        (lambda: dn.gaussian_denoiser(X, jnp.eye(12), jnp.ones(5)), r"variances: expected shape \(12\), got \(5,\)"),
        (
            lambda: dn.gaussian_denoiser(X, jnp.eye(12), jnp.ones(12))(jnp.zeros((2, *SHAPE)), SIGMA),
            r"x: expected 2 dimensions .*map over leading axes with jax\.vmap",
        ),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()
