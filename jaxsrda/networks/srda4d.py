"""4D-SRDA: the deterministic convolution + transformer network that DiffSRDA is compared with.

Each frame is encoded by strided convolutions (2 × 2 points to one node, four times) to a short vector, a transformer
exchanges these between the frames, and a decoder brings them back, joined by the inputs before its last layer.

After the description in Yasuda & Onishi (2023, doi:10.1029/2023MS003658) and Ayapilla et al. (2026,
arXiv:2604.21180); what they leave open (normalization, the length of the vector) is chosen here.  It estimates a
mean: there is no denoiser.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxsrda.core.linalg import trailing
from jaxsrda.networks.layers import Conv, Dense, GroupNorm, from_patches, to_patches, upsample
from jaxsrda.networks.registry import NetworkKind, Sizes, register_network
from jaxsrda.networks.unet import Features


@dataclasses.dataclass(frozen=True)
class SRDAConfig:
    """Sizes of 4D-SRDA.

    frames: of the target, whose first guesses lead the condition; channels: of the condition; nx, ny: of the grid;
    widths: channels of the stages, each of half the resolution; token: length of a frame's vector; blocks: of the
    transformer; quiet: channels whose first weights are zero (as in `unet.UNetConfig`).
    ValueError for a grid that cannot be halved so often.
    """

    frames: int
    channels: int
    nx: int
    ny: int
    widths: tuple[int, ...] = (64, 128, 256, 128)
    token: int = 512
    blocks: int = 4
    quiet: tuple[int, ...] = ()
    bfloat16: bool = False

    def __post_init__(self):
        factor = 2 ** len(self.widths)
        if self.nx % factor or (self.ny - 1) % factor:
            raise ValueError(
                f"grid: expected nx and ny − 1 to be multiples of {factor} ({len(self.widths)} halvings), got "
                f"{self.nx} × {self.ny}"
            )
        if self.token % 32:
            raise ValueError(f"token: expected a multiple of 32 (heads), got {self.token}")

    @property
    def nodes(self) -> tuple[int, int]:
        """The coarsest grid."""
        factor = 2 ** len(self.widths)
        return self.nx // factor, (self.ny - 1) // factor + 1


PRESETS: dict[str, dict] = {
    "4dsrda-small": {"widths": (32, 64, 128, 64), "token": 192, "blocks": 2},
    "4dsrda": {},
}
"""`4dsrda` has the paper's widths; `4dsrda-small` half of them, for a CPU and for weights that ship."""


def layer_norm(x: Array, scale: Array, bias: Array) -> Array:
    """Normalization over the last axis (Ba et al. 2016, arXiv:1607.06450), in float32."""
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(-1, keepdims=True)
    normal = centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return (normal * trailing(scale, x) + trailing(bias, x)).astype(x.dtype)


class TokenBlock(nnx.Module):
    """A pre-norm transformer block over tokens [B, frames, d] (Xiong et al. 2020, arXiv:2002.04745)."""

    def __init__(self, width: int, head: int = 32, *, rngs):
        self.scales = nnx.Param(jnp.ones((2, width), jnp.float32))
        self.biases = nnx.Param(jnp.zeros((2, width), jnp.float32))
        self.qkv = Dense(width, 3 * width, rngs=rngs)
        self.out = Dense(width, width, scale=1e-2, rngs=rngs)
        self.wide = Dense(width, 4 * width, rngs=rngs)
        self.narrow = Dense(4 * width, width, scale=1e-2, rngs=rngs)
        self.heads = width // head

    def __call__(self, x: Array) -> Array:
        batch, frames, width = x.shape
        normal = layer_norm(x, self.scales[0], self.biases[0])
        qkv = self.qkv(normal).reshape(batch, frames, 3, self.heads, width // self.heads)
        query, key, value = (qkv[:, :, i] for i in range(3))
        logits = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits * query.shape[-1] ** -0.5, axis=-1).astype(x.dtype)
        x = x + self.out(jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(x.shape))
        return x + self.narrow(jax.nn.gelu(self.wide(layer_norm(x, self.scales[1], self.biases[1]))))


class SRDA(nnx.Module):
    """The network; `encode` has the interface of `unet.UNet.encode`."""

    def __init__(self, config: SRDAConfig, *, rngs: nnx.Rngs):
        self.config = config
        widths, shared = config.widths, config.channels - config.frames
        steps = list(itertools.pairwise(widths))
        flat = config.nodes[0] * config.nodes[1] * widths[-1]
        self.own, self.shared = (Conv(4 * n, widths[0], size=1, rngs=rngs) for n in (1, shared))
        self.down = nnx.List([Conv(4 * fine, coarse, size=1, rngs=rngs) for fine, coarse in steps])
        self.down_norms = nnx.List([GroupNorm(width) for width in widths])
        self.to_token, self.from_token = Dense(flat, config.token, rngs=rngs), Dense(config.token, flat, rngs=rngs)
        self.places = nnx.Param(0.02 * jax.random.normal(rngs.params(), (config.frames, config.token), jnp.float32))
        self.blocks = nnx.List([TokenBlock(config.token, rngs=rngs) for _ in range(config.blocks)])
        self.up = nnx.List([Conv(a, b, rngs=rngs) for a, b in itertools.pairwise(widths[::-1])])
        self.up_norms = nnx.List([GroupNorm(width) for width in widths[-2::-1]])
        self.own_skip, self.shared_skip = (Conv(4 * n, widths[0], size=1, rngs=rngs) for n in (1, shared))
        for layer in (self.shared, self.shared_skip):
            rows = layer.kernel[...].reshape(4, shared, widths[0])
            rows = rows.at[:, jnp.asarray(config.quiet, jnp.int32) - config.frames].set(0)
            layer.kernel[...] = rows.reshape(layer.kernel.shape)
        self.norm = GroupNorm(widths[0])
        self.head = Conv(widths[0], 4, scale=1e-2, rngs=rngs)

    def encode(self, condition: Array) -> Features:
        """The mean [B, nx, ny, frames] for a condition [B, nx, ny, channels]; scale one, no features."""
        config = self.config
        batch, nx, ny, _ = condition.shape
        dtype = jnp.bfloat16 if config.bfloat16 else jnp.float32
        # Every frame sees its own guess and all else that is known, which is looked at once.
        guesses = jnp.moveaxis(condition[..., : config.frames], -1, 1).reshape(-1, nx, ny, 1)
        own = to_patches(guesses.astype(dtype), 2)
        shared = to_patches(condition[..., config.frames :].astype(dtype), 2)

        def join(own: Array, shared: Array) -> Array:
            return own + jnp.repeat(shared, config.frames, axis=0)

        x = join(self.own(own), self.shared(shared))
        for conv, norm in zip((None, *self.down), self.down_norms):
            x = x if conv is None else conv(to_patches(x, 2))
            x = jax.nn.silu(norm(x))
        tokens = self.to_token(x.reshape(batch, config.frames, -1)) + self.places[...][None].astype(dtype)
        for block in self.blocks:
            tokens = block(tokens)
        x = x + self.from_token(tokens).reshape(x.shape)
        for conv, norm in zip(self.up, self.up_norms):
            x = jax.nn.silu(norm(conv(upsample(x))))
        x = x + join(self.own_skip(own), self.shared_skip(shared))
        x = from_patches(self.head(jax.nn.silu(self.norm(x))), 2)
        mean = jnp.moveaxis(x.reshape(batch, config.frames, nx, ny), 1, -1).astype(condition.dtype)
        return Features(mean, jnp.ones_like(mean), ())

    def __call__(self, noisy: Array, level: Array, features: Features) -> Array:
        """There is nothing to denoise with: ValueError."""
        raise ValueError("4dsrda: this network estimates a mean alone; use target regression and sampler mean")


def _build(name: str, sizes: Sizes, seed: int) -> SRDA:
    config = SRDAConfig(
        sizes.frames,
        sizes.channels,
        sizes.nx,
        sizes.ny,
        quiet=sizes.quiet,
        bfloat16=sizes.bfloat16,
        **PRESETS[name],
    )
    return SRDA(config, rngs=nnx.Rngs(seed))


for _name in PRESETS:
    register_network(_name, NetworkKind(functools.partial(_build, _name), ("regression",), guesses=True))
