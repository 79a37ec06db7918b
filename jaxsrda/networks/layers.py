"""Layers for fields on the channel: arrays [batch, x, y, channel], periodic in x, walls at both ends of y.

Coarse levels keep both walls: 128 × 65 → 32 × 17 → 16 × 9 → 8 × 5.  Beyond a wall a field continues as its odd
mirror image, f(−y) = −f(y), as vorticity does.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from jaxsrda.core.linalg import trailing

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def on_cpu() -> bool:
    """Whether programs are made for a CPU, where gradients written as products beat XLA's own; elsewhere XLA's fuse."""
    return jax.default_backend() == "cpu"


def pad_channel(x: Array, width: int = 1) -> Array:
    """`width` more columns at each side (periodic) and rows beyond each wall (odd mirror image)."""
    return _pad_with_gradient(x, width) if on_cpu() else _pad(x, width)


def _pad(x: Array, width: int) -> Array:
    if width == 0:
        return x
    x = jnp.concatenate([x[:, -width:], x, x[:, :width]], axis=1)
    below, above = x[:, :, 1 : width + 1], x[:, :, -width - 1 : -1]
    return jnp.concatenate([-below[:, :, ::-1], x, -above[:, :, ::-1]], axis=2)


_pad_with_gradient = jax.custom_vjp(_pad, nondiff_argnums=(1,))


def _pad_fwd(x, width):
    return _pad(x, width), None


def _pad_bwd(width, _, cotangent):
    """Each padded copy's gradient goes back to its original, in place: XLA's own sums whole arrays of zeros."""
    if width == 0:
        return (cotangent,)
    inner = cotangent[:, :, width:-width]
    inner = inner.at[:, :, 1 : width + 1].add(-cotangent[:, :, width - 1 :: -1][:, :, :width])
    inner = inner.at[:, :, -width - 1 : -1].add(-cotangent[:, :, : -width - 1 : -1])
    core = inner[:, width:-width]
    core = core.at[:, -width:].add(inner[:, :width])
    return (core.at[:, :width].add(inner[:, -width:]),)


_pad_with_gradient.defvjp(_pad_fwd, _pad_bwd)


def node_sums(x: Array) -> Array:
    """Sums over the nodes, [B, nx, ny, C] → [B, C] in float32; on CPU a product with ones, faster than XLA's sum."""
    if not on_cpu():
        return x.sum((1, 2), dtype=jnp.float32)
    batch, nx, ny, channels = x.shape
    ones = jnp.ones((batch, 1, nx * ny), x.dtype)
    flat = x.reshape(batch, nx * ny, channels)
    return jnp.matmul(ones, flat, preferred_element_type=jnp.float32)[:, 0]


def affine(x: Array, factor: Array, shift: Array) -> Array:
    """x · factor + shift, both [B, C] (float32), in the type of x; its gradient sums by `node_sums` on CPU."""
    return _affine_with_gradient(x, factor, shift) if on_cpu() else _affine(x, factor, shift)


def _affine(x: Array, factor: Array, shift: Array) -> Array:
    return x * factor[:, None, None].astype(x.dtype) + shift[:, None, None].astype(x.dtype)


_affine_with_gradient = jax.custom_vjp(_affine)


def _affine_bwd(residuals, cotangent):
    x, factor = residuals
    return cotangent * factor[:, None, None].astype(x.dtype), node_sums(cotangent * x), node_sums(cotangent)


_affine_with_gradient.defvjp(lambda x, factor, shift: (_affine(x, factor, shift), (x, factor)), _affine_bwd)


def add_bias(x: Array, bias: Array) -> Array:
    """x + bias (C,); its gradient sums by `node_sums` on CPU."""
    return _bias_with_gradient(x, bias) if on_cpu() else _bias(x, bias)


def _bias(x: Array, bias: Array) -> Array:
    return x + trailing(bias, x).astype(x.dtype)


_bias_with_gradient = jax.custom_vjp(_bias)
_bias_with_gradient.defvjp(lambda x, bias: (_bias(x, bias), None), lambda _, g: (g, node_sums(g).sum(0)))


def convolve(padded: Array, kernel: Array) -> Array:
    """A convolution without padding, stride 1: [B, X+2, Y+2, C] and [3, 3, C, O] → [B, X, Y, O] (3 for any odd size).

    On CPU one matrix product: the taps in y are gathered side by side, [B, X+2, Y, 3 C] @ [3 C, 3 O], and those in x
    are the three parts of its result, shifted and added.  In bfloat16 that is several times faster than XLA's
    convolution, and its weight gradient, the product of the same two arrays the other way round, is too in any type
    (`benchmarks/studies/convolution.py`).  Elsewhere both are XLA's own.
    """
    return _convolve_with_gradient(padded, kernel) if on_cpu() else _convolve_xla(padded, kernel)


def _convolve_xla(padded: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(padded, kernel, (1, 1), "VALID", dimension_numbers=DIMENSIONS)


def _convolve(padded: Array, kernel: Array) -> Array:
    if padded.dtype != jnp.bfloat16:
        return _convolve_xla(padded, kernel)
    size_x, size_y, channels, features = kernel.shape
    taps = kernel.reshape(size_x, size_y * channels, features).swapaxes(0, 1).reshape(size_y * channels, -1)
    gathered = gather_rows(padded, size_y)
    batch, wide, ny = gathered.shape[:3]
    parts = (gathered.reshape(-1, size_y * channels) @ taps).reshape(batch, wide, ny, size_x, features)
    nx = wide - size_x + 1
    return functools.reduce(jnp.add, [parts[:, i : i + nx, :, i] for i in range(size_x)])


def gather_rows(padded: Array, size: int) -> Array:
    """Each node with its `size` − 1 neighbours in y: [B, X, Y + size − 1, C] → [B, X, Y, size · C]."""
    ny = padded.shape[2] - size + 1
    return jnp.concatenate([padded[:, :, j : j + ny] for j in range(size)], axis=-1)


_convolve_with_gradient = jax.custom_vjp(_convolve)


def _convolve_fwd(padded, kernel):
    return _convolve(padded, kernel), (padded, kernel)


def _convolve_bwd(residuals, cotangent):
    padded, kernel = residuals
    size_x, size_y, channels, features = kernel.shape
    spread = jnp.pad(cotangent, ((0, 0), (size_x - 1,) * 2, (size_y - 1,) * 2, (0, 0)))
    to_input = _convolve(spread, jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
    # Channels first before the rows are gathered: turning the small array is cheap, turning the gathered one is not.
    first = jnp.moveaxis(padded, -1, 0)
    ny = cotangent.shape[2]
    gathered = jnp.concatenate([first[..., j : j + ny] for j in range(size_y)]).reshape(size_y * channels, -1)
    shifted = [jnp.pad(cotangent, ((0, 0), (i, size_x - 1 - i), (0, 0), (0, 0))) for i in range(size_x)]
    products = gathered @ jnp.concatenate(shifted, axis=-1).reshape(-1, size_x * features)
    to_kernel = products.reshape(size_y, channels, size_x, features).transpose(2, 0, 1, 3)
    return to_input, to_kernel


_convolve_with_gradient.defvjp(_convolve_fwd, _convolve_bwd)


class Conv(nnx.Module):
    """A 3 × 3 (or 1 × 1) convolution on the channel; stride 2 keeps every second node, walls included."""

    def __init__(self, channels: int, features: int, *, size: int = 3, stride: int = 1, scale: float = 1.0, rngs):
        deviation = float(scale / np.sqrt(size * size * channels))
        shape = (size, size, channels, features)
        self.kernel = nnx.Param(deviation * jax.random.normal(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(features, jnp.float32))
        self.size, self.stride = size, stride

    def __call__(self, x: Array) -> Array:
        kernel = self.kernel[...].astype(x.dtype)
        if self.size == 1:
            return add_bias(x @ kernel[0, 0], self.bias[...])
        padded = pad_channel(x, self.size // 2)
        if self.stride == 1:
            return add_bias(convolve(padded, kernel), self.bias[...])
        strides = (self.stride, self.stride)
        out = jax.lax.conv_general_dilated(padded, kernel, strides, "VALID", dimension_numbers=DIMENSIONS)
        return add_bias(out, self.bias[...])


class Dense(nnx.Module):
    """y = x W + b over the last axis."""

    def __init__(self, channels: int, features: int, *, scale: float = 1.0, rngs):
        deviation = float(scale / np.sqrt(channels))
        self.kernel = nnx.Param(deviation * jax.random.normal(rngs.params(), (channels, features), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(features, jnp.float32))

    def __call__(self, x: Array) -> Array:
        return x @ self.kernel[...].astype(x.dtype) + trailing(self.bias[...], x).astype(x.dtype)


class GroupNorm(nnx.Module):
    """Normalization over space and groups of channels (Wu & He 2018, arXiv:1803.08494), statistics in float32."""

    def __init__(self, channels: int, group: int = 16):
        self.scale = nnx.Param(jnp.ones(channels, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(channels, jnp.float32))
        self.groups = max(1, channels // group)

    def __call__(self, x: Array) -> Array:
        batch, nx, ny, channels = x.shape
        each = channels // self.groups

        def group_mean(array: Array) -> Array:
            sums = node_sums(array).reshape(batch, self.groups, each).sum(-1, keepdims=True)
            return jnp.broadcast_to(sums / (nx * ny * each), (batch, self.groups, each)).reshape(batch, channels)

        mean = group_mean(x)
        variance = jnp.maximum(group_mean(x * x) - mean * mean, 0)
        # One factor and one shift a channel, so that x is read twice and written once, in its own type.
        factor = jax.lax.rsqrt(variance + 1e-5) * self.scale[...][None]
        return affine(x, factor, self.bias[...][None] - mean * factor)


class ResBlock(nnx.Module):
    """x + conv(silu(conv(norm(x)))), what enters silu scaled and shifted by an embedding if there is one.

    He et al. (2016, arXiv:1603.05027) with one normalization and one activation a block (as Liu et al. 2022,
    arXiv:2201.03545), because on CPU those cost more than the products; the modulation as in Dhariwal & Nichol
    (2021, arXiv:2105.05233).
    """

    def __init__(self, channels: int, embedding: int = 0, *, rngs):
        self.norm = GroupNorm(channels)
        self.conv1 = Conv(channels, channels, rngs=rngs)
        self.conv2 = Conv(channels, channels, scale=1e-2, rngs=rngs)
        self.modulation = Dense(embedding, 2 * channels, scale=1e-2, rngs=rngs) if embedding else None

    def __call__(self, x: Array, embedding: Array | None = None) -> Array:
        h = self.conv1(self.norm(x))
        if self.modulation is not None and embedding is not None:
            scale, shift = jnp.split(self.modulation(embedding).astype(jnp.float32), 2, axis=-1)
            h = affine(h, 1 + scale, shift)
        return x + self.conv2(jax.nn.silu(h))


class Attention(nnx.Module):
    """Multi-head self-attention over all nodes, as a residual (Vaswani et al. 2017, arXiv:1706.03762)."""

    def __init__(self, channels: int, head: int = 32, *, rngs):
        self.norm = GroupNorm(channels)
        self.qkv = Conv(channels, 3 * channels, size=1, rngs=rngs)
        self.out = Conv(channels, channels, size=1, scale=1e-2, rngs=rngs)
        self.heads = max(1, channels // head)

    def __call__(self, x: Array) -> Array:
        batch, nx, ny, channels = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, nx * ny, 3, self.heads, channels // self.heads)
        query, key, value = (qkv[:, :, i] for i in range(3))
        logits = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits * query.shape[-1] ** -0.5, axis=-1).astype(x.dtype)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
        return x + self.out(mixed.reshape(x.shape))


# Changes of resolution ------------------------------------------------------------------------


def to_patches(x: Array, size: int) -> Array:
    """Space to depth: [B, nx, ny, C] → [B, nx/size, (ny−1)/size + 1, size² C], patches centred on the coarse nodes.

    Node (i, j) holds columns and rows size·i − size/2 … size·i + size/2 − 1; what lies beyond a wall is mirrored.
    """
    half = size // 2
    batch, nx, ny, channels = x.shape
    x = pad_channel(x, half)[:, : nx + (size - half) - half, : ny + size - 1]
    x = x[:, :nx]
    nodes = (nx // size, (ny - 1) // size + 1)
    x = x.reshape(batch, nodes[0], size, nodes[1], size, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, *nodes, size * size * channels)


def from_patches(x: Array, size: int) -> Array:
    """The inverse of `to_patches`; what lies beyond the walls is dropped."""
    half = size // 2
    batch, nodes_x, nodes_y, channels = x.shape
    x = x.reshape(batch, nodes_x, nodes_y, size, size, channels // size**2).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(batch, nodes_x * size, nodes_y * size, -1)
    return jnp.roll(x, -half, axis=1)[:, :, half : half + (nodes_y - 1) * size + 1]


def upsample(x: Array) -> Array:
    """Twice the resolution by linear interpolation: [B, nx, ny, C] → [B, 2 nx, 2 ny − 1, C]."""
    batch, nx, ny, channels = x.shape
    between = (x + jnp.roll(x, -1, axis=1)) / 2
    x = jnp.stack([x, between], axis=2).reshape(batch, 2 * nx, ny, channels)
    between = (x[:, :, :-1] + x[:, :, 1:]) / 2
    pairs = jnp.stack([x[:, :, :-1], between], axis=3).reshape(batch, 2 * nx, 2 * ny - 2, channels)
    return jnp.concatenate([pairs, x[:, :, -1:]], axis=2)


class Embedding(nnx.Module):
    """Features of a scalar (a noise level): cos and sin of log-spaced frequencies, then two dense layers."""

    def __init__(self, features: int, *, rngs):
        self.dense1, self.dense2 = Dense(32, features, rngs=rngs), Dense(features, features, rngs=rngs)

    def __call__(self, scalar: Array) -> Array:
        frequency = jnp.exp(jnp.linspace(np.log(0.25), np.log(32.0), 16)).astype(scalar.dtype)
        angle = scalar[:, None] * frequency[None]
        waves = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)
        return jax.nn.silu(self.dense2(jax.nn.silu(self.dense1(waves))))
