"""The model as a pure object: what it draws, and that its denoiser undoes what training asks of the network."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import quick_jit

from jaxsrda.diffsrda import model as models
from jaxsrda.diffsrda.condition import CHANNELS, FRAMES, SIGNS
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.model import DENOISER, Model, ModelConfig, conditional_denoiser, denoiser_part, with_denoiser
from jaxsrda.diffsrda.sampling import make_draw
from jaxsrda.diffusion.denoiser import PARAMETRIZATIONS, preconditioning, training_target
from jaxsrda.networks.unet import Features

NX, NY = 16, 9
SHAPE = (NX, NY, FRAMES)
SCALE = np.array([0.5, 1.0, 1.5, 2.0, 2.5], np.float32)
LOCAL = 0.75
"""The scale of a fake conditioner."""
KEY = jax.random.key(0)


pytestmark = pytest.mark.usefixtures("smallest")


def normal(*shape, dtype="float32", seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


@functools.cache
def parameters():
    """Random weights, biases and heads as loud as all else."""
    leaves, tree = jax.tree.flatten(jax.eval_shape(lambda: models.network(ModelConfig("tiny")).initial(0)))
    rng = np.random.default_rng(1)
    loud = [rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])) for leaf in leaves]
    return jax.tree.unflatten(tree, [jnp.asarray(a, jnp.float32) for a in loud])


def small_model(target="residual", **changes):
    return Model(ModelConfig("tiny", nx=NX, ny=NY, target=target, **changes), parameters(), SCALE)


@functools.cache
def compiled(config):
    return quick_jit(make_draw(small_model(), config))


def configuration(**changes):
    return DiffSRDAConfig(**{"members": 3, "steps": 2, "restart": "mean", "centred": False} | changes)


def drawn(conditions, key=KEY, **changes):
    return compiled(configuration(**changes))(key, conditions)


def close(got, expected, tolerance=1e-5):
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * float(np.abs(expected).max()))


# What is drawn --------------------------------------------------------------------------------


def test_a_draw_has_its_shape_type_and_still_walls(dtype):
    corrections = drawn(normal(1, NX, NY, CHANNELS, dtype=dtype))
    assert corrections.shape == (3, FRAMES, NX, NY) and corrections.dtype == dtype
    assert np.isfinite(corrections).all()
    assert not np.any(corrections[..., [0, -1]]) and np.all(corrections[..., 1:-1] != 0)


def test_a_key_is_a_draw():
    conditions = normal(1, NX, NY, CHANNELS)
    one, same, other = drawn(conditions), drawn(conditions), drawn(conditions, key=jax.random.key(1))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.1
    assert np.abs(one[0] - one[1]).max() > 0.1


@pytest.mark.parametrize("members, chunk", [(3, 2), (5, 1)])
def test_a_member_is_the_same_whatever_the_chunk(members, chunk):
    conditions = normal(1, NX, NY, CHANNELS)
    close(drawn(conditions, members=members, chunk=chunk)[:3], drawn(conditions))


def test_one_condition_for_all_is_the_same_for_each():
    conditions = normal(1, NX, NY, CHANNELS)
    close(drawn(jnp.repeat(conditions, 3, axis=0)), drawn(conditions))


def test_each_member_hears_its_own_condition():
    conditions = normal(3, NX, NY, CHANNELS)
    together = drawn(conditions)
    for i in range(3):
        close(together[i], drawn(conditions[i : i + 1])[i])
    assert np.abs(drawn(conditions[:1])[1] - together[1]).max() > 0.1


def test_the_sampler_mean_draws_nothing():
    """One field whatever the key, in every member."""
    conditions = normal(1, NX, NY, CHANNELS)
    one, other = (drawn(conditions, sampler="mean", key=jax.random.key(seed)) for seed in (0, 1))
    close(other, one)
    close(one, np.asarray(one)[[0, 0, 0]])


def test_eta_is_traced():
    conditions = normal(1, NX, NY, CHANNELS)

    @quick_jit
    def draw(eta):
        return make_draw(small_model(), configuration(members=2, sampler="ddim"), eta)(KEY, conditions)

    still, lively = draw(0.0), draw(1.0)
    assert draw._cache_size() == 1
    assert np.abs(still - lively).max() > 0.1
    close(still, drawn(conditions, members=2, sampler="ddim", eta=0.0))
    close(lively, drawn(conditions, members=2, sampler="ddim"))


@pytest.mark.parametrize("noise", ["log", "vp"])
def test_noise_grids_draw(noise):
    conditions = normal(1, NX, NY, CHANNELS)
    other, usual = drawn(conditions, noise=noise, steps=3), drawn(conditions, steps=3)
    assert np.isfinite(other).all() and np.abs(other - usual).max() > 1e-3


def test_the_mean_keeps_the_reflection():
    """The condition of −ω(x, π − y) gives the mirrored mean with the other sign, whatever the weights."""
    conditions = normal(1, NX, NY, CHANNELS)
    mean = drawn(conditions, sampler="mean")
    mirrored = drawn(jnp.asarray(SIGNS, jnp.float32) * conditions[:, :, ::-1], sampler="mean")
    assert np.abs(mean + mean[..., ::-1]).max() > 0.1
    close(mirrored, -mean[..., ::-1])


def test_the_regression_is_the_mean_of_the_conditioner_scaled_and_symmetric(dtype):
    model, conditions = small_model(), normal(2, NX, NY, CHANNELS, dtype=dtype)
    draw = quick_jit(make_draw(model, DiffSRDAConfig(prior="lr", restart="mean", sampler="mean", members=2)))
    got = draw(KEY, conditions)
    signs = np.array(SIGNS, dtype)
    means = [
        quick_jit(model.network.encode)(model.params, given).mean
        for given in (conditions, signs * conditions[:, :, ::-1])
    ]
    mean = (np.array(means[0]) - np.array(means[1])[:, :, ::-1]) / 2
    mean[:, :, [0, -1]] = 0
    assert got.shape == (2, FRAMES, NX, NY) and got.dtype == dtype
    close(got, np.moveaxis(mean * SCALE, -1, 1), 1e-6)
    np.testing.assert_array_equal(got, draw(jax.random.key(1), conditions))


# The denoiser against what training asks ---------------------------------------------------------


def fake(monkeypatch, denoise, mean):
    """A network whose denoiser is a function of (noisy, level) and whose conditioner always says `mean`."""

    def encode(params, condition):
        wide = jnp.broadcast_to(mean, (len(condition), *SHAPE)).astype(condition.dtype)
        return Features(wide, jnp.full_like(wide, LOCAL), (condition[..., :1],))

    built = models.Network(encode, lambda params, noisy, level, features: denoise(noisy, level), None)
    monkeypatch.setattr(models, "network", lambda name: built)


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
@pytest.mark.parametrize("sigma", [0.05, 3.0])
def test_a_network_on_target_denoises_exactly(monkeypatch, parametrization, sigma):
    x0, noise, sigma = normal(*SHAPE, dtype="float64"), normal(*SHAPE, dtype="float64", seed=1), jnp.float64(sigma)
    model = Model(ModelConfig("tiny", nx=NX, ny=NY, parametrization=parametrization, sigma_data=0.7), None, SCALE)
    asked = []

    def on_target(noisy, level):
        asked.append((noisy, level))
        return training_target(parametrization, x0, noise, sigma, 0.7)[None]

    fake(monkeypatch, on_target, jnp.zeros(SHAPE))
    features = model.network.encode(None, normal(1, NX, NY, CHANNELS, dtype="float64"))
    close(conditional_denoiser(model, features)(x0 + sigma * noise, sigma), x0, 1e-12)
    c = preconditioning(parametrization, sigma, 0.7)
    ((noisy, level),) = asked
    close(noisy, (c.scale * (x0 + sigma * noise))[None], 1e-12)
    np.testing.assert_allclose(level, [c.level], rtol=1e-12)


@pytest.mark.parametrize(
    "sampler, target", [("dpmpp-2m", "residual"), ("dpmpp-2m-sde", "direct"), ("heun", "direct"), ("mean", "residual")]
)
def test_a_certain_network_draws_what_it_is_certain_of(monkeypatch, sampler, target):
    """If D is x₀ whatever the noise, a sample is x₀ in the conditioner's scale around its mean; for `direct` x₀."""
    x0, mean = normal(*SHAPE), normal(*SHAPE, seed=1)
    mean = mean - mean[:, ::-1]  # what the average over the reflection leaves as it is
    fake(monkeypatch, lambda noisy, level: x0[None], mean)
    model = Model(ModelConfig("tiny", nx=NX, ny=NY, parametrization="data", target=target), None, SCALE)
    got = quick_jit(make_draw(model, configuration(sampler=sampler)))(KEY, normal(1, NX, NY, CHANNELS))
    # The mean of a residual model is the conditioner's, and nothing is drawn.
    drawn_too = 0 if sampler == "mean" else LOCAL * x0
    expected = np.array(drawn_too + mean if target == "residual" else x0) * SCALE
    expected[:, [0, -1]] = 0
    close(got, np.broadcast_to(np.moveaxis(expected, -1, 0), got.shape))


def test_centred_samples_have_the_conditioners_mean():
    conditions = normal(1, NX, NY, CHANNELS)
    mean = drawn(conditions, sampler="mean")[0]
    free, centred = drawn(conditions), drawn(conditions, centred=True)
    close(centred.mean(0), mean, 1e-4)
    assert np.abs(free.mean(0) - mean).max() > 1e-3
    close(centred - centred.mean(0), free - free.mean(0), 1e-4)


# What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        ({"network": "smal"}, "network: expected one of .*did you mean 'small'"),
        ({"target": "residul"}, "target: expected one of residual, direct, regression; got 'residul'"),
        ({"sigma_data": 0.0}, "sigma_data: expected a finite number above 0, got 0.0"),
        ({"network": "4dsrda"}, "target: 4dsrda estimates a mean alone; use target regression, got residual"),
        ({"distilled": 3}, "distilled: expected 0 to 2 steps of a network of tiny, small, base, got 3 of small"),
        (
            {"distilled": 1, "network": "paper", "target": "direct"},
            "distilled: expected .* got 1 of paper",
        ),
        ({"distilled": 1, "target": "regression"}, "distilled: a regression draws nothing"),
        ({"network": "paper"}, "the paper's network estimates no mean; use target direct"),
        ({"priors": ("lr", "duel")}, "prior: expected one of dual, enkf-sr, lr; got 'duel'"),
        ({"parametrization": "edn"}, "parametrization: expected one of .*did you mean 'edm'"),
    ],
)
def test_bad_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**change)


def test_a_regression_draws_nothing_but_its_mean():
    model = small_model()
    alone = dataclasses.replace(model, config=dataclasses.replace(model.config, target="regression"))
    conditions, config = normal(1, NX, NY, CHANNELS), configuration(sampler="mean")
    np.testing.assert_array_equal(make_draw(alone, config)(KEY, conditions), make_draw(model, config)(KEY, conditions))
    with pytest.raises(ValueError, match="these weights are a regression, expected sampler mean with them, got dpmpp"):
        make_draw(alone, configuration())


def test_the_paper_network_takes_the_direct_target():
    assert ModelConfig("paper", target="direct").target == "direct"


def test_a_student_draws_in_its_own_steps_only():
    model = small_model(distilled=1)
    conditions = normal(1, NX, NY, CHANNELS)
    got = quick_jit(make_draw(model, configuration(steps=1)))(KEY, conditions)
    # One step from the highest level to zero is the same for teacher and student.
    close(got, drawn(conditions, steps=1))
    with pytest.raises(ValueError, match="these weights were distilled to 1, expected as many, got 4; say steps 1"):
        make_draw(model, configuration(steps=4))
    with pytest.raises(ValueError, match="sampler: a student's steps are those of dpmpp-2m, got heun; leave it out"):
        make_draw(model, configuration(steps=1, sampler="heun"))
    make_draw(model, configuration(steps=4, sampler="mean"))


def test_a_part_goes_in_where_it_came_from():
    params = parameters()
    part = jax.tree.map(lambda a: 2 * a, denoiser_part(params))
    whole = with_denoiser(params, part)
    assert jax.tree.structure(whole) == jax.tree.structure(params)
    for name in params:
        factor = 2 if name in DENOISER else 1
        for new, old in zip(jax.tree.leaves(whole[name]), jax.tree.leaves(params[name]), strict=True):
            np.testing.assert_array_equal(new, factor * old)


@pytest.mark.parametrize("shape", [(1, NX, NY, CHANNELS - 1), (1, NX + 4, NY, CHANNELS), (NX, NY, CHANNELS)])
def test_wrong_conditions_are_refused(shape):
    draw = make_draw(small_model(), configuration())
    with pytest.raises(ValueError, match=rf"conditions: expected .*any, {NX}, {NY}, {CHANNELS}\)"):
        draw(KEY, jnp.zeros(shape))


def test_conditions_for_other_members_are_refused():
    with pytest.raises(ValueError, match="conditions: expected a leading axis of 3 members"):
        make_draw(small_model(), configuration())(KEY, normal(2, NX, NY, CHANNELS))
