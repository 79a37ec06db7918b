"""Autoencoders of single vorticity frames, for diffusion in their latent.

Encoder: patches of 4 × 4 points to one node of a 32 × 17 grid (which keeps both walls), residual blocks, a few numbers
a node.  Decoder: the same the other way round, its last layer shuffled back into points.  The latent is quantized by
a codebook (van den Oord et al. 2017, arXiv:1711.00937), or pulled towards N(0, 1) by a weak Kullback–Leibler term
(Rombach et al. 2022, arXiv:2112.10752, section 3.1).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxsrda.core.linalg import trailing
from jaxsrda.networks.layers import Conv, ResBlock, from_patches, to_patches

LOG_VARIANCE = (-20.0, 2.0)
"""Range of the logarithm of a latent's variance."""


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes and losses of an autoencoder.

    channels: numbers a node; hidden, blocks: width and number of residual blocks on each side; codes: of the codebook,
    0 for a continuous latent; commitment: weight of that loss; decay: of the running averages that codes follow, 0 to
    train them by gradient instead; least: uses a batch below which a code is replaced; divergence: weight of
    the Kullback–Leibler term, per number of the latent; field_scale: what vorticity is divided by.
    """

    channels: int = 1
    patch: int = 4
    hidden: int = 64
    blocks: int = 3
    codes: int = 0
    commitment: float = 0.25
    decay: float = 0.0
    least: float = 0.03
    divergence: float = 0.0
    field_scale: float = 3.0

    def __post_init__(self):
        for name in ("channels", "hidden", "blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.codes < 0 or self.codes == 1:
            raise ValueError(f"codes: expected 2 or more, or 0 for a continuous latent, got {self.codes}")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay: expected a number from 0 to below 1, got {self.decay}")


PRESETS: dict[str, AutoencoderConfig] = {
    "vq": AutoencoderConfig(codes=2000),
    "vq-ema": AutoencoderConfig(codes=2000, decay=0.99),
    "kl": AutoencoderConfig(channels=4, hidden=48, blocks=2, divergence=1e-5),
}
"""`vq` has the sizes of arXiv:2604.21180: 2000 codes that are single numbers; `vq-ema` is the same with running
averages; `kl` is continuous with several numbers a node."""


class Latent(NamedTuple):
    """What an encoder says of frames: mean and log variance, [B, x, y, channels]; the variance matters to `kl` only."""

    mean: Array
    log_variance: Array


class Autoencoder(nnx.Module):
    """Encoder and decoder of frames [B, nx, ny]."""

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        area, hidden = config.patch**2, config.hidden

        def blocks():
            return nnx.List([ResBlock(hidden, rngs=rngs) for _ in range(config.blocks)])

        self.stem = Conv(area, hidden, rngs=rngs)
        self.encoder = blocks()
        self.latent = Conv(hidden, 2 * config.channels, size=1, rngs=rngs)
        self.open = Conv(config.channels, hidden, rngs=rngs)
        self.decoder = blocks()
        self.head = Conv(hidden, area, rngs=rngs)

    def encode(self, omega: Array) -> Latent:
        """The latent of frames [B, nx, ny]."""
        x = self.stem(to_patches(omega[..., None].astype(jnp.float32) / self.config.field_scale, self.config.patch))
        for block in self.encoder:
            x = block(x)
        mean, log_variance = jnp.split(self.latent(x).astype(omega.dtype), 2, axis=-1)
        return Latent(mean, jnp.clip(log_variance, *LOG_VARIANCE))

    def decode(self, z: Array) -> Array:
        """Frames [B, nx, ny] of latents [B, x, y, channels]; zero on the walls."""
        x = self.open(z.astype(jnp.float32))
        for block in self.decoder:
            x = block(x)
        omega = self.config.field_scale * from_patches(self.head(x), self.config.patch)[..., 0]
        inside = jnp.ones(omega.shape[-1], omega.dtype).at[jnp.array([0, -1])].set(0)
        return (omega * trailing(inside, omega)).astype(z.dtype)


class Functions(NamedTuple):
    """An autoencoder split into pure functions of its parameters."""

    encode: Any  # (params, omega [B, nx, ny]) → Latent
    decode: Any  # (params, z [B, x, y, channels]) → omega
    initial: Any  # (seed) → params


@functools.cache
def functions(config: AutoencoderConfig) -> Functions:
    """The autoencoder of a configuration, as pure functions."""

    def build(seed: int) -> Autoencoder:
        return Autoencoder(config, rngs=nnx.Rngs(seed))

    graph = nnx.graphdef(nnx.eval_shape(lambda: build(0)))
    return Functions(
        lambda params, omega: nnx.merge(graph, params).encode(omega),
        lambda params, z: nnx.merge(graph, params).decode(z),
        lambda seed: nnx.split(build(seed))[1],
    )
