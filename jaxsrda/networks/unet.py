"""The efficient U-Net: a conditioner that runs once a window and a light denoiser that runs for every sample and step.

Both work on patches of 4 × 4 grid points (a 32 × 17 grid of nodes for HR).  The conditioner sees the condition,
estimates the mean of the target and how far from it the target is, and hands its features to the denoiser, so that
thirty samples of a few steps cost little more than one.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxsrda.networks.layers import Attention, Conv, Embedding, GroupNorm, ResBlock, from_patches, to_patches, upsample
from jaxsrda.networks.registry import NetworkKind, Sizes, register_network


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Sizes of the efficient U-Net.

    frames: of the target; channels: of the condition; patch: points a side of a node; widths: channels at each level
    of the conditioner, coarser by two each; blocks: residual blocks a level; denoiser_widths: the denoiser's; latent:
    numbers a node and frame, if what is denoised lives on the nodes and not on the grid; quiet: channels of the
    condition whose first weights are zero, so that they have no effect until training uses them.
    """

    frames: int
    channels: int
    patch: int = 4
    widths: tuple[int, ...] = (64, 128, 192)
    blocks: int = 2
    denoiser_widths: tuple[int, ...] = (48, 96)
    denoiser_blocks: int = 1
    latent: int = 0
    quiet: tuple[int, ...] = ()
    bfloat16: bool = False

    def __post_init__(self):
        for width in (*self.widths, *self.denoiser_widths):
            if width % 16:
                raise ValueError(f"widths: expected multiples of 16 (the groups of a norm), got {width}")
        if self.widths[-1] % 32:
            raise ValueError(f"widths: expected a multiple of 32 (heads) at the coarsest level, got {self.widths[-1]}")
        if len(self.denoiser_widths) > len(self.widths):
            raise ValueError(
                f"denoiser_widths: expected at most the conditioner's {len(self.widths)} levels, got "
                f"{len(self.denoiser_widths)}"
            )


PRESETS: dict[str, dict] = {
    "tiny": {"widths": (32, 64), "blocks": 1, "denoiser_widths": (32, 48)},
    "small": {"widths": (64, 128, 192), "blocks": 2, "denoiser_widths": (48, 96)},
    "base": {"widths": (128, 256, 384), "blocks": 3, "denoiser_widths": (96, 192), "denoiser_blocks": 2},
}


LOG_SCALE = (-6.0, 3.0)
"""Range of the logarithm of the conditioner's scale, in units of the corrections' own."""


class Features(NamedTuple):
    """What the conditioner hands over: mean and scale (mean absolute error around it) of the target, and features.

    mean, scale: [B, nx, ny, frames]; levels: features by level.
    """

    mean: Array
    scale: Array
    levels: tuple[Array, ...]


class Pyramid(nnx.Module):
    """Down and up again through the levels, skips added: [B, x, y, C] → features of every level, finest first."""

    def __init__(self, widths, blocks, embedding=0, attention=True, *, rngs):
        def stage(width):
            return nnx.List([ResBlock(width, embedding, rngs=rngs) for _ in range(blocks)])

        pairs = list(itertools.pairwise(widths))
        self.down = nnx.List([stage(width) for width in widths])
        self.shrink = nnx.List([Conv(fine, coarse, stride=2, rngs=rngs) for fine, coarse in pairs])
        self.attention = Attention(widths[-1], rngs=rngs) if attention else None
        self.grow = nnx.List([Conv(coarse, fine, size=1, rngs=rngs) for fine, coarse in pairs])
        self.up = nnx.List([stage(width) for width in widths[:-1]])

    def __call__(self, x: Array, embedding: Array | None = None, extra: tuple[Array, ...] = ()) -> tuple[Array, ...]:
        skips = []
        for level, blocks in enumerate(self.down):
            if level > 0:
                x = self.shrink[level - 1](x)
            if extra:
                x = x + extra[level]
            for block in blocks:
                x = block(x, embedding)
            skips.append(x)
        if self.attention is not None:
            x = self.attention(x)
        outputs = [x]
        for level in reversed(range(len(self.up))):
            x = upsample(self.grow[level](x)) + skips[level]
            for block in self.up[level]:
                x = block(x, embedding)
            outputs.append(x)
        return tuple(reversed(outputs))


class UNet(nnx.Module):
    """Conditioner and denoiser in one module (see above)."""

    def __init__(self, config: UNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        area = config.patch**2
        widths, light = config.widths, config.denoiser_widths
        embedding = 2 * light[-1]
        self.stem = Conv(area * config.channels, widths[0], size=1, rngs=rngs)
        rows = self.stem.kernel[...].reshape(area, config.channels, widths[0])
        rows = rows.at[:, jnp.asarray(config.quiet, jnp.int32)].set(0)
        self.stem.kernel[...] = rows.reshape(self.stem.kernel.shape)
        self.conditioner = Pyramid(widths, config.blocks, rngs=rngs)
        self.mean_norm = GroupNorm(widths[0])
        self.mean_head = Conv(widths[0], area * 2 * config.frames, scale=1e-2, rngs=rngs)
        self.handover = nnx.List([Conv(wide, thin, size=1, rngs=rngs) for wide, thin in zip(widths, light)])
        drawn = (config.latent or area) * config.frames
        self.noisy_stem = Conv(drawn, light[0], size=1, rngs=rngs)
        self.embedding = Embedding(embedding, rngs=rngs)
        self.denoiser = Pyramid(light, config.denoiser_blocks, embedding, attention=False, rngs=rngs)
        self.norm = GroupNorm(light[0])
        self.head = Conv(light[0], drawn, scale=1e-2, rngs=rngs)

    @property
    def dtype(self):
        """The type that the layers compute in."""
        return jnp.bfloat16 if self.config.bfloat16 else jnp.float32

    def encode(self, condition: Array) -> Features:
        """Features of a condition [B, nx, ny, channels]."""
        patches = to_patches(condition.astype(self.dtype), self.config.patch)
        levels = self.conditioner(self.stem(patches))
        both = from_patches(self.mean_head(jax.nn.silu(self.mean_norm(levels[0]))), self.config.patch)
        mean, log_scale = jnp.split(both.astype(condition.dtype), 2, axis=-1)
        scale = jnp.exp(jnp.clip(log_scale, *LOG_SCALE))
        return Features(mean, scale, tuple(give(level) for give, level in zip(self.handover, levels)))

    def __call__(self, noisy: Array, level: Array, features: Features) -> Array:
        """The network's raw output for a scaled noisy target [B, nx, ny, frames] and noise levels [B].

        With a latent noisy and output are [B, x, y, frames · latent] on the nodes.
        """
        x = noisy.astype(self.dtype)
        x = self.noisy_stem(x if self.config.latent else to_patches(x, self.config.patch))
        # In float32, because the highest frequencies lose their phase in bfloat16.
        embedding = self.embedding(level.astype(jnp.float32)).astype(self.dtype)
        x = self.denoiser(x, embedding, features.levels)[0]
        out = self.head(jax.nn.silu(self.norm(x)))
        return (out if self.config.latent else from_patches(out, self.config.patch)).astype(noisy.dtype)


DENOISER = ("noisy_stem", "embedding", "denoiser", "norm", "head")
"""Parts that run at every step; the others run once a cycle."""


def _build(name: str, sizes: Sizes, seed: int) -> UNet:
    config = UNetConfig(
        sizes.frames,
        sizes.channels,
        latent=sizes.latent,
        quiet=sizes.quiet,
        bfloat16=sizes.bfloat16,
        **PRESETS[name],
    )
    return UNet(config, rngs=nnx.Rngs(seed))


for _name in PRESETS:
    register_network(
        _name,
        NetworkKind(
            functools.partial(_build, _name), ("residual", "direct", "regression"), denoiser=DENOISER, latent=True
        ),
    )
