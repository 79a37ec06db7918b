"""The latent that a model may diffuse in: windows of frames there and back, and the units of what is drawn.

A frame becomes a few numbers at each node of the network's own grid (`networks.autoencoder`).  What is drawn lies
around the latent of an estimate: z = E(ω̂) + s r, with r of unit size and s = κ_c · (the size of the estimate's error at
the node), κ_c the gain of the encoder in channel c.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.core.linalg import trailing
from jaxsrda.networks.autoencoder import PRESETS, AutoencoderConfig, functions
from jaxsrda.networks.codebook import quantize
from jaxsrda.networks.layers import to_patches


class LatentSpace(NamedTuple):
    """A trained autoencoder: its parameters; codes (n, channels), n = 0 for a continuous latent; gain κ (channels,)."""

    params: Any
    codes: Array
    gain: Array


def latent_nodes(config: AutoencoderConfig, nx: int, ny: int) -> tuple[int, int]:
    """The grid of the latent."""
    return nx // config.patch, (ny - 1) // config.patch + 1


def _frames_first(x: Array) -> Array:
    """[B, x, y, F] → [B · F, x, y]."""
    return jnp.moveaxis(x, -1, 1).reshape(-1, *x.shape[1:3])


def encode_frames(preset: str, space: LatentSpace, omega: Array) -> Array:
    """Latents [B, x, y, F · channels] of windows [B, nx, ny, F]; of the law that `kl` encodes, the mean."""
    config = PRESETS[preset]
    z = functions(config).encode(space.params, _frames_first(omega)).mean
    z = jnp.moveaxis(z.reshape(len(omega), omega.shape[-1], *z.shape[1:]), 1, 3)
    return z.reshape(*z.shape[:3], -1)


def decode_frames(preset: str, space: LatentSpace, z: Array) -> Array:
    """Windows [B, nx, ny, F] of latents [B, x, y, F · channels], quantized first if there are codes."""
    config = PRESETS[preset]
    z = jnp.moveaxis(z.reshape(*z.shape[:3], -1, config.channels), 3, 1)
    frames = z.shape[1]
    z = z.reshape(-1, *z.shape[2:])
    if config.codes:
        z = quantize(space.codes.astype(z.dtype), z)[0]
    omega = functions(config).decode(space.params, z)
    return jnp.moveaxis(omega.reshape(-1, frames, *omega.shape[1:]), 1, -1)


def units(preset: str, space: LatentSpace, size: Array) -> Array:
    """s [B, x, y, F · channels]: κ times the root mean square over each node's points of a size [B, nx, ny, F]."""
    config = PRESETS[preset]
    batch = len(size)
    size = size.at[:, :, jnp.array([0, -1])].set(0)  # nothing is off on the walls
    points = jax.vmap(lambda a: to_patches(a[..., None], config.patch), -1, -1)(size)
    pooled = jnp.sqrt((points * points).mean(3))[..., None]  # [B, x, y, F, 1]
    return (pooled * trailing(space.gain, pooled).astype(size.dtype)).reshape(batch, *pooled.shape[1:3], -1)


def encoder_gain(preset: str, space: LatentSpace, guess: Array, truth: Array) -> Array:
    """κ (channels,): mean |E(truth) − E(guess)| over mean |truth − guess|, windows [B, nx, ny, F]."""
    channels = PRESETS[preset].channels
    apart = jnp.abs(encode_frames(preset, space, truth) - encode_frames(preset, space, guess))
    return apart.reshape(-1, channels).mean(0) / jnp.abs(truth - guess).mean()
