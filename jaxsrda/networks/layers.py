"""Layers for fields on the channel: arrays [batch, x, y, channel], periodic in x, walls at both ends of y.

Coarse levels keep both walls: 128 × 65 → 32 × 17 → 16 × 9 → 8 × 5.  Beyond a wall a field continues as its odd
mirror image, f(−y) = −f(y), as vorticity does.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def pad_channel(x: Array, width: int = 1) -> Array:
    """`width` more columns at each side (periodic) and rows beyond each wall (odd mirror image)."""
    if width == 0:
        return x
    x = jnp.concatenate([x[:, -width:], x, x[:, :width]], axis=1)
    below, above = x[:, :, 1 : width + 1], x[:, :, -width - 1 : -1]
    return jnp.concatenate([-below[:, :, ::-1], x, -above[:, :, ::-1]], axis=2)


@jax.custom_vjp
def convolve(padded: Array, kernel: Array) -> Array:
    """A convolution without padding, stride 1: [B, X+2, Y+2, C] and [3, 3, C, O] → [B, X, Y, O] (3 for any odd size).

    Its weight gradient is nine matrix products, one for each tap: on CPU XLA computes the gradient of a
    convolution several times slower than the convolution itself.
    """
    return jax.lax.conv_general_dilated(padded, kernel, (1, 1), "VALID", dimension_numbers=DIMENSIONS)


def _convolve_fwd(padded, kernel):
    return convolve(padded, kernel), (padded, kernel)


def _convolve_bwd(residuals, cotangent):
    padded, kernel = residuals
    height, width, channels, features = kernel.shape
    nx, ny = cotangent.shape[1:3]
    spread = jnp.pad(cotangent, ((0, 0), (height - 1,) * 2, (width - 1,) * 2, (0, 0)))
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    to_input = jax.lax.conv_general_dilated(spread, turned, (1, 1), "VALID", dimension_numbers=DIMENSIONS)
    flat = cotangent.reshape(-1, features)
    taps = [
        padded[:, i : i + nx, j : j + ny].reshape(-1, channels).T @ flat for i in range(height) for j in range(width)
    ]
    return to_input, jnp.stack(taps).reshape(kernel.shape)


convolve.defvjp(_convolve_fwd, _convolve_bwd)


class Conv(nnx.Module):
    """A 3 × 3 (or 1 × 1) convolution on the channel; stride 2 keeps every second node, walls included."""

    def __init__(self, channels: int, features: int, *, size: int = 3, stride: int = 1, scale: float = 1.0, rngs):
        deviation = float(scale / np.sqrt(size * size * channels))
        shape = (size, size, channels, features)
        self.kernel = nnx.Param(deviation * jax.random.normal(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(features, jnp.float32))
        self.size, self.stride = size, stride

    def __call__(self, x: Array) -> Array:
        kernel, bias = self.kernel[...].astype(x.dtype), self.bias[...].astype(x.dtype)
        if self.size == 1:
            return x @ kernel[0, 0] + bias
        padded = pad_channel(x, self.size // 2)
        if self.stride == 1:
            return convolve(padded, kernel) + bias
        strides = (self.stride, self.stride)
        return jax.lax.conv_general_dilated(padded, kernel, strides, "VALID", dimension_numbers=DIMENSIONS) + bias


class Dense(nnx.Module):
    """y = x W + b over the last axis."""

    def __init__(self, channels: int, features: int, *, scale: float = 1.0, rngs):
        deviation = float(scale / np.sqrt(channels))
        self.kernel = nnx.Param(deviation * jax.random.normal(rngs.params(), (channels, features), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(features, jnp.float32))

    def __call__(self, x: Array) -> Array:
        return x @ self.kernel[...].astype(x.dtype) + self.bias[...].astype(x.dtype)


class GroupNorm(nnx.Module):
    """Normalization over space and groups of channels (Wu & He 2018, arXiv:1803.08494), statistics in float32."""

    def __init__(self, channels: int, group: int = 16):
        self.scale = nnx.Param(jnp.ones(channels, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(channels, jnp.float32))
        self.groups = max(1, channels // group)

    def __call__(self, x: Array) -> Array:
        batch, nx, ny, channels = x.shape
        grouped = x.astype(jnp.float32).reshape(batch, nx * ny, self.groups, channels // self.groups)
        mean = grouped.mean((1, 3), keepdims=True)
        variance = jnp.maximum((grouped * grouped).mean((1, 3), keepdims=True) - mean * mean, 0)
        normal = ((grouped - mean) * jax.lax.rsqrt(variance + 1e-5)).reshape(x.shape)
        return (normal * self.scale[...] + self.bias[...]).astype(x.dtype)


class ResBlock(nnx.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), the second norm scaled and shifted by an embedding if there is one.

    He et al. (2016, arXiv:1603.05027); the modulation as in Dhariwal & Nichol (2021, arXiv:2105.05233).
    """

    def __init__(self, channels: int, features: int, embedding: int = 0, *, rngs):
        self.norm1, self.norm2 = GroupNorm(channels), GroupNorm(features)
        self.conv1 = Conv(channels, features, rngs=rngs)
        self.conv2 = Conv(features, features, scale=1e-2, rngs=rngs)
        self.shortcut = None if channels == features else Conv(channels, features, size=1, rngs=rngs)
        self.modulation = Dense(embedding, 2 * features, scale=1e-2, rngs=rngs) if embedding else None

    def __call__(self, x: Array, embedding: Array | None = None) -> Array:
        h = self.norm2(self.conv1(jax.nn.silu(self.norm1(x))))
        if self.modulation is not None and embedding is not None:
            scale, shift = jnp.split(self.modulation(embedding)[:, None, None], 2, axis=-1)
            h = h * (1 + scale) + shift
        h = self.conv2(jax.nn.silu(h))
        return (x if self.shortcut is None else self.shortcut(x)) + h


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
        angle = scalar[:, None] * frequency
        waves = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)
        return jax.nn.silu(self.dense2(jax.nn.silu(self.dense1(waves))))
