"""4D-SRDA: shapes, types, that frames talk to one another, and what is refused."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import quick_jit

from jaxsrda.diffsrda.condition import Conditioning
from jaxsrda.networks.srda4d import PRESETS, SRDA, SRDAConfig, layer_norm

NX, NY = 16, 9
FRAMES, CHANNELS = Conditioning().frames, Conditioning().channels
SMALL = SRDAConfig(2, 4, NX, NY, widths=(16, 32), token=32, blocks=1)


def normal(*shape, dtype="float64", seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


@functools.cache
def parts(config=SMALL):
    """Graph and parameters, all of them loud."""
    graph, params = nnx.split(nnx.eval_shape(lambda: SRDA(config, rngs=nnx.Rngs(0))))
    rng = np.random.default_rng(0)

    def draw(leaf):
        noise = rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
        return jnp.asarray(noise if leaf.ndim > 1 else 1 + 0.1 * noise, leaf.dtype)

    return graph, jax.tree.map(draw, params)


@functools.cache
def compiled(config=SMALL):
    graph, params = parts(config)
    return quick_jit(lambda condition: nnx.merge(graph, params).encode(condition))


def test_the_mean_has_the_shape_and_type_of_the_target(dtype):
    features = compiled()(normal(3, NX, NY, 4, dtype=dtype))
    assert features.mean.shape == (3, NX, NY, 2) and features.mean.dtype == dtype
    assert np.isfinite(features.mean).all() and np.abs(features.mean).max() > 1e-2
    assert (features.scale == 1).all() and features.levels == ()


def test_a_window_is_the_same_in_any_batch():
    conditions = normal(3, NX, NY, 4)
    together = compiled()(conditions).mean
    for i in range(3):
        np.testing.assert_allclose(compiled()(conditions[i : i + 1]).mean[0], together[i], atol=1e-5)


def test_every_frame_hears_every_other_through_its_token():
    conditions = normal(1, NX, NY, 4)
    base = compiled()(conditions).mean
    changed = compiled()(conditions.at[..., 1].add(1.0)).mean  # the guess of frame 1 alone
    assert np.abs(changed - base)[..., 0].max() > 1e-4 and np.abs(changed - base)[..., 1].max() > 1e-2
    # Without what the tokens carry frames are strangers.
    graph, params = parts()
    deaf = jax.tree.map(jnp.zeros_like, params["from_token"])
    alone = quick_jit(lambda c: nnx.merge(graph, type(params)({**params, "from_token": deaf})).encode(c).mean)
    difference = alone(conditions.at[..., 1].add(1.0)) - alone(conditions)
    assert not np.any(difference[..., 0]) and np.abs(difference[..., 1]).max() > 1e-2


def test_shared_channels_reach_every_frame():
    conditions = normal(1, NX, NY, 4)
    difference = compiled()(conditions.at[..., 3].add(1.0)).mean - compiled()(conditions).mean
    assert (np.abs(difference).max((0, 1, 2)) > 1e-2).all()


def test_layer_norm_is_its_formula(dtype):
    x, scale, bias = (
        normal(2, 3, 8, dtype=dtype),
        normal(8, dtype="float32", seed=1),
        normal(8, dtype="float32", seed=2),
    )
    wide = np.asarray(x, np.float64)
    expected = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5)
    expected = expected * np.asarray(scale) + np.asarray(bias)
    with jax.numpy_dtype_promotion("standard"):
        got = layer_norm(x, scale, bias)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_quiet_channels_say_nothing_before_training():
    def encode(quiet):
        def build():
            return SRDA(dataclasses.replace(SMALL, quiet=quiet), rngs=nnx.Rngs(0))

        graph = nnx.graphdef(nnx.eval_shape(build))
        params = quick_jit(lambda: nnx.split(build())[1])()
        return quick_jit(lambda condition: nnx.merge(graph, params).encode(condition).mean)

    condition = normal(1, NX, NY, 4)
    for quiet, heard in [((), True), ((3,), False), ((2,), True)]:
        mean = encode(quiet)
        assert bool(np.any(mean(condition) != mean(condition.at[..., 3].add(1.0)))) == heard


def test_it_computes_in_bfloat16_and_answers_in_float32():
    features = compiled(dataclasses.replace(SMALL, bfloat16=True))(normal(1, NX, NY, 4, dtype="float32"))
    exact = compiled()(normal(1, NX, NY, 4, dtype="float32"))
    assert features.mean.dtype == "float32"
    off = np.abs(features.mean - exact.mean).max() / np.abs(exact.mean).max()
    assert 0 < off < 0.1


def test_presets_have_their_sizes():
    def count(name):
        config = SRDAConfig(FRAMES, CHANNELS, 128, 65, **PRESETS[name])
        return sum(a.size for a in jax.tree.leaves(nnx.eval_shape(lambda: nnx.state(SRDA(config, rngs=nnx.Rngs(0))))))

    assert SRDAConfig(FRAMES, CHANNELS, 128, 65).widths == (64, 128, 256, 128)
    assert SRDAConfig(FRAMES, CHANNELS, 128, 65).nodes == (8, 5)
    assert 2.0e6 < count("4dsrda-small") < 2.3e6 < 15e6 < count("4dsrda")


def test_it_has_no_denoiser():
    network = nnx.merge(*parts())
    features = compiled()(normal(1, NX, NY, 4))
    with pytest.raises(ValueError, match="4dsrda: this network estimates a mean alone; use target regression"):
        network(normal(1, NX, NY, 2), jnp.ones(1), features)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"nx": 18}, r"grid: expected nx and ny − 1 to be multiples of 4 \(2 halvings\), got 18 × 9"),
        ({"ny": 8}, "grid: expected nx and ny − 1 .* got 16 × 8"),
        ({"token": 33}, r"token: expected a multiple of 32 \(heads\), got 33"),
    ],
)
def test_bad_sizes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)
