"""One-pass generators: the fair CRPS of functionals, and the loss of samples around the conditioner's mean."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID, quick_jit

from jaxsrda.core import draws
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.model import Model, ModelConfig, conditional_denoiser, denoiser_part, network
from jaxsrda.diffsrda.sampling import sampling_levels
from jaxsrda.scoring.joint import BLOCKS
from jaxsrda.scoring.point import crps
from jaxsrda.training.loss import TrainConfig, objective
from jaxsrda.training.one_pass import fair_crps, functionals, one_pass_loss
from jaxsrda.training.windows import Windows

MODEL = ModelConfig("tiny", nx=GRID.nx, ny=GRID.ny, distilled=1)


def fields(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape, jnp.float32)


def test_the_fair_crps_is_that_of_the_scores():
    members, truth = fields(0, 5, *GRID.shape), fields(1, *GRID.shape)
    np.testing.assert_allclose(fair_crps(members, truth), crps(members, truth), rtol=1e-5)


@pytest.mark.parametrize("count", [2, 3])
def test_the_fair_crps_does_not_depend_on_the_number_of_members(count):
    """Of N(0, 1) for N(0, 1) it is 1/√π on average, for any number of members."""
    members, truth = fields(2, count, 400_000), fields(3, 400_000)
    np.testing.assert_allclose(fair_crps(members, truth), np.pi**-0.5, rtol=0.01)


def loud():
    """Parameters of a network that says something: at first means are zero and scales one."""
    leaves, tree = jax.tree.flatten(network(MODEL).initial(0))
    noise = [fields(20 + i, *leaf.shape) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(tree, [leaf + 0.1 * one for leaf, one in zip(leaves, noise)])


def test_functionals_are_linear_and_differences_are_those_of_neighbours():
    one, other = fields(5, 32, 17, 5), fields(6, 32, 17, 5)
    for name, value in functionals(one + 2 * other).items():
        np.testing.assert_allclose(value, functionals(one)[name] + 2 * functionals(other)[name], atol=1e-5)
    found = functionals(one)
    assert {f"block{size}" for size in BLOCKS} <= set(found)
    np.testing.assert_allclose(found["points"][2], one[..., 2])
    np.testing.assert_allclose(found["gradient_x"][:, -1], (one[0] - one[-1]).T)
    np.testing.assert_allclose(found["gradient_y"][3, :, 0], one[:, 1, 3] - one[:, 0, 3])
    np.testing.assert_allclose(found["change"][0], one[..., 1] - one[..., 0])


@pytest.mark.usefixtures("smallest")
def test_the_loss_is_that_of_the_samples_that_the_model_draws():
    """Its first member for a window is the draw of a student of one step from the same noise."""
    params = loud()
    norm = jnp.full(MODEL.frames, 0.4, jnp.float32)
    windows = Windows(fields(7, 2, *GRID.shape, MODEL.channels), fields(8, 2, *GRID.shape, MODEL.frames))
    key = jax.random.key(9)
    total, parts = one_pass_loss(MODEL, params, denoiser_part(MODEL, params), norm, key, windows, 2)
    np.testing.assert_allclose(total, np.mean([v for k, v in parts.items() if k != "loss"]), rtol=1e-5)
    features = network(MODEL).encode(params, windows.condition)
    assert jnp.abs(features.mean).max() > 0.1 and features.scale.max() > 1.1 * features.scale.min()
    noise = draws.normal(key, (4, *GRID.shape, MODEL.frames), jnp.float32)
    model, sigmas = Model(MODEL, params, np.asarray(norm)), sampling_levels(MODEL, DiffSRDAConfig(steps=1))
    samples = []
    for member in range(2):
        for window in range(2):
            own = jax.tree.map(lambda a, w=window: a[w : w + 1], features)
            # The sampler's only step lands on D(x, σ).
            sigma = jnp.float32(sigmas[0])
            x = conditional_denoiser(model, own)(sigma * noise[2 * member + window], sigma)
            samples.append(own.scale[0] * x)
    drawn = jnp.stack(samples).reshape(2, 2, *GRID.shape, MODEL.frames)
    left = windows.correction / norm - features.mean
    wanted = fair_crps(drawn, left) / jnp.abs(left).mean()
    np.testing.assert_allclose(parts["crps_points"], wanted, rtol=1e-4)


def test_gradients_reach_the_denoiser_alone():
    params = network(MODEL).initial(0)
    windows = Windows(fields(7, 2, *GRID.shape, MODEL.channels), fields(8, 2, *GRID.shape, MODEL.frames))
    norm, key = jnp.ones(MODEL.frames, jnp.float32), jax.random.key(1)

    def loss(frozen, part):
        return one_pass_loss(MODEL, frozen, part, norm, key, windows, 2)[0]

    part = denoiser_part(MODEL, params)
    own = quick_jit(jax.grad(loss, argnums=1))(params, part)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(own))
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(own)) > 0


def test_one_member_is_refused():
    with pytest.raises(ValueError, match="noises: the fair CRPS compares members, expected 2 or more, got 1"):
        one_pass_loss(MODEL, None, {}, jnp.ones(5), jax.random.key(0), None, 1)


@pytest.mark.parametrize("distilled", [0, 2])
def test_the_crps_of_other_models_is_refused(distilled):
    model = dataclasses.replace(MODEL, distilled=distilled)
    with pytest.raises(ValueError, match=f"loss: crps is that of a student of one step, .* got {distilled}"):
        objective(model, TrainConfig(loss="crps", part="denoiser"), np.ones(5, np.float32))
