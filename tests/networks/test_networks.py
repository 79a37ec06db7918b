"""Networks: layers against direct formulas, symmetry in x, the walls, types, and where the work is done."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import quick_jit

from jaxsrda.diffsrda.condition import Conditioning
from jaxsrda.networks import layers
from jaxsrda.networks.paper_unet import PRESETS as PAPER_PRESETS
from jaxsrda.networks.paper_unet import NearConv, PaperUNet, PaperUNetConfig, dropout, nearest
from jaxsrda.networks.unet import PRESETS, Features, UNet, UNetConfig

NX, NY = 16, 9
FRAMES, CHANNELS = Conditioning().frames, Conditioning().channels
UNET = UNetConfig(2, 3, patch=2, widths=(16, 32), blocks=1, denoiser_widths=(16, 16))
PAPER = PaperUNetConfig(2, 3, width=4, multipliers=(1, 2), blocks=1, groups=2)
COARSE = {UNET: 4, PAPER: 2}
"""Grid points a side of the coarsest node."""

both = pytest.mark.parametrize("config", [UNET, PAPER], ids=["unet", "paper"])


def normal(*shape, dtype="float64", seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def shapes(make):
    """Graph and parameter shapes of what `make(rngs)` builds, without building it."""
    return nnx.split(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0))))


def drawn(make):
    """Graph and parameters; biases and layers that start quiet are as loud as all others, so that every layer matters.

    Drawn by NumPy, which compiles nothing.
    """
    graph, params = shapes(make)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        noise = rng.normal(size=leaf.shape)
        if leaf.ndim > 1:
            value = noise / np.sqrt(np.prod(leaf.shape[:-1]))
        else:
            value = 0.1 * noise + ("scale" in jax.tree_util.keystr(path))
        return jnp.asarray(value, leaf.dtype)

    return graph, jax.tree_util.tree_map_with_path(draw, params)


def build(config):
    return functools.partial({UNetConfig: UNet, PaperUNetConfig: PaperUNet}[type(config)], config)


@functools.cache
def parts(config):
    return drawn(build(config))


@functools.cache
def functions(config):
    """encode(params, condition) and denoise(params, noisy, level, features), jitted."""
    graph = parts(config)[0]
    encode = quick_jit(lambda params, condition: nnx.merge(graph, params).encode(condition))
    return encode, quick_jit(lambda params, *arguments: nnx.merge(graph, params)(*arguments))


def inputs(dtype="float32"):
    """A noisy target, noise levels and a condition, for two samples."""
    level = jnp.asarray([0.3, -0.8], dtype)
    return normal(2, NX, NY, 2, dtype=dtype), level, normal(2, NX, NY, 3, dtype=dtype, seed=1)


def run(config, noisy, level, condition):
    params = parts(config)[1]
    encode, denoise = functions(config)
    features = encode(params, condition)
    return denoise(params, noisy, level, features), features.mean


def close(got, expected, tolerance=1e-5):
    """Equal to a fraction of the largest expected value."""
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * float(np.abs(expected).max()))


# Layers


def test_pad_channel_is_periodic_and_odd():
    x = jnp.arange(1.0, 16.0).reshape(1, 3, 5, 1)
    padded = layers.pad_channel(x, 2)[0, :, :, 0]
    field = x[0, :, :, 0]
    np.testing.assert_array_equal(padded[2:-2, 2:-2], field)
    np.testing.assert_array_equal(padded[:2], padded[3:5])
    np.testing.assert_array_equal(padded[-2:], padded[2:4])
    np.testing.assert_array_equal(padded[2:-2, :2], -field[:, [2, 1]])
    np.testing.assert_array_equal(padded[2:-2, -2:], -field[:, [3, 2]])
    assert layers.pad_channel(x, 0) is x


@pytest.mark.parametrize("width", [0, 1, 3])
def test_padding_has_the_gradient_of_its_parts(width):
    """The pull-back against the transpose of the padding's matrix, one column a node."""
    pad = functools.partial(layers.pad_channel, width=width)
    nodes = jnp.eye(4 * 5).reshape(20, 4, 5, 1)
    matrix = pad(nodes).reshape(20, -1)
    cotangent = normal(1, 4 + 2 * width, 5 + 2 * width, 1)
    (pulled,) = jax.vjp(pad, nodes[:1])[1](cotangent)
    np.testing.assert_allclose(pulled.ravel(), matrix @ cotangent.ravel(), atol=1e-14)


def test_sums_by_products_have_the_gradient_of_plain_sums():
    x, factor, shift = normal(2, 4, 5, 3, dtype="float32"), *(normal(2, 3, dtype="float32", seed=s) for s in (1, 2))
    np.testing.assert_allclose(layers.node_sums(x), x.sum((1, 2)), rtol=1e-5, atol=1e-5)
    cotangent = normal(2, 4, 5, 3, dtype="float32", seed=3)
    own = jax.vjp(layers.affine, x, factor, shift)[1](cotangent)
    plain = jax.vjp(lambda x, f, s: x * f[:, None, None] + s[:, None, None], x, factor, shift)[1](cotangent)
    for got, expected in zip(own, plain, strict=True):
        close(got, expected)
    pulled, bias = jax.vjp(layers.add_bias, x, factor[0])[1](cotangent)
    close(bias, cotangent.sum((0, 1, 2)))
    np.testing.assert_array_equal(pulled, cotangent)


@pytest.mark.parametrize("size", [3, 5])
def test_convolve_in_bfloat16_is_near_float32(size):
    """Forward and both gradients of the matrix product that bfloat16 takes on CPU."""
    padded, kernel = normal(2, 7, 8, 3, dtype="float32"), normal(size, size, 3, 4, dtype="float32", seed=1)
    cotangent = normal(2, 8 - size, 9 - size, 4, dtype="float32", seed=2)

    def both_ways(*arrays):
        out, pull = jax.vjp(layers.convolve, *arrays[:2])
        return out, *pull(arrays[2])

    half = [a.astype(jnp.bfloat16) for a in (padded, kernel, cotangent)]
    got = quick_jit(both_ways)(*half)
    for a, b in zip(got, quick_jit(both_ways)(*(a.astype(jnp.float32) for a in half)), strict=True):
        assert a.dtype == jnp.bfloat16
        close(a.astype(jnp.float32), b, 0.02)


@pytest.mark.parametrize("size", [3, 5])
def test_convolve_has_the_gradient_of_xla(size, dtype):
    padded, kernel = normal(2, 7, 8, 3, dtype=dtype), normal(size, size, 3, 4, dtype=dtype, seed=1)

    def plain(padded, kernel):
        return jax.lax.conv_general_dilated(padded, kernel, (1, 1), "VALID", dimension_numbers=layers.DIMENSIONS)

    def both_ways(padded, kernel, cotangent):
        own, pull = jax.vjp(layers.convolve, padded, kernel)
        xla, pull_xla = jax.vjp(plain, padded, kernel)
        return (own, *pull(cotangent)), (xla, *pull_xla(cotangent))

    cotangent = normal(2, 8 - size, 9 - size, 4, dtype=dtype, seed=2)
    for got, expected in zip(*quick_jit(both_ways)(padded, kernel, cotangent), strict=True):
        assert got.dtype == expected.dtype == dtype
        close(got, expected, 1e-13 if dtype == "float64" else 1e-5)


def doubled_convolution(x, conv):
    """The convolution of the odd field's full period, by rolls: rows 0 … ny − 1 of it."""
    ny, kernel = x.shape[2], conv.kernel[...].astype(x.dtype)
    period, half = jnp.concatenate([x, -x[:, :, -2:0:-1]], axis=2), conv.size // 2
    taps = [(i, j) for i in range(conv.size) for j in range(conv.size)]
    total = sum(jnp.roll(period, (half - i, half - j), (1, 2)) @ kernel[i, j] for i, j in taps)
    return total[:, :: conv.stride, : ny : conv.stride] + conv.bias[...].astype(x.dtype)


@pytest.mark.parametrize(
    "kind, size, stride",
    [
        (layers.Conv, 3, 1),
        (layers.Conv, 3, 2),
        (layers.Conv, 5, 1),
        (layers.Conv, 1, 1),
        (NearConv, 3, 1),
        (NearConv, 3, 2),
    ],
)
def test_walls_are_mirrors(kind, size, stride):
    conv = nnx.merge(*drawn(functools.partial(kind, 2, 3, size=size, stride=stride)))
    x = normal(1, 8, 9, 2).at[:, :, jnp.array([0, -1])].set(0)
    expected = doubled_convolution(x, conv)
    if kind is NearConv:  # the far wall's row is left out
        x, expected = x[:, :, :-1], expected[:, :, :-1]
    close(quick_jit(lambda x: conv(x))(x), expected, 1e-13)


@pytest.mark.parametrize("layer", [functools.partial(layers.Conv, 8, 64), functools.partial(layers.Dense, 72, 64)])
def test_initial_weights_keep_the_variance(layer):
    layer = layer(rngs=nnx.Rngs(0))
    kernel = layer.kernel[...]
    assert kernel.dtype == layer.bias[...].dtype == "float32" and not np.any(layer.bias[...])
    assert np.std(kernel) == pytest.approx(72**-0.5, rel=0.05)


def test_stride_two_keeps_both_walls():
    conv = nnx.merge(*drawn(functools.partial(layers.Conv, 1, 1, stride=2)))
    conv.bias[...], conv.kernel[...] = jnp.zeros(1, jnp.float32), jnp.zeros((3, 3, 1, 1), jnp.float32).at[1, 1].set(1)
    x = normal(1, 8, 9, 1)
    np.testing.assert_array_equal(conv(x), x[:, ::2, ::2])
    assert conv(x).shape == (1, 4, 5, 1)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_patches_and_back(size):
    x = normal(2, 12, 13, 3)
    patches = layers.to_patches(x, size)
    assert patches.shape == (2, 12 // size, 12 // size + 1, 3 * size**2)
    np.testing.assert_array_equal(layers.from_patches(patches, size), x)
    middle = (size // 2) * (size + 1)
    np.testing.assert_array_equal(patches[..., 3 * middle : 3 * middle + 3], x[:, ::size, ::size])


def test_upsample_keeps_nodes_and_interpolates():
    x = normal(2, 4, 3, 2)
    fine = layers.upsample(x)
    assert fine.shape == (2, 8, 5, 2)
    np.testing.assert_array_equal(fine[:, ::2, ::2], x)
    np.testing.assert_allclose(fine[:, 7, ::2], (x[:, 3] + x[:, 0]) / 2)
    np.testing.assert_allclose(fine[:, :, 1::2], (fine[:, :, :-1:2] + fine[:, :, 2::2]) / 2)
    for i, j in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        np.testing.assert_array_equal(nearest(x)[:, i::2, j::2], x)


def test_group_norm_statistics():
    norm = layers.GroupNorm(8, group=4)
    x = 5 + 3 * normal(2, 6, 5, 8, dtype="float32")
    grouped = norm(x).reshape(2, 30, 2, 4)
    np.testing.assert_allclose(grouped.mean((1, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(grouped.var((1, 3)), 1, rtol=1e-5)
    norm.scale[...], norm.bias[...] = 2 * norm.scale[...], 1 + norm.bias[...]
    close(norm(x), 2 * grouped.reshape(x.shape) + 1)
    assert norm(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_attention_against_the_formula_and_in_another_order():
    attention = nnx.merge(*drawn(functools.partial(layers.Attention, 8, head=4)))
    x, order = normal(2, 3, 2, 8, dtype="float32"), np.array([4, 0, 5, 2, 1, 3])
    q, k, v = (a.reshape(2, 6, 2, 4) for a in jnp.split(attention.qkv(attention.norm(x)), 3, axis=-1))
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / 2, axis=-1)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape)
    out = attention(x)
    close(out, x + attention.out(mixed))
    permuted, expected = (a.reshape(2, 6, 8)[:, order].reshape(x.shape) for a in (x, out))
    close(attention(permuted), expected)


def test_embedding_tells_levels_apart():
    embedding = nnx.merge(*drawn(functools.partial(layers.Embedding, 8)))
    codes = embedding(jnp.asarray([0.0, 0.02, 1.0], jnp.float32))
    assert codes.shape == (3, 8) and np.abs(np.diff(codes, axis=0)).max(axis=1).min() > 1e-2


def test_residual_block_shifts_with_its_input_and_hears_the_embedding():
    block = nnx.merge(*drawn(functools.partial(layers.ResBlock, 16, 4)))
    apply = quick_jit(block)
    x, embedding = normal(1, 8, 5, 16, dtype="float32"), normal(1, 4, dtype="float32")
    out = apply(x, embedding)
    close(apply(jnp.roll(x, 3, 1), embedding), jnp.roll(out, 3, 1))
    assert not np.allclose(apply(x, -embedding), out, rtol=0, atol=1e-5)


# Both networks


@both
def test_shift_in_x_by_whole_nodes(config):
    noisy, level, condition = inputs()
    outputs = run(config, noisy, level, condition)
    for shift in (COARSE[config], -3 * COARSE[config]):
        shifted = run(config, jnp.roll(noisy, shift, 1), level, jnp.roll(condition, shift, 1))
        for got, expected in zip(shifted, outputs, strict=True):
            close(got, jnp.roll(expected, shift, 1))


@both
def test_every_input_matters_and_samples_keep_apart(config):
    noisy, level, condition = inputs()
    out, _ = run(config, noisy, level, condition)
    assert out.shape == noisy.shape and np.isfinite(out).all()
    for changed in [(-noisy, level, condition), (noisy, level + 1, condition), (noisy, level, -condition)]:
        first = [jnp.concatenate([a[:1], b[1:]]) for a, b in zip(changed, (noisy, level, condition), strict=True)]
        got, _ = run(config, *first)
        assert np.abs(got[0] - out[0]).max() > 1e-3 * np.abs(out[0]).max()
        close(got[1], out[1], 1e-6)


@both
def test_types_go_through(config):
    out, mean = run(config, *inputs("float32"))
    double, double_mean = run(config, *inputs("float64"))
    assert out.dtype == mean.dtype == "float32" and double.dtype == double_mean.dtype == "float64"
    close(double, out)


@both
def test_bfloat16_is_near_float32(config):
    half = dataclasses.replace(config, bfloat16=True)
    params = parts(config)[1]
    noisy, level, condition = inputs()
    encode, denoise = functions(half)
    features = encode(params, condition)
    got = denoise(params, noisy, level, features)
    expected, mean = run(config, noisy, level, condition)
    assert got.dtype == features.mean.dtype == "float32"
    for a, b in [(got, expected), (features.mean, mean)]:
        close(a, b, 0.05)
    assert np.abs(got - expected).max() > 1e-5 * np.abs(expected).max()  # it did compute in bfloat16


@both
def test_gradients_reach_every_parameter(config):
    graph, params = parts(config)
    noisy, level, condition = inputs()

    def loss(params, hold):
        network = nnx.merge(graph, params)
        features = network.encode(condition)
        features = jax.tree.map(lambda a: jnp.where(hold, jax.lax.stop_gradient(a), a), features)
        return jnp.sum(network(noisy, level, features) ** 2) + jnp.sum(features.mean**2) + jnp.sum(features.scale**2)

    def silent(hold):
        leaves = jax.tree_util.tree_leaves_with_path(gradient(params, hold))
        assert all(np.isfinite(leaf).all() for _, leaf in leaves)
        # A skip that is not taken silences part of a kernel only.
        quiet = [path for path, leaf in leaves if np.count_nonzero(leaf) < 0.6 * leaf.size]
        return {jax.tree_util.keystr(path[:1], simple=True) for path in quiet}

    gradient = quick_jit(jax.grad(loss))
    assert not silent(False)
    # With the features given, the denoiser has no part of the conditioner in it.
    conditioner = {"stem", "conditioner", "mean_norm", "mean_head", "handover"}
    assert silent(True) == (conditioner if config is UNET else set())


def test_the_denoiser_hears_the_condition_through_its_features():
    params = parts(UNET)[1]
    noisy, level, condition = inputs()
    encode, denoise = functions(UNET)
    features = encode(params, condition)
    out = denoise(params, noisy, level, features)
    for place in range(2):
        louder = tuple(a + 1 if i == place else a for i, a in enumerate(features.levels))
        changed = denoise(params, noisy, level, features._replace(levels=louder))
        assert np.abs(changed - out).max() > 1e-2 * np.abs(out).max()
    silent = Features(0 * features.mean, 0 * features.scale, features.levels)
    np.testing.assert_array_equal(denoise(params, noisy, level, silent), out)


def size(config):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(build(config))[1]))


def test_sizes_of_presets():
    millions = {"tiny": 0.37, "small": 3.8, "base": 23.4}
    assert set(millions) == set(PRESETS)
    for name, preset in PRESETS.items():
        config = UNetConfig(FRAMES, CHANNELS, **preset)
        count = size(config)
        assert count == pytest.approx(1e6 * millions[name], rel=0.2), f"{name}: {count}"
    for name, count in {"paper": 129e6, "paper-narrow": 32e6}.items():
        assert size(PaperUNetConfig(5, 5, **PAPER_PRESETS[name])) == pytest.approx(count, rel=0.03)


# The paper's network


def test_paper_network_leaves_the_last_wall_out():
    noisy, level, condition = inputs()
    out, mean = run(PAPER, noisy, level, condition)
    assert not np.any(out[:, :, -1]) and np.all(out[:, :, 0] != 0) and not np.any(mean)
    again, _ = run(PAPER, noisy.at[:, :, -1].add(1), level, condition.at[:, :, -1].add(1))
    np.testing.assert_array_equal(again, out)


def test_paper_network_drops_features_only_with_a_key():
    graph, params = parts(PAPER)
    noisy, level, condition = inputs()

    @quick_jit
    def drop(params, seed):
        network = nnx.merge(graph, params)
        return network(noisy, level, network.encode(condition), key=jax.random.key(seed))

    one, same, other = drop(params, 0), drop(params, 0), drop(params, 1)
    still, _ = run(PAPER, noisy, level, condition)
    np.testing.assert_array_equal(one, same)
    assert all(np.abs(a - b).max() > 1e-2 * np.abs(still).max() for a, b in [(one, other), (one, still)])
    assert all(isinstance(leaf, jax.Array) and leaf.dtype == "float32" for leaf in jax.tree.leaves(params))


def test_dropout_keeps_the_mean(dtype):
    x = jnp.full((100, 100), 3, dtype)
    dropped = dropout(jax.random.key(0), x, 0.25)
    assert dropped.dtype == dtype and set(np.unique(dropped)) == {0.0, 4.0}
    assert np.mean(dropped == 0) == pytest.approx(0.25, abs=0.02)
    assert dropout(None, x, 0.25) is x and dropout(jax.random.key(0), x, 0.0) is x


def test_paper_attention_sits_at_the_coarsest_level_only():
    network = nnx.merge(*parts(PAPER))

    def seats(stages):
        return [[block.attention is not None for block in blocks] for blocks in stages]

    assert seats(network.down) == [[False], [True]]
    assert seats([network.middle]) == [[True, False]]
    assert seats(network.up) == [[True, True], [False, False]]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"dropout": 1.0}, r"dropout: expected a fraction from 0 to below 1, got 1\.0"),
        ({"groups": 3}, r"width: expected a multiple of groups = 3, got 4; choose groups that divide it"),
        ({"groups": 0}, r"width: expected a multiple of groups = 0"),
    ],
)
def test_paper_config_is_checked(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PAPER, **change)


def test_paper_inputs_are_checked():
    network = nnx.merge(*parts(PAPER))
    level = jnp.ones(1, jnp.float32)
    for nx, ny in [(15, 9), (16, 8)]:
        features = network.encode(normal(1, nx, ny, 3))
        with pytest.raises(ValueError, match=rf"multiples of 2, got {nx} × {ny}; use a network of fewer levels"):
            network(normal(1, nx, ny, 2), level, features)
    with pytest.raises(ValueError, match=r"condition: expected shape \(any, any, any, 3\), got \(1, 16, 9, 4\)"):
        network.encode(normal(1, NX, NY, 4))
    features = network.encode(normal(1, NX, NY, 3))
    with pytest.raises(ValueError, match=r"condition: expected shape \(2, 16, 9, 3\), got \(1, 16, 9, 3\)"):
        network(normal(2, NX, NY, 2), level, features)
