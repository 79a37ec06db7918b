"""Guidance: exact for Gaussians where it should be, its bias measured where not; deaf to masked sensors; nonlinear."""

import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import quick_jit

from jaxsrda.core.records import described, key_of
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.covariance import channel_covariance, modes, smoothing
from jaxsrda.diffusion.denoiser import gaussian_denoiser
from jaxsrda.diffusion.guidance import (
    DPS,
    GUIDES,
    MMPS,
    OI,
    SDA,
    Blend,
    DiffPIR,
    Lifted,
    PiGDM,
    Projected,
    Readings,
    Samples,
    guide,
    join,
)
from jaxsrda.diffusion.guidance.blend import geometric
from jaxsrda.diffusion.guidance.guide import gain, linearize
from jaxsrda.diffusion.samplers import sample, sample_members
from jaxsrda.diffusion.schedules import edm_sigmas
from jaxsrda.flow.grid import ChannelGrid, to_physical
from jaxsrda.observing.operators import OPERATORS, block_mean, streamfunction, vorticity

SIZE = 6
SPREAD = 0.7
NOISE = 0.09
SIGMA = jnp.asarray(0.5, "float64")
STEPWISE = [name for name in GUIDES if name != "projected"]
"""Guides that correct the estimate at each step."""


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), "float64")


def readings(values, mask=None, variance=NOISE):
    values = jnp.asarray(values, "float64")
    mask = jnp.ones(len(values), bool) if mask is None else jnp.asarray(mask)
    return Readings(values, mask, jnp.full(len(values), variance, "float64"))


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
    guided = GUIDES[name](STRENGTH[name], iterations=8)(white(MEAN), see, readings(Y))
    left = 1 / (SPREAD**-2 + sigma**-2)
    expected, _ = posterior(left * np.eye(SIZE), left * (MEAN / SPREAD**2 + X / sigma**2))
    np.testing.assert_allclose(guided(X, jnp.asarray(sigma, "float64")), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("sigma", [0.1, 2.0])
@pytest.mark.parametrize("name", ["oi", "mmps"])
def test_the_estimate_is_the_posterior_mean_of_any_gaussian(name, sigma):
    denoise, vectors, variances = coloured(MEAN)
    known = Samples(covariance=modes(vectors, variances) if name == "oi" else None)
    guided = GUIDES[name](1.0, iterations=8)(denoise, see, readings(Y), known)
    covariance = np.linalg.inv(np.linalg.inv(vectors * variances @ vectors.T) + np.eye(SIZE) / sigma**2)
    centre = covariance @ (np.linalg.solve(vectors * variances @ vectors.T, MEAN) + X / sigma**2)
    expected, _ = posterior(covariance, centre)
    np.testing.assert_allclose(guided(X, jnp.asarray(sigma, "float64")), expected, rtol=1e-7, atol=1e-9)


def test_other_estimates_are_their_formulas():
    estimate = np.asarray(white(MEAN)(X, SIGMA))
    departure, shrink = Y - MATRIX @ estimate, SPREAD**2 / (SPREAD**2 + SIGMA**2)
    got = {name: GUIDES[name](0.3)(white(MEAN), see, readings(Y))(X, SIGMA) - estimate for name in ("sda", "dps")}
    np.testing.assert_allclose(
        got["sda"], SIGMA**2 * shrink * MATRIX.T @ (departure / (NOISE + 0.3 * SIGMA**2)), rtol=1e-9
    )
    np.testing.assert_allclose(got["dps"], 0.3 * SIGMA**2 * shrink * MATRIX.T @ departure / NOISE, rtol=1e-9)
    proximal = DiffPIR(0.3, iterations=8)(white(MEAN), see, readings(Y))(X, SIGMA)
    expected, _ = posterior(SIGMA**2 / 0.3 * np.eye(SIZE), estimate)
    np.testing.assert_allclose(proximal, expected, rtol=1e-8)
    # The strength of mmps multiplies R.
    moment = MMPS(0.3, iterations=8)(white(MEAN), see, readings(Y))(X, SIGMA)
    expected, _ = posterior(SIGMA**2 * shrink * np.eye(SIZE), estimate, noise=0.3 * NOISE)
    np.testing.assert_allclose(moment, expected, rtol=1e-8)


def test_blend_replaces_what_sensors_of_their_own_points_see():
    apart = jnp.diag(jnp.asarray([1.0, 0.1, 3.0, 1.0, 1.0, 1.0], "float64"))[:3]
    estimate = white(MEAN)(X, SIGMA)
    levels = Samples(sigmas=np.array([2.0, 0.5, 0.0]))
    for hard_steps, share in ((0, 0.3 / (0.3 + NOISE)), (1, 1.0)):
        replaced = Blend(0.3, hard_steps=hard_steps)(white(MEAN), lambda x: apart @ x, readings(Y), levels)(X, SIGMA)
        np.testing.assert_allclose(apart @ replaced, apart @ estimate + share * (Y - apart @ estimate), rtol=1e-9)
        np.testing.assert_array_equal(replaced[3:], estimate[3:])
    early = [Blend(0.3, hard_steps=n)(white(MEAN), see, readings(Y), levels)(X, 4 * SIGMA) for n in (0, 1, 2)]
    np.testing.assert_array_equal(early[1], early[0])  # the step before the last is soft, unless two are hard
    assert np.abs(early[2] - early[0]).max() > 1e-3


def test_the_gain_does_with_fewer_iterations_what_it_can():
    errors = []
    expected, _ = posterior(np.eye(SIZE), np.asarray(X))
    for iterations in (1, 2, 3):
        errors.append(np.abs(X + gain(see, readings(Y), X, SIGMA, lambda u: u, iterations) - expected).max())
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-9


# Samples --------------------------------------------------------------------------------------

MEMBERS = 3000


def moments(guided, shape, key=0):
    """Mean and covariance of many samples."""
    one = functools.partial(sample, shape=shape, sigmas=edm_sigmas(40, 0.005, 40.0), sampler="heun", dtype="float64")
    run = quick_jit(lambda key: sample_members(guided, key, MEMBERS, one))
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
    guided = GUIDES[name](STRENGTH[name], iterations=4)(white(MEAN), see, readings(Y))
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
        guided = GUIDES[name](own, **options)(denoise, lambda x, m=matrix: jnp.asarray(m) @ x, readings(Y))
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
    known = Samples(covariance=modes(jnp.asarray(vectors), jnp.asarray(variances)) if name == "oi" else None)
    guided = GUIDES[name](1.0, iterations=4)(denoise, see, readings(y, variance=0.04), known)
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
        guided = GUIDES[name](strength, iterations=2)(white(mean), see, readings([y], variance=0.04))
        got_mean, got = moments(guided, (1,))
        assert abs(got_mean[0] - expected) < 0.1 * SPREAD and 0.75 < np.sqrt(got) / spread < 1.25, name


# What every method keeps ----------------------------------------------------------------------


def test_configurations_know_every_method():
    for name, kind in GUIDES.items():
        assert DiffSRDAConfig(guidance=name).guidance == kind() and type(guide(name)) is kind


def estimates(name):
    def at(observe, seen):
        return GUIDES[name]()(white(MEAN), observe, seen)(X, SIGMA)

    return at


@pytest.mark.parametrize("name", STEPWISE)
def test_masked_sensors_say_nothing_and_none_changes_nothing(name):
    at, plain = estimates(name), white(MEAN)(X, SIGMA)
    np.testing.assert_array_equal(at(see, readings([9.0, 9.0, 9.0], [False] * 3)), plain)
    some = at(see, readings([1.0, np.nan, 2.0], [True, False, True]))
    kept = jnp.array([0, 2])
    np.testing.assert_allclose(some, at(lambda x: MATRIX[kept] @ x, readings([1.0, 2.0])), rtol=1e-7, atol=1e-9)
    order = jnp.array([2, 0, 1])
    shuffled = at(lambda x: MATRIX[order] @ x, readings(Y[order]))
    np.testing.assert_allclose(at(see, readings(Y)), shuffled, rtol=1e-7, atol=1e-9)
    assert np.abs(at(see, readings(Y)) - plain).max() > 1e-3
    np.testing.assert_allclose(at(see, readings(Y, variance=1e12)), plain, atol=1e-9)


@pytest.mark.parametrize("variance", [np.inf, 1e12])
@pytest.mark.parametrize("name", STEPWISE)
def test_a_sensor_that_knows_nothing_is_none_among_others(name, variance):
    """With the iterations that each method has; `blend`, which looks at one sensor at a time, only for infinity."""
    if name == "blend" and variance < np.inf:
        pytest.skip("blend shares out points among sensors, precise or not")
    every = readings(Y)._replace(variance=jnp.asarray([NOISE, variance, NOISE]))
    silent = readings(Y)._replace(mask=jnp.asarray([True, False, True]))
    got, expected = (GUIDES[name]()(white(MEAN), see, given)(X, SIGMA) for given in (every, silent))
    np.testing.assert_allclose(got, expected, atol=1e-8)
    assert np.abs(expected - white(MEAN)(X, SIGMA)).max() > 1e-3


@pytest.mark.parametrize("name", STEPWISE)
def test_a_strength_may_be_traced_and_swept(name):
    """A guide made inside a traced function, or one whose strength is replaced there."""

    def at(given):
        return given(white(MEAN), see, readings(Y))(X, SIGMA)

    swept = jax.jit(jax.vmap(lambda s: at(GUIDES[name](s))))
    replaced = jax.jit(jax.vmap(lambda s: at(dataclasses.replace(GUIDES[name](), strength=s))))
    values = jnp.asarray([0.1, 1.0], "float64")
    for got, again, strength in zip(swept(values), replaced(values), values):
        np.testing.assert_allclose(got, at(GUIDES[name](float(strength))), rtol=1e-9)
        np.testing.assert_allclose(again, got, rtol=1e-12)
    slope = jax.grad(lambda s: at(GUIDES[name](s)).sum())(values[1])
    assert np.isfinite(slope) and slope != 0


def test_sets_of_sensors_with_their_own_operators_are_one():
    one, other = (see, readings(Y)), (lambda x: jnp.tanh(x[:2]), readings([0.1, 0.2], variance=0.5))
    observe, seen = join([one, other])
    departures, noise, pull, push = linearize(observe, seen, X)
    np.testing.assert_allclose(noise, [NOISE] * 3 + [0.5] * 2)
    np.testing.assert_allclose(departures, np.concatenate([Y - MATRIX @ X, [0.1, 0.2] - np.tanh(X[:2])]))
    jacobian = np.asarray(jax.jacobian(observe)(X))
    np.testing.assert_allclose(push(X), jacobian @ X, rtol=1e-9)
    np.testing.assert_allclose(pull(departures), jacobian.T @ departures, rtol=1e-9)
    guided, alone = (MMPS(iterations=8)(white(MEAN), *given)(X, SIGMA) for given in ((observe, seen), one))
    assert np.isfinite(guided).all() and np.abs(guided - alone).max() > 1e-3


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_guides(name):
    positions = jnp.asarray([[0.4, 0.9], [2.0, 1.7], [4.4, 2.2]], "float64")
    field, target = normal(*GRID.shape, seed=4), normal(*GRID.shape, seed=5)

    def see(x):
        return OPERATORS[name](GRID, x, positions)

    near = field + 0.05 * (target - field)
    seen = readings(see(near), variance=1e-8)
    moved = Lifted(1.0, iterations=10)(lambda x, sigma: x, see, seen)(field, jnp.asarray(1.0, "float64"))
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
    one, other = (given(white(MEAN), see, readings(Y)) for given in (OI(SPREAD**2), Lifted(SPREAD)))
    np.testing.assert_allclose(one(X, SIGMA), other(X, SIGMA), rtol=1e-12)


# Guides as values -----------------------------------------------------------------------------


def test_what_is_known_of_the_samples_is_the_strength_unless_told():
    """Their standard deviation for lifted and pigdm, their variance for oi; with a covariance oi multiplies it."""

    def at(given, known):
        return given(white(MEAN), see, readings(Y), known)(X, SIGMA)

    for kind, strength in ((Lifted, 0.8), (PiGDM, 0.8), (OI, 0.64)):
        np.testing.assert_allclose(at(kind(), Samples(std=0.8)), at(kind(strength), Samples()), rtol=1e-12)
    _, vectors, variances = coloured(MEAN)
    known, louder = (Samples(std=9.0, covariance=modes(vectors, s * variances)) for s in (1.0, 2.5))
    np.testing.assert_allclose(at(OI(), known), at(OI(1.0), known), rtol=1e-12)
    np.testing.assert_allclose(at(OI(2.5), known), at(OI(), louder), rtol=1e-10)
    assert np.abs(at(OI(2.5), known) - at(OI(), known)).max() > 1e-3


def test_blend_blurs_by_the_widths_at_the_first_and_the_last_level():
    """The change at the sensors is handed to what the samples can blur with, at a width of each level."""
    sigmas, grid = np.array([8.0, 2.0, 0.5, 0.0]), (12, 9)
    known = Samples(sigmas=sigmas, smooth=lambda width: smoothing(width, *grid))
    there = readings([1.5], variance=1e-12)
    guided = Blend(1.0, blur=(4.0, 1.0))(lambda x, sigma: 0 * x, lambda x: x[3, 4][None], there, known)
    for sigma, width in zip(sigmas[:-1], (4.0, 2.0, 1.0)):
        moved = guided(jnp.ones(grid), jnp.asarray(sigma))
        np.testing.assert_allclose(moved[3, [4, 5]], 1.5 * np.array([1, np.exp(-0.5 / width**2)]), rtol=1e-8)
    apart = Blend(1.0, blur=(4.0, 1.0))(lambda x, sigma: 0 * x, lambda x: x[3, 4][None], there)
    moved = apart(jnp.ones(grid), jnp.asarray(2.0))
    assert np.count_nonzero(moved) == 1  # samples without neighbours


def test_projected_leaves_the_denoiser_as_it_is():
    denoise = white(MEAN)
    assert Projected()(denoise, see, readings(Y)) is denoise


def test_guides_are_values():
    """Equal if their options are, known by class and options, and with no more options than they read."""
    for name, kind in GUIDES.items():
        assert kind() == guide(name) and hash(kind()) == hash(guide(name))
        assert described(kind())["kind"] == kind.__name__
        assert guide(name, **{f.name: f.default for f in dataclasses.fields(kind)}) == kind()
        assert list(inspect.signature(kind.__call__).parameters) == [
            "self",
            "denoise",
            "observe",
            "readings",
            "samples",
        ]
    assert Lifted(0.3) != Lifted(0.4) and Lifted(0.3) != PiGDM(0.3)
    assert len({key_of(each) for each in (Lifted(), Lifted(0.3), PiGDM(0.3), OI(0.3), OI(0.3, 2))}) == 5
    assert guide("none") is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        Lifted().strength = 2.0
    assert MMPS().iterations == 1 and {kind().iterations for kind in (Lifted, DiffPIR, OI, PiGDM)} == {3}


@pytest.mark.parametrize("name", STEPWISE)
@pytest.mark.parametrize("strength", [0.0, -1, float("nan"), float("inf")])
def test_strengths_are_positive(name, strength):
    with pytest.raises(ValueError, match="strength: expected a finite number above 0, got"):
        GUIDES[name](strength=strength)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: guide("lifeted"), "guidance: expected one of none, blend, .*did you mean 'lifted'"),
        (
            lambda: guide("lifted", blur=(1.0, 1.0)),
            "blur: not an option of guidance lifted, whose options are strength, iterations; leave it out",
        ),
        (lambda: guide("sda", iterations=2), "iterations: not an option of guidance sda, whose options are strength;"),
        (
            lambda: guide("oi", strength=1.0, hard_steps=1),
            "hard_steps: not an option of guidance oi, whose options are strength, iterations; leave it out",
        ),
        (lambda: guide("none", strength=1.0), "strength: not an option of guidance none, which has no options"),
        (lambda: guide("projected", strength=1.0), "strength: not an option of guidance projected, which has no"),
        (lambda: guide("mmps", iterations=0), "iterations: expected at least 1, got 0"),
        (lambda: guide("blend", strength=0.0), "strength: expected a finite number above 0, got 0.0"),
        (lambda: Blend(blur=(1.0,)), r"blur: expected two widths, at the first and the last level, got \(1.0,\)"),
        (lambda: Blend(blur=(1.0, 0.0)), "blur: expected a finite number above 0, got 0.0"),
        (lambda: Blend(hard_steps=-1), "hard_steps: expected 0 or more, got -1"),
        (
            lambda: Blend(hard_steps=1)(white(MEAN), see, readings(Y)),
            "hard_steps: expected at most as many as there are steps, unknown, got 1",
        ),
        (
            lambda: Blend(hard_steps=3)(white(MEAN), see, readings(Y), Samples(sigmas=np.array([2.0, 1.0, 0.0]))),
            "hard_steps: expected at most as many as there are steps, 2, got 3",
        ),
        (
            lambda: DiffSRDAConfig(steps=2, guidance=Blend(hard_steps=3)),
            "hard_steps: expected 0 to as many as there are steps, 2, got 3",
        ),
    ],
)
def test_options_are_checked(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_options_that_no_guide_has_are_refused_by_the_class_too():
    for kind in (DPS, SDA):
        with pytest.raises(TypeError, match="iterations"):
            kind(iterations=2)
