"""What a training minimizes, against its definition, and its settings."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import quick_jit

from jaxsrda.core.trees import flatten
from jaxsrda.diffsrda.condition import Conditioning
from jaxsrda.diffsrda.model import ModelConfig, network
from jaxsrda.diffusion.denoiser import edm_loss_sigma, training_loss, vp_loss_sigma
from jaxsrda.training.loss import TrainConfig, window_loss
from jaxsrda.training.windows import Windows

UNITS = Conditioning()
CHANNELS, FRAMES = UNITS.channels, UNITS.frames
NX, NY = 16, 9
MODEL = ModelConfig("tiny", nx=NX, ny=NY)
TRAIN = TrainConfig(batch=2, learning_rate=1e-2)
KEY = jax.random.key(0)


pytestmark = pytest.mark.usefixtures("smallest")


def smooth_windows(count, seed=0):
    """Windows of one wave each, whose correction is half of the guess's five frames."""
    rng = np.random.default_rng(seed)
    x, y = 2 * np.pi * np.arange(NX) / NX, np.pi * np.arange(NY) / (NY - 1)
    phases = 2 * np.pi * rng.random((count, 1, 1, CHANNELS))
    condition = np.cos(x[:, None, None] + phases) * np.sin(y[:, None])
    condition[..., -1] = np.cos(y)
    return Windows(*(a.astype(np.float16) for a in (condition, 0.5 * condition[..., :FRAMES])))


@functools.cache
def loud_params():
    """Random weights of order one, so that every part of the network has its say in the loss."""
    leaves, tree = jax.tree.flatten(jax.eval_shape(lambda: network(ModelConfig("tiny")).initial(0)))
    rng = np.random.default_rng(2)
    loud = [rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])) for leaf in leaves]
    return jax.tree.unflatten(tree, [jnp.asarray(a, jnp.float32) for a in loud])


def batch(count=2):
    return jax.tree.map(jnp.asarray, smooth_windows(count))


def values(params):
    return {name: np.array(leaf) for name, leaf in flatten(params).items()}


# The loss -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target, parametrization, loss, sigmas",
    [
        ("residual", "edm", "l2", "lognormal"),
        ("direct", "velocity", "l2", "lognormal"),
        ("direct", "noise", "l1", "vp"),
    ],
)
def test_the_loss_is_that_of_single_samples(target, parametrization, loss, sigmas):
    """The batch, repeated for two noise levels, against `training_loss` of each sample and level by itself."""
    model = dataclasses.replace(MODEL, target=target, parametrization=parametrization)
    config, norm = (
        dataclasses.replace(TRAIN, regression=0.25, loss=loss, sigmas=sigmas),
        jnp.linspace(0.5, 1.5, FRAMES, dtype=jnp.float32),
    )
    params, data = loud_params(), batch()
    total, metrics = quick_jit(functools.partial(window_loss, model, config, norm))(params, KEY, data)

    @quick_jit
    def single(params):
        net = network(ModelConfig("tiny"))
        noise_key, level_key, _ = jax.random.split(KEY, 3)
        noises = jax.random.normal(noise_key, (4, NX, NY, FRAMES), jnp.float32)
        levels = {"lognormal": edm_loss_sigma, "vp": vp_loss_sigma}[config.sigmas]
        options = (config.p_mean, config.p_std) if config.sigmas == "lognormal" else ()
        drawn = levels(level_key, (4, 1, 1, 1), *options, dtype=jnp.float32)
        truth = data.correction.astype(jnp.float32) / norm
        regression, local, diffusion = [], [], []
        for i in range(2):
            features = net.encode(params, data.condition[i : i + 1].astype(jnp.float32))
            off, scale = truth[i] - features.mean[0], features.scale[0]
            regression.append(jnp.abs(off).mean())
            local.append((jnp.abs(off) / scale + jnp.log(scale)).mean())
            clean = off / scale if target == "residual" else truth[i]

            def raw(x, level, features=features):
                return net.denoise(params, x[None], level[None], features)[0]

            for n in (2 * i, 2 * i + 1):
                one = training_loss(
                    parametrization, raw, clean, noises[n], drawn[n, 0, 0, 0], loss, sigma_data=model.sigma_data
                )
                diffusion.append(one)
        return [jnp.stack(parts).mean() for parts in (regression, local, diffusion)]

    regression, local, diffusion = single(params)
    assert total.dtype == jnp.float32
    assert metrics["regression"] == pytest.approx(float(regression), rel=1e-5)
    assert metrics["diffusion"] == pytest.approx(float(diffusion), rel=1e-5)
    assert metrics["scale"] == pytest.approx(float(local), rel=1e-5)
    assert total == metrics["loss"] == pytest.approx(float(diffusion + 0.25 * (regression + local)), rel=1e-5)


def test_a_regression_has_no_diffusion_in_it():
    scale = jnp.ones(FRAMES, jnp.float32)
    losses = {
        target: quick_jit(functools.partial(window_loss, dataclasses.replace(MODEL, target=target), TRAIN, scale))(
            loud_params(), KEY, batch()
        )[1]
        for target in ("regression", "residual")
    }
    assert set(losses["regression"]) == {"loss", "regression", "scale"}
    for part in ("regression", "scale"):
        assert losses["regression"][part] == pytest.approx(float(losses["residual"][part]), rel=1e-6)
    whole = losses["regression"]["regression"] + losses["regression"]["scale"]
    assert losses["regression"]["loss"] == pytest.approx(float(whole), rel=1e-6)


def test_the_gradient_is_finite_and_the_mean_is_the_regressions_alone():
    """Diffusion teaches the features but not the mean, which it is told to take as given."""
    scale = jnp.ones(FRAMES, jnp.float32)

    @quick_jit
    def gradient(params, weight):
        config = dataclasses.replace(TRAIN, regression=weight)
        return jax.grad(lambda p: window_loss(MODEL, config, scale, p, KEY, batch())[0])(params)

    with_it, without = (values(gradient(loud_params(), weight)) for weight in (jnp.float32(1), jnp.float32(0)))
    assert all(np.isfinite(leaf).all() for leaf in with_it.values())
    silent = {name.split(".")[0] for name, leaf in without.items() if not leaf.any()}
    assert silent == {"mean_head", "mean_norm"} and all(leaf.any() for leaf in with_it.values())


# Settings -------------------------------------------------------------------------------------


def test_a_budget_is_of_samples_or_minutes():
    assert TrainConfig(minutes=2.0).spent(30, 10**9) == 0.25
    assert TrainConfig(samples=400).spent(10**9, 100) == 0.25
    assert TrainConfig(samples=400).spent(0, 500) == 1


def test_a_short_training_warms_up_in_a_tenth_of_it():
    assert TrainConfig(samples=1000, batch=10, warmup=200).warmup_steps == 10
    assert TrainConfig(samples=10**6, batch=10, warmup=200).warmup_steps == 200
    assert TrainConfig(minutes=1, samples=1000, batch=10, warmup=200).warmup_steps == 200


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch": 0}, "batch: expected at least 1, got 0"),
        ({"samples": 0}, "samples: expected at least 1, got 0"),
        ({"noises": 0}, "noises: expected at least 1, got 0"),
        ({"learning_rate": -1.0}, "learning_rate: expected a finite number above 0, got -1.0"),
        ({"minutes": -1.0}, "minutes: expected a finite number above 0, got -1.0"),
        ({"warmup": 0.02}, "warmup: expected a number of steps, 0 or more, got 0.02"),
        ({"cooling": 2.0}, "cooling: expected a fraction from 0 to below 1, got 2.0"),
        ({"averages": (0.5,)}, "average length: expected a number in"),
    ],
)
def test_bad_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**change)


def test_old_names_are_refused():
    with pytest.raises(TypeError, match="TrainConfig: levels is now sigmas; use that name"):
        TrainConfig(levels="vp")
    with pytest.raises(TypeError, match="TrainConfig: half_lives is now averages, relative lengths; use that name"):
        TrainConfig(half_lives=(50,))
