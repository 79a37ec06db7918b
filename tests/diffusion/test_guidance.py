"""Guidance: exact for Gaussians where it should be, its bias measured where not; deaf to masked sensors; nonlinear."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrda.diffsrda.config import GUIDES as CONFIGURED
from jaxsrda.diffsrda.covariance import channel_covariance, modes, smoothing
from jaxsrda.diffsrda.sampling import geometric
from jaxsrda.diffusion.denoiser import gaussian_denoiser
from jaxsrda.diffusion.guidance.blend import blend
from jaxsrda.diffusion.guidance.gain import gain, join, lifted, linearize, oi
from jaxsrda.diffusion.guidance.gradient import mmps
from jaxsrda.diffusion.guidance.table import GUIDES
from jaxsrda.diffusion.samplers import sample_members
from jaxsrda.diffusion.schedules import edm_sigmas
from jaxsrda.flow.grid import ChannelGrid, to_physical
from jaxsrda.observing.observations import Observations
from jaxsrda.observing.operators import OPERATORS, block_mean, streamfunction, vorticity

SIZE = 6
SPREAD = 0.7
NOISE = 0.09
SIGMA = jnp.asarray(0.5, "float64")


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), "float64")


def sensors(values, mask=None, variance=NOISE, positions=None):
    values = jnp.asarray(values, "float64")
    mask = jnp.ones(len(values), bool) if mask is None else jnp.asarray(mask)
    positions = jnp.zeros((len(values), 2), "float64") if positions is None else jnp.asarray(positions, "float64")
    return Observations(values, positions, mask, jnp.full(len(values), variance, "float64"))


def white(mean):
    """The exact denoiser of N(mean, SPREAD² I)."""
    size = mean.size
    return gaussian_denoiser(mean, jnp.eye(size, dtype="float64"), jnp.full(size, SPREAD**2, "float64"))


def coloured(mean, seed=7):
    """The exact denoiser of N(mean, Q diag(λ) Qᵀ), its eigenvectors and eigenvalues."""
    vectors = jnp.linalg.qr(normal(mean.size, mean.size, seed=seed))[0]
    variances = jnp.asarray(np.geomspace(0.05, 2.0, mean.size), "float64")
    return gaussian_denoiser(mean, vectors, variances), vectors, variances


MATRIX, MEAN, X, Y = normal(3, SIZE), normal(SIZE, seed=1), normal(SIZE, seed=2), normal(3, seed=3)


def see(x):
    return MATRIX @ x


def posterior(covariance, prior_mean, matrix=MATRIX, y=Y, noise=NOISE):
    """Mean and covariance of N(prior_mean, covariance) given y."""
    kalman = covariance @ matrix.T @ np.linalg.inv(matrix @ covariance @ matrix.T + noise * np.eye(len(y)))
    return prior_mean + kalman @ (y - matrix @ prior_mean), covariance - kalman @ matrix @ covariance


# One estimate ---------------------------------------------------------------------------------

STRENGTH = {"lifted": SPREAD, "pigdm": SPREAD, "oi": SPREAD**2, "mmps": 1.0}


@pytest.mark.parametrize("sigma", [0.1, 2.0])
@pytest.mark.parametrize("name", STRENGTH)
def test_the_estimate_is_the_posterior_mean_of_a_white_gaussian(name, sigma):
    """E[x₀ | x_σ, y] for x₀ ~ N(m, s²I)."""
    guided = GUIDES[name](white(MEAN), see, sensors(Y), STRENGTH[name], iterations=8)
    left = 1 / (SPREAD**-2 + sigma**-2)
    expected, _ = posterior(left * np.eye(SIZE), left * (MEAN / SPREAD**2 + X / sigma**2))
    np.testing.assert_allclose(guided(X, jnp.asarray(sigma, "float64")), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("sigma", [0.1, 2.0])
@pytest.mark.parametrize("name", ["oi", "mmps"])
def test_the_estimate_is_the_posterior_mean_of_any_gaussian(name, sigma):
    denoise, vectors, variances = coloured(MEAN)
    options = {"covariance": modes(vectors, variances)} if name == "oi" else {}
    guided = GUIDES[name](denoise, see, sensors(Y), 1.0, iterations=8, **options)
    covariance = np.linalg.inv(np.linalg.inv(vectors * variances @ vectors.T) + np.eye(SIZE) / sigma**2)
    centre = covariance @ (np.linalg.solve(vectors * variances @ vectors.T, MEAN) + X / sigma**2)
    expected, _ = posterior(covariance, centre)
    np.testing.assert_allclose(guided(X, jnp.asarray(sigma, "float64")), expected, rtol=1e-7, atol=1e-9)


def test_other_estimates_are_their_formulas():
    estimate = np.asarray(white(MEAN)(X, SIGMA))
    departure, shrink = Y - MATRIX @ estimate, SPREAD**2 / (SPREAD**2 + SIGMA**2)
    got = {name: GUIDES[name](white(MEAN), see, sensors(Y), 0.3)(X, SIGMA) - estimate for name in ("sda", "dps")}
    np.testing.assert_allclose(
        got["sda"], SIGMA**2 * shrink * MATRIX.T @ (departure / (NOISE + 0.3 * SIGMA**2)), rtol=1e-9
    )
    np.testing.assert_allclose(got["dps"], 0.3 * SIGMA**2 * shrink * MATRIX.T @ departure / NOISE, rtol=1e-9)
    proximal = GUIDES["diffpir"](white(MEAN), see, sensors(Y), 0.3, iterations=8)(X, SIGMA)
    expected, _ = posterior(SIGMA**2 / 0.3 * np.eye(SIZE), estimate)
    np.testing.assert_allclose(proximal, expected, rtol=1e-8)


def test_blend_replaces_what_sensors_of_their_own_points_see():
    apart = jnp.diag(jnp.asarray([1.0, 0.1, 3.0, 1.0, 1.0, 1.0], "float64"))[:3]
    estimate = white(MEAN)(X, SIGMA)
    for hard_below, share in ((0.0, 0.3 / (0.3 + NOISE)), (0.6, 1.0)):
        replaced = blend(white(MEAN), lambda x: apart @ x, sensors(Y), 0.3, hard_below=hard_below)(X, SIGMA)
        np.testing.assert_allclose(apart @ replaced, apart @ estimate + share * (Y - apart @ estimate), rtol=1e-9)
        np.testing.assert_array_equal(replaced[3:], estimate[3:])


def test_the_gain_does_with_fewer_iterations_what_it_can():
    errors = []
    expected, _ = posterior(np.eye(SIZE), np.asarray(X))
    for iterations in (1, 2, 3):
        errors.append(np.abs(X + gain(see, sensors(Y), X, SIGMA, lambda u: u, iterations) - expected).max())
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-9


# Samples --------------------------------------------------------------------------------------

MEMBERS = 3000


def moments(guided, shape, key=0):
    """Mean and covariance of many samples."""
    run = jax.jit(
        lambda key: sample_members(guided, key, MEMBERS, shape, edm_sigmas(40, 0.005, 40.0), "heun", dtype="float64")
    )
    drawn = np.asarray(run(jax.random.key(key))).reshape(MEMBERS, -1)
    return drawn.mean(0), np.cov(drawn.T)


def close_to_posterior(guided, shape, mean, covariance):
    got_mean, got_covariance = moments(guided, shape)
    error = np.sqrt(np.diag(covariance) / MEMBERS)
    assert (np.abs(got_mean - mean) < 5 * error + 4e-3).all()
    sizes = np.sqrt(np.diag(covariance))
    assert (np.abs(got_covariance - covariance) < (5.5 / np.sqrt(MEMBERS) + 0.02) * np.outer(sizes, sizes) + 2e-4).all()


@pytest.mark.parametrize("name", ["lifted", "pigdm", "oi", "mmps"])
def test_samples_are_those_of_the_posterior_of_a_white_gaussian(name):
    guided = GUIDES[name](white(MEAN), see, sensors(Y), STRENGTH[name], iterations=4)
    close_to_posterior(guided, (SIZE,), *posterior(SPREAD**2 * np.eye(SIZE), MEAN))


@pytest.mark.parametrize(
    "name, strength, iterations, white_off, white_variance, coloured_off, coloured_variance",
    [
        ("blend", 0.1, None, 0.76, 0.01, 1.72, 0.01),
        ("lifted", SPREAD, 4, 0.0, 1.0, 2.2, 1.03),
        ("diffpir", 1.0, None, 0.17, 0.81, 2.05, 0.85),
        ("pigdm", SPREAD, 4, 0.0, 1.0, 1.29, 1.11),
        ("sda", SPREAD**2, None, 0.47, 0.99, 2.1, 1.36),
        ("dps", 0.1, None, 1.1, 2.9, 2.8, 2.95),
        ("mmps", 1.0, 4, 0.0, 1.0, 0.0, 1.0),
        ("mmps", 1.0, 1, 0.38, 1.43, 0.63, 0.93),
    ],
)
def test_biases_have_the_size_that_the_documentation_says(
    name, strength, iterations, white_off, white_variance, coloured_off, coloured_variance
):
    """Error of the mean in the posterior's own deviations, and variance along what is seen over the posterior's."""
    vectors, variances = coloured(MEAN)[1:]
    cases = [
        (white(MEAN), SPREAD**2 * np.eye(SIZE), white_off, white_variance),
        (coloured(MEAN)[0], np.asarray(vectors * variances @ vectors.T), coloured_off, coloured_variance),
    ]
    matrix = np.eye(SIZE)[:3] if name == "blend" else MATRIX  # blend is for sensors of their own points
    seen = np.linalg.svd(matrix)[2][:3]
    for denoise, prior, off, ratio in cases:
        mean, covariance = posterior(prior, MEAN, matrix)
        relative = np.sqrt(np.trace(prior) / SIZE) / SPREAD
        own = strength * {"lifted": relative, "pigdm": relative, "sda": relative**2}.get(name, 1.0)
        options = {} if iterations is None else {"iterations": iterations}
        guided = GUIDES[name](denoise, lambda x: jnp.asarray(matrix) @ x, sensors(Y), own, **options)
        got_mean, got = moments(guided, (SIZE,))
        bias = np.sqrt(np.mean((got_mean - mean) ** 2 / np.diag(covariance)))
        assert bias == pytest.approx(off, abs=0.12 + 0.06 * off)
        share = np.trace(seen @ got @ seen.T) / np.trace(seen @ covariance @ seen.T)
        assert share == pytest.approx(ratio, abs=0.05 + 0.1 * ratio)


GRID = ChannelGrid(8, 5)


@pytest.mark.parametrize("operator", [vorticity, block_mean(2), streamfunction])
@pytest.mark.parametrize("name", ["oi", "mmps"])
def test_samples_on_the_channel_are_those_of_the_kalman_posterior(name, operator):
    """Prior N(0, C) on the channel, its walls still, C far from white; sensors off the grid."""
    inner = [i * GRID.ny + j for i in range(GRID.nx) for j in range(1, GRID.ny - 1)]
    vectors = np.zeros((GRID.nx * GRID.ny, len(inner)))
    x, y = np.meshgrid(GRID.x, GRID.y[1:-1], indexing="ij")
    apart = np.abs(x.ravel()[:, None] - x.ravel())
    distance = np.minimum(apart, 2 * np.pi - apart) ** 2 + (y.ravel()[:, None] - y.ravel()) ** 2
    variances, vectors[inner] = np.linalg.eigh(np.exp(-distance / 2))
    variances = np.maximum(variances, 1e-6)
    denoise = gaussian_denoiser(jnp.zeros(GRID.shape, "float64"), jnp.asarray(vectors), jnp.asarray(variances))
    positions = jnp.asarray([[0.4, 0.9], [2.0, 1.7], [4.4, 2.2]], "float64")

    def see(x):
        return operator(GRID, x, positions)

    matrix = np.asarray(jax.jacobian(see)(jnp.zeros(GRID.shape, "float64"))).reshape(3, -1)
    y = jnp.asarray([0.8, -0.5, 0.3], "float64")
    options = {"covariance": modes(jnp.asarray(vectors), jnp.asarray(variances))} if name == "oi" else {}
    guided = GUIDES[name](denoise, see, sensors(y, variance=0.04), 1.0, iterations=4, **options)
    prior = vectors * variances @ vectors.T
    mean, covariance = posterior(prior, np.zeros(len(prior)), matrix, y, 0.04)
    close_to_posterior(guided, GRID.shape, mean, covariance)


def test_a_nonlinear_case_against_importance_sampling():
    """x₀ ~ N(m, s²), y = arctan(2 x₀) + noise: mean within a tenth of the prior's spread, spread within a quarter."""
    mean, y = jnp.asarray([0.5], "float64"), 0.4

    def see(x):
        return jnp.arctan(2 * x)

    prior = 0.5 + SPREAD * np.random.default_rng(0).normal(size=400_000)
    weights = np.exp(-((y - np.arctan(2 * prior)) ** 2) / (2 * 0.04))
    expected = np.average(prior, weights=weights)
    spread = np.sqrt(np.average((prior - expected) ** 2, weights=weights))
    for name in ("mmps", "pigdm", "lifted"):
        strength = 1.0 if name == "mmps" else SPREAD
        got_mean, got = moments(
            GUIDES[name](white(mean), see, sensors([y], variance=0.04), strength, iterations=2), (1,)
        )
        assert abs(got_mean[0] - expected) < 0.1 * SPREAD and 0.75 < np.sqrt(got) / spread < 1.25, name


# What every method keeps ----------------------------------------------------------------------


def test_configurations_know_every_method():
    assert tuple(GUIDES) == CONFIGURED


@functools.cache
def estimates(name):
    def at(observe, seen):
        return GUIDES[name](white(MEAN), observe, seen)(X, SIGMA)

    return at


@pytest.mark.parametrize("name", GUIDES)
def test_masked_sensors_say_nothing_and_none_changes_nothing(name):
    at, plain = estimates(name), white(MEAN)(X, SIGMA)
    np.testing.assert_array_equal(at(see, sensors([9.0, 9.0, 9.0], [False] * 3)), plain)
    some = at(see, sensors([1.0, np.nan, 2.0], [True, False, True]))
    kept = jnp.array([0, 2])
    np.testing.assert_allclose(some, at(lambda x: MATRIX[kept] @ x, sensors([1.0, 2.0])), rtol=1e-7, atol=1e-9)
    order = jnp.array([2, 0, 1])
    shuffled = at(lambda x: MATRIX[order] @ x, sensors(Y[order]))
    np.testing.assert_allclose(at(see, sensors(Y)), shuffled, rtol=1e-7, atol=1e-9)
    assert np.abs(at(see, sensors(Y)) - plain).max() > 1e-3
    np.testing.assert_allclose(at(see, sensors(Y, variance=1e12)), plain, atol=1e-9)


@pytest.mark.parametrize("variance", [np.inf, 1e12])
@pytest.mark.parametrize("name", GUIDES)
def test_a_sensor_that_knows_nothing_is_none_among_others(name, variance):
    """With the iterations that each method has; `blend`, which looks at one sensor at a time, only for infinity."""
    if name == "blend" and variance < np.inf:
        pytest.skip("blend shares out points among sensors, precise or not")
    every = sensors(Y)._replace(variance=jnp.asarray([NOISE, variance, NOISE]))
    silent = sensors(Y)._replace(mask=jnp.asarray([True, False, True]))
    got, expected = (GUIDES[name](white(MEAN), see, given)(X, SIGMA) for given in (every, silent))
    np.testing.assert_allclose(got, expected, atol=1e-8)
    assert np.abs(expected - white(MEAN)(X, SIGMA)).max() > 1e-3


@pytest.mark.parametrize("name", GUIDES)
def test_a_strength_may_be_traced_and_swept(name):
    swept = jax.jit(jax.vmap(lambda s: GUIDES[name](white(MEAN), see, sensors(Y), s)(X, SIGMA)))
    values = jnp.asarray([0.1, 1.0], "float64")
    for got, strength in zip(swept(values), values):
        np.testing.assert_allclose(
            got, GUIDES[name](white(MEAN), see, sensors(Y), float(strength))(X, SIGMA), rtol=1e-9
        )


def test_sets_of_sensors_with_their_own_operators_are_one():
    one, other = (see, sensors(Y)), (lambda x: jnp.tanh(x[:2]), sensors([0.1, 0.2], variance=0.5))
    observe, seen = join([one, other])
    departures, noise, pull, push = linearize(observe, seen, X)
    np.testing.assert_allclose(noise, [NOISE] * 3 + [0.5] * 2)
    np.testing.assert_allclose(departures, np.concatenate([Y - MATRIX @ X, [0.1, 0.2] - np.tanh(X[:2])]))
    jacobian = np.asarray(jax.jacobian(observe)(X))
    np.testing.assert_allclose(push(X), jacobian @ X, rtol=1e-9)
    np.testing.assert_allclose(pull(departures), jacobian.T @ departures, rtol=1e-9)
    guided = mmps(white(MEAN), observe, seen, iterations=8)(X, SIGMA)
    assert np.isfinite(guided).all() and np.abs(guided - mmps(white(MEAN), *one, iterations=8)(X, SIGMA)).max() > 1e-3


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_guides(name):
    positions = jnp.asarray([[0.4, 0.9], [2.0, 1.7], [4.4, 2.2]], "float64")
    field, target = normal(*GRID.shape, seed=4), normal(*GRID.shape, seed=5)

    def see(x):
        return OPERATORS[name](GRID, x, positions)

    near = field + 0.05 * (target - field)
    seen = sensors(see(near), variance=1e-8)
    moved = lifted(lambda x, sigma: x, see, seen, 1.0, iterations=10)(field, jnp.asarray(1.0, "float64"))
    assert np.abs(see(moved) - see(near)).max() < 0.2 * np.abs(see(field) - see(near)).max()


def test_a_blur_keeps_the_value_at_a_sensor():
    blur = smoothing(1.5, 12, 9)
    field = jnp.zeros((12, 9), "float64").at[0, 4].set(2.0)
    spread = blur(field, SIGMA)
    assert spread[0, 4] == 2 and spread[11, 4] == spread[1, 4] == pytest.approx(2 * np.exp(-0.5 / 1.5**2))
    several = blur(jnp.zeros((12, 9), "float64").at[0:2, 4].set(2.0), SIGMA)
    assert several.max() <= 2 + 1e-12
    np.testing.assert_allclose(smoothing(lambda sigma: 3 * sigma, 12, 9)(field, jnp.asarray(0.5)), spread, rtol=1e-12)


def test_a_blur_may_change_from_the_first_step_to_the_last():
    width = geometric((4.0, 1.0), np.array([8.0, 2.0, 0.5, 0.0]))
    np.testing.assert_allclose([width(sigma) for sigma in (8.0, 2.0, 0.5)], [4.0, 2.0, 1.0])
    assert geometric((4.0, 1.0), np.array([8.0, 0.0]))(8.0) == 4.0


def test_the_channels_covariance_is_that_of_its_modes():
    """Against the dense matrix: (S⁻¹ + I/v)⁻¹ on the basis, nothing beyond it; symmetric."""
    grid, between = ChannelGrid(8, 5), np.array([[1.0, 0.4], [0.4, 1.0]])
    variances = np.random.default_rng(0).uniform(0.1, 3, grid.spectral_shape)
    apply = channel_covariance(grid, variances, between)
    size = grid.nx * grid.ny * 2
    dense = np.asarray(
        jax.vmap(lambda e: apply(e.reshape(8, 5, 2), jnp.asarray(0.5, "float64")).ravel())(jnp.eye(size))
    )
    np.testing.assert_allclose(dense, dense.T, atol=1e-12)
    columns = jax.vmap(lambda e: to_physical(grid, e.reshape(grid.spectral_shape)).ravel())
    basis = np.asarray(columns(jnp.eye(variances.size))).T
    basis = basis / np.linalg.norm(basis, axis=0)
    np.testing.assert_allclose(basis.T @ basis, np.eye(variances.size), atol=1e-12)
    own = np.kron(np.diag(variances.ravel()), between)
    expected = np.kron(basis, np.eye(2)) @ np.linalg.inv(np.linalg.inv(own) + np.eye(len(own)) / 0.5)
    np.testing.assert_allclose(dense, expected @ np.kron(basis, np.eye(2)).T, atol=1e-10)


def test_oi_without_a_covariance_is_white():
    one, other = (oi(white(MEAN), see, sensors(Y), SPREAD**2), lifted(white(MEAN), see, sensors(Y), SPREAD))
    np.testing.assert_allclose(one(X, SIGMA), other(X, SIGMA), rtol=1e-12)
