"""The U-Net of the DiffSRDA paper (Ayapilla et al., arXiv:2604.21180), for runs with its own method settings.

Its layout is that of SR3 (Saharia et al. 2021, arXiv:2104.07636): noisy target and condition enter together, so the
whole network of 129 M parameters runs for every sample and step.  As in the paper one wall row is dropped, 128 × 65 →
128 × 64, which halves evenly; its output there is zero.  Unlike the paper's, its convolutions know the channel.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxsrda.core import draws
from jaxsrda.core.checks import check_fraction, check_shape
from jaxsrda.core.linalg import trailing
from jaxsrda.networks.layers import DIMENSIONS, Attention, Conv, Dense, Embedding, GroupNorm, convolve
from jaxsrda.networks.registry import NetworkKind, Sizes, register_network
from jaxsrda.networks.unet import Features


@dataclasses.dataclass(frozen=True)
class PaperUNetConfig:
    """Sizes of the paper's U-Net; all but the first two default to the paper's.

    frames: of the target; channels: of the condition; width: channels at the finest level; multipliers: of the width
    at each level, coarser by two each; blocks: residual blocks a level; groups: of every normalization; dropout:
    fraction of features dropped in training; bfloat16: compute in it.
    """

    frames: int
    channels: int
    width: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8, 8)
    blocks: int = 3
    groups: int = 32
    dropout: float = 0.5
    bfloat16: bool = False

    def __post_init__(self):
        check_fraction("dropout", self.dropout)
        if self.groups < 1 or self.width % self.groups:
            raise ValueError(
                f"width: expected a multiple of groups = {self.groups}, got {self.width}; choose groups that divide it"
            )


# Layers on rows 0 … n − 1, with one wall at row 0 and the other at row n, where fields vanish ----------------


def pad_near(x: Array) -> Array:
    """One more column at each side (periodic) and row at each end: [B, nx, n, C] → [B, nx + 2, n + 2, C].

    Below row 0 stands the odd mirror image, −x₁; row n is the far wall, zero.
    """
    x = jnp.concatenate([x[:, -1:], x, x[:, :1]], axis=1)
    return jnp.concatenate([-x[:, :, 1:2], x, jnp.zeros_like(x[:, :, :1])], axis=2)


class NearConv(Conv):
    """A 3 × 3 convolution of rows without the far wall; stride 2 keeps every second node, so the near wall."""

    def __call__(self, x: Array) -> Array:
        kernel, bias = self.kernel[...].astype(x.dtype), trailing(self.bias[...], x).astype(x.dtype)
        padded = pad_near(x)
        if self.stride == 1:
            return convolve(padded, kernel) + bias
        strides = (self.stride, self.stride)
        return jax.lax.conv_general_dilated(padded, kernel, strides, "VALID", dimension_numbers=DIMENSIONS) + bias


def nearest(x: Array) -> Array:
    """Twice the resolution, each node repeated: [B, nx, n, C] → [B, 2 nx, 2 n, C]."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def dropout(key: Array | None, x: Array, rate: float) -> Array:
    """Each element is zero with probability `rate`, else x / (1 − rate); x itself without a key.

    Srivastava et al. (2014, JMLR 15, 1929–1958).
    """
    if key is None or rate == 0:
        return x
    kept = draws.coins(key, x.shape, 1 - rate)
    return jnp.where(kept, x / (1 - rate), jnp.zeros_like(x))


class Block(nnx.Module):
    """x + conv(dropout(silu(norm(conv(silu(norm(x))) + W e)))) for an embedding e, then attention if asked for.

    Ho et al. (2020, arXiv:2006.11239, appendix B).
    """

    def __init__(self, channels: int, features: int, config: PaperUNetConfig, *, attention: bool = False, rngs):
        self.norm1 = GroupNorm(channels, channels // config.groups)
        self.norm2 = GroupNorm(features, features // config.groups)
        self.conv1 = NearConv(channels, features, rngs=rngs)
        self.conv2 = NearConv(features, features, scale=1e-2, rngs=rngs)
        self.shift = Dense(config.width, features, rngs=rngs)
        self.shortcut = None if channels == features else Conv(channels, features, size=1, rngs=rngs)
        self.attention = Attention(features, head=features, rngs=rngs) if attention else None
        if self.attention is not None:
            self.attention.norm = GroupNorm(features, features // config.groups)
        self.rate = config.dropout

    def __call__(self, x: Array, embedding: Array, key: Array | None = None) -> Array:
        h = self.conv1(jax.nn.silu(self.norm1(x))) + self.shift(embedding)[:, None, None]
        h = self.conv2(dropout(key, jax.nn.silu(self.norm2(h)), self.rate))
        x = (x if self.shortcut is None else self.shortcut(x)) + h
        return x if self.attention is None else self.attention(x)


class PaperUNet(nnx.Module):
    """The network, with the interface of `unet.UNet`.

    Down: `blocks` blocks a level, then a stride-2 convolution; middle: two blocks; up: blocks + 1 blocks a level, each
    taking the skip of one output on the way down, then nearest neighbours and a convolution.  Attention
    follows every block of the coarsest level and the first of the middle.
    """

    def __init__(self, config: PaperUNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        widths = [config.width * multiplier for multiplier in config.multipliers]
        coarsest = len(widths) - 1
        block = functools.partial(Block, config=config, rngs=rngs)
        self.embedding = Embedding(config.width, rngs=rngs)
        self.stem = NearConv(config.frames + config.channels, config.width, rngs=rngs)
        skips, at, down, up = [config.width], config.width, [], []
        for level, width in enumerate(widths):
            inputs = [at] + [width] * (config.blocks - 1)
            down.append(nnx.List([block(n, width, attention=level == coarsest) for n in inputs]))
            skips += [width] * (config.blocks if level == coarsest else config.blocks + 1)
            at = width
        self.middle = nnx.List([block(at, at, attention=True), block(at, at)])
        for level, width in reversed(list(enumerate(widths))):
            inputs = [at] + [width] * config.blocks
            up.append(nnx.List([block(n + skips.pop(), width, attention=level == coarsest) for n in inputs]))
            at = width
        self.down, self.up = nnx.List(down), nnx.List(up)
        self.shrink = nnx.List([NearConv(w, w, stride=2, rngs=rngs) for w in widths[:-1]])
        self.grow = nnx.List([NearConv(w, w, rngs=rngs) for w in reversed(widths[1:])])
        self.norm = GroupNorm(config.width, config.width // config.groups)
        self.head = NearConv(config.width, config.frames, scale=1e-2, rngs=rngs)

    @property
    def dtype(self):
        """The type that the layers compute in."""
        return jnp.bfloat16 if self.config.bfloat16 else jnp.float32

    def encode(self, condition: Array) -> Features:
        """A condition [B, nx, ny, channels] as it is, mean zero, scale one: nothing is computed beforehand."""
        check_shape("condition", condition, (None, None, None, self.config.channels))
        zeros = jnp.zeros((*condition.shape[:3], self.config.frames), condition.dtype)
        return Features(zeros, jnp.ones_like(zeros), (condition,))

    def __call__(self, noisy: Array, level: Array, features: Features, *, key: Array | None = None) -> Array:
        """The network's raw output [B, nx, ny, frames] for a scaled noisy target and noise levels [B].

        key: drops features (for training); without it nothing is random.  ValueError unless nx and ny − 1
        divide by 2 to the number of halvings.
        """
        (condition,) = features.levels
        nx, ny = noisy.shape[1:3]
        factor = 2 ** len(self.shrink)
        if nx % factor or (ny - 1) % factor:
            raise ValueError(
                f"noisy: expected nx and ny − 1 to be multiples of {factor}, got {nx} × {ny}; use a network of "
                "fewer levels or another grid"
            )
        check_shape("condition", condition, (*noisy.shape[:3], self.config.channels))
        # In float32, because the highest frequencies lose their phase in bfloat16.
        embedding = self.embedding(level.astype(jnp.float32)).astype(self.dtype)
        stages = (*self.down, self.middle, *self.up)
        split = iter(jax.random.split(key, sum(len(blocks) for blocks in stages))) if key is not None else None

        def apply(block: Block, x: Array) -> Array:
            return block(x, embedding, None if split is None else next(split))

        x = jnp.concatenate([noisy.astype(self.dtype), condition.astype(self.dtype)], axis=-1)
        x = self.stem(x[:, :, :-1])
        skips = [x]
        for depth, blocks in enumerate(self.down):
            if depth > 0:
                x = self.shrink[depth - 1](x)
                skips.append(x)
            for block in blocks:
                x = apply(block, x)
                skips.append(x)
        for block in self.middle:
            x = apply(block, x)
        for depth, blocks in enumerate(self.up):
            if depth > 0:
                x = self.grow[depth - 1](nearest(x))
            for block in blocks:
                x = apply(block, jnp.concatenate([x, skips.pop()], axis=-1))
        out = self.head(jax.nn.silu(self.norm(x)))
        return jnp.pad(out, ((0, 0), (0, 0), (0, 1), (0, 0))).astype(noisy.dtype)


PRESETS: dict[str, dict] = {"paper": {}, "paper-narrow": {"width": 32, "groups": 16}}
"""`paper` has the paper's sizes (129 M parameters); `paper-narrow` half of its widths (32 M), as many to a group."""


def _build(name: str, sizes: Sizes, seed: int) -> PaperUNet:
    config = PaperUNetConfig(sizes.frames, sizes.channels, bfloat16=sizes.bfloat16, **PRESETS[name])
    return PaperUNet(config, rngs=nnx.Rngs(seed))


for _name in PRESETS:
    register_network(_name, NetworkKind(functools.partial(_build, _name), ("direct",), drops=True))
