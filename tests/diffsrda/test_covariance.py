"""The covariance of what a model draws: between wavenumbers, estimated from fields, and what guides make of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID, observed, quick_jit

from jaxsrda.diffsrda import model as models
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.covariance import ResidualCovariance, channel_covariance, estimate_residual_covariance
from jaxsrda.diffsrda.model import Model, ModelConfig
from jaxsrda.diffsrda.sampling import known_of_samples, make_draw
from jaxsrda.diffusion.guidance import OI
from jaxsrda.flow.grid import ChannelGrid, bases, mode_weights, shells, to_physical

SMALL = ChannelGrid(16, 9)
CORRELATION = np.array([[1.0, 0.4, 0.1], [0.4, 1.0, 0.4], [0.1, 0.4, 1.0]])


def fields(grid, variances, between, count, seed=0):
    """Windows (count, nx, ny, frames) whose orthonormal coefficients have these variances and correlations."""
    rng = np.random.default_rng(seed)
    white = rng.normal(size=(count, *grid.spectral_shape, len(between))) @ np.linalg.cholesky(between).T
    norm = np.asarray(mode_weights(grid, "float64")) * grid.nx * (grid.ny - 1)
    hat = jnp.asarray(white * np.sqrt(variances / norm)[..., None])
    return jax.vmap(jax.vmap(lambda a: to_physical(grid, a), -1, -1))(hat)


def test_variances_between_wavenumbers_are_exact_for_an_exponential():
    spectrum = 58 * np.exp(-np.arange(40) / 8.5)
    variances = ResidualCovariance(spectrum, np.eye(5)).variances(GRID)
    assert variances.shape == GRID.spectral_shape
    np.testing.assert_allclose(variances, 58 * np.exp(-np.sqrt(bases(GRID).k2) / 8.5), rtol=1e-12)
    beyond = ResidualCovariance(spectrum[:4], np.eye(5)).variances(GRID)  # the last one goes on
    np.testing.assert_allclose(beyond[np.sqrt(bases(GRID).k2) > 3], spectrum[3], rtol=1e-12)


def test_the_estimate_recovers_spectrum_and_correlations():
    """Of fields with one variance a shell, to their sampling error; every frame counts for the spectrum."""
    count = 400
    spectrum = 5 * np.exp(-np.arange(shells(SMALL).max() + 1) / 3.0)
    found = estimate_residual_covariance(SMALL, fields(SMALL, spectrum[shells(SMALL)], CORRELATION, count))
    modes = np.bincount(shells(SMALL).ravel(), minlength=len(spectrum))
    there = modes > 0
    assert found.spectrum.shape == spectrum.shape and not there[0]
    off = np.log(found.spectrum / spectrum)[there]
    assert (np.abs(off) < 5 * np.sqrt(2 / (modes[there] * count))).all()
    assert np.isfinite(found.spectrum).all() and found.spectrum[0] == found.spectrum[1]  # nothing below one is known
    np.testing.assert_allclose(np.diag(found.between), 1, rtol=1e-12)
    np.testing.assert_allclose(found.between, CORRELATION, atol=0.05)


def test_the_estimate_in_float32_is_that_in_double():
    residuals = fields(SMALL, 0.5 ** shells(SMALL), CORRELATION, 4)
    double, single = (estimate_residual_covariance(SMALL, residuals.astype(dtype)) for dtype in ("float64", "float32"))
    np.testing.assert_allclose(single.spectrum, double.spectrum, rtol=1e-4)
    np.testing.assert_allclose(single.between, double.between, atol=1e-5)


def test_silent_shells_keep_a_variance_above_zero():
    only = np.where(shells(SMALL) == 2, 1.0, 0.0)
    found = estimate_residual_covariance(SMALL, fields(SMALL, only, CORRELATION, 5))
    assert (found.spectrum > 0).all() and found.spectrum[2] > 0.1 > 1e-9 > found.spectrum[4]
    assert np.isfinite(found.variances(SMALL)).all()


def test_guides_take_it_mode_by_mode():
    residual = ResidualCovariance(np.geomspace(3, 0.1, 9), CORRELATION)
    u, variance = fields(SMALL, np.ones(SMALL.spectral_shape), np.eye(3), 1)[0], jnp.asarray(0.5)
    expected = channel_covariance(SMALL, residual.variances(SMALL), CORRELATION)(u, variance)
    np.testing.assert_allclose(residual.shrunk(SMALL)(u, variance), expected, rtol=1e-12)
    white = ResidualCovariance(np.full(9, 2.0), np.eye(3)).shrunk(SMALL)(u, variance)
    np.testing.assert_allclose(white, 2 * 0.5 / (2 + 0.5) * u, atol=1e-12)


# What a model knows of its samples ------------------------------------------------------------


def model_with(residual, **changes):
    nx, ny = GRID.shape
    kind = ModelConfig("tiny", nx=nx, ny=ny, **changes)
    leaves, tree = jax.tree.flatten(jax.eval_shape(lambda: models.network(kind).initial(0)))
    rng = np.random.default_rng(1)
    loud = [rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])) for leaf in leaves]
    params = jax.tree.unflatten(tree, [jnp.asarray(a, jnp.float32) for a in loud])
    return Model(kind, params, np.ones(kind.frames, np.float32), residual=residual)


@pytest.mark.usefixtures("smallest")
def test_oi_takes_the_stored_covariance_and_white_where_there_is_none():
    """White samples have their own size; which samples have a covariance see below."""
    steep = ResidualCovariance(np.geomspace(60, 1e-3, 15), 0.3 + 0.7 * np.eye(5))
    conditions = jnp.asarray(np.random.default_rng(0).normal(size=(1, *GRID.shape, 20)) / 3, "float32")
    seen = jax.tree.map(lambda a: a[0].astype(jnp.float32) if a.dtype == float else a[0], observed())

    def drawn(residual, guide):
        config = DiffSRDAConfig(members=2, steps=2, guidance=guide, guide_on="all")
        return quick_jit(make_draw(model_with(residual), config))(jax.random.key(0), conditions, seen)

    white = drawn(None, OI())
    np.testing.assert_array_equal(white, drawn(None, OI(1.3**2)))
    assert np.abs(drawn(steep, OI()) - white).max() > 0.05


@pytest.mark.usefixtures("smallest")
def test_what_is_known_of_samples():
    steep, sigmas = ResidualCovariance(np.geomspace(60, 1e-3, 15), np.eye(5)), np.array([2.0, 1.0, 0.0])
    known = known_of_samples(model_with(steep, sigma_data=0.7), sigmas)
    assert known.std == 0.7 and known.covariance is not None and known.sigmas is sigmas
    assert known_of_samples(model_with(None), sigmas).covariance is None
    # Only on the grid and around a mean are samples what the covariance is of.
    assert known_of_samples(model_with(steep, target="direct"), sigmas).covariance is None
    latent = Model(ModelConfig("tiny", nx=32, ny=17, latent="kl"), None, np.ones(5), None, steep)
    assert known_of_samples(latent, sigmas).covariance is None
    # Widths are in grid points, also on the nodes of a latent.
    spike = jnp.zeros(latent.config.drawn).at[3, 2].set(1.0)
    spread = known_of_samples(latent, sigmas).smooth(lambda sigma: 4.0)(spike, jnp.asarray(1.0))
    np.testing.assert_allclose(spread[4, 2], np.exp(-0.5))
    spike = jnp.zeros((*GRID.shape, 5)).at[3, 2].set(1.0)
    np.testing.assert_allclose(known.smooth(lambda sigma: 4.0)(spike, jnp.asarray(1.0))[7, 2], np.exp(-0.5))


# Noise of this covariance ---------------------------------------------------------------------

KNOWN = ResidualCovariance(5 * np.exp(-np.arange(40) / 6.0), np.array(CORRELATION))


def test_a_field_is_the_root_of_the_covariance():
    """S^½ S^½ u = S u, the limit of S v (S + v)⁻¹ u for a large v."""
    u = jnp.asarray(np.random.default_rng(0).normal(size=(*SMALL.shape, 3)))
    wanted = channel_covariance(SMALL, KNOWN.variances(SMALL), CORRELATION)(u, jnp.asarray(1e9))
    np.testing.assert_allclose(KNOWN.field(SMALL, KNOWN.field(SMALL, u)), wanted, atol=1e-6)


def test_white_noise_has_the_point_variance_of_the_field():
    u = jnp.asarray(np.random.default_rng(1).normal(size=(4000, *SMALL.shape, 3)))
    drawn = jax.vmap(lambda white: KNOWN.field(SMALL, white))(u)
    np.testing.assert_allclose(drawn[:, :, 1:-1].var(), KNOWN.point_variance(SMALL), rtol=0.02)


@pytest.mark.parametrize("sampler", ["gaussian", "white"])
def test_noise_is_drawn_around_the_mean_in_units_of_its_scale(sampler):
    """Samples less their mean, over the scale map, are S^½ ξ, or ξ of the point variance; the analysis is the mean."""
    config = ModelConfig("tiny", nx=GRID.nx, ny=GRID.ny)
    params = models.network(config).initial(0)
    covariance = ResidualCovariance(5 * np.exp(-np.arange(40) / 6.0), 0.5 * np.eye(5) + 0.5)
    model = Model(config, params, np.full(5, 0.3, np.float32), residual=covariance)
    condition = jax.random.normal(jax.random.key(1), (1, *GRID.shape, config.channels), jnp.float32)
    members = 400
    draw = make_draw(model, DiffSRDAConfig(sampler=sampler, members=members))
    drawn = quick_jit(draw.corrections)(jax.random.key(2), condition)
    features = models.encode(model, condition)
    inside = jnp.moveaxis(features.mean[0] * 0.3, -1, 0)[..., 1:-1]
    np.testing.assert_allclose(drawn.mean[..., 1:-1], inside, atol=1e-5)
    unit = jnp.moveaxis(features.scale[0], -1, 0) * 0.3
    noise = np.asarray((drawn.samples - drawn.mean) / unit)[:, :, :, 1:-1]
    np.testing.assert_allclose(noise.var(), covariance.point_variance(GRID), rtol=0.05)
    # Frames hang together in a field alone, and so do neighbours.
    frames = np.corrcoef(noise[:, 0].ravel(), noise[:, 4].ravel())[0, 1]
    neighbours = np.corrcoef(noise[..., 1:, :].ravel(), noise[..., :-1, :].ravel())[0, 1]
    wanted = (0.5, 0.8) if sampler == "gaussian" else (0.0, 0.0)
    assert abs(frames - wanted[0]) < 0.03
    assert neighbours > 0.3 if sampler == "gaussian" else abs(neighbours) < 0.01


def test_noise_of_an_unknown_covariance_is_refused():
    model = Model(ModelConfig("tiny", nx=GRID.nx, ny=GRID.ny), None, np.ones(5, np.float32))
    with pytest.raises(ValueError, match="sampler: gaussian needs the covariance of residuals, which these weights"):
        make_draw(model, DiffSRDAConfig(sampler="gaussian"))


def test_noise_takes_no_guided_steps():
    with pytest.raises(ValueError, match="guidance: sampler white takes no steps that could be guided"):
        DiffSRDAConfig(sampler="white", guidance=OI())
    assert DiffSRDAConfig(sampler="white", guidance="projected").sampler == "white"
