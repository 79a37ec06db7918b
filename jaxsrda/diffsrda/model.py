"""The conditional diffusion model as a pure object: network, parameters, normalization, and how samples are drawn."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from jaxsrda.core.checks import check_choice, check_positive
from jaxsrda.core.linalg import trailing
from jaxsrda.diffsrda.condition import Conditioning, mirror
from jaxsrda.diffsrda.covariance import ResidualCovariance
from jaxsrda.diffsrda.latent import LatentSpace, encode_frames, latent_nodes, units
from jaxsrda.diffsrda.prior import PRIORS
from jaxsrda.diffusion.denoiser import PARAMETRIZATIONS, Denoiser, precondition
from jaxsrda.flow.testbed import SYMMETRIES, Testbed
from jaxsrda.networks import NETWORKS, Features, Sizes
from jaxsrda.networks.autoencoder import PRESETS as AUTOENCODERS

TARGETS = ("residual", "direct", "regression")
MOST_DISTILLED = 2
"""Most steps of a student; with three or four the teacher itself is good."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What a model is.

    network: a name of `networks.NETWORKS`; priors: what its training windows came from; nx, ny: its grid;
    parametrization and sigma_data: of the denoiser (`diffusion.denoiser`); target: `residual`, diffusion around the
    conditioner's mean (Mardani et al. 2023, arXiv:2309.15214) in units of its scale, so that what is drawn has the same
    size everywhere; `direct`, around the first guess; or `regression`, that mean alone, which nothing is drawn from.
    distilled: steps that a student of another model draws in, 0 for a model that is no student.  latent: a preset of
    `networks.autoencoder` in whose latent the diffusion runs (Rombach et al. 2022, arXiv:2112.10752), empty for none.
    symmetries: those of the flow, which the mean is given; conditioning: what conditions hold, in which units.
    """

    network: str = "small"
    priors: tuple[str, ...] = ("dual",)
    nx: int = 128
    ny: int = 65
    parametrization: str = "edm"
    sigma_data: float = 1.3
    target: str = "residual"
    distilled: int = 0
    latent: str = ""
    symmetries: tuple[str, ...] = SYMMETRIES
    conditioning: Conditioning = Conditioning()  # noqa: RUF009 (frozen)

    def __post_init__(self):
        for name in ("priors", "symmetries"):  # lists, from JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if isinstance(self.conditioning, dict):
            object.__setattr__(self, "conditioning", Conditioning(**self.conditioning))
        for prior in self.priors:
            check_choice("prior", prior, PRIORS)
        check_choice("network", self.network, NETWORKS)
        check_choice("target", self.target, TARGETS)
        kind = NETWORKS[self.network]
        if self.target not in kind.targets:
            raise ValueError(
                f"target: network {self.network} can have {' or '.join(kind.targets)}, got {self.target}; choose one"
            )
        if not 0 <= self.distilled <= MOST_DISTILLED or (self.distilled and not kind.denoiser):
            raise ValueError(
                f"distilled: expected 0 to {MOST_DISTILLED} steps of a network of {', '.join(apart())}, got "
                f"{self.distilled} of {self.network}"
            )
        if self.conditioning.preset == "paper" and (self.latent or kind.guesses):
            what = f"latent {self.latent}" if self.latent else f"network {self.network}"
            raise ValueError(
                f"conditioning: {what} needs the first guess of every frame, expected conditioning full, got paper; "
                "take full, or a U-Net without a latent"
            )
        if self.distilled and self.target == "regression":
            raise ValueError("distilled: a regression draws nothing; distil a model with target residual or direct")
        if self.latent:
            check_choice("latent", self.latent, AUTOENCODERS)
            if not kind.latent or self.target == "regression" or self.distilled:
                raise ValueError(
                    f"latent: expected a network of {', '.join(apart())} with target residual or direct that is no "
                    f"student, got {self.network}, {self.target}"
                )
        check_choice("parametrization", self.parametrization, PARAMETRIZATIONS)
        check_positive("sigma_data", self.sigma_data)

    @classmethod
    def of(cls, testbed: Testbed, **options: Any) -> ModelConfig:
        """A model for a testbed's analysis grid, cadence and scales."""
        nx, ny = testbed.grid.shape
        plain = {"nx": nx, "ny": ny, "symmetries": testbed.symmetries, "conditioning": Conditioning.of(testbed)}
        return cls(**plain | options)

    @property
    def frames(self) -> int:
        """Frames of the target."""
        return self.conditioning.frames

    @property
    def channels(self) -> int:
        """Channels of the condition."""
        return self.conditioning.channels

    @property
    def drawn(self) -> tuple[int, int, int]:
        """Shape of what is drawn: a window, or its latent."""
        if not self.latent:
            return self.nx, self.ny, self.frames
        config = AUTOENCODERS[self.latent]
        return *latent_nodes(config, self.nx, self.ny), self.frames * config.channels


def apart() -> list[str]:
    """Names of the networks whose denoiser can be trained apart from the rest."""
    return [name for name, kind in NETWORKS.items() if kind.denoiser]


class Network(NamedTuple):
    """A network split into its definition and two pure functions of its parameters."""

    encode: Any  # (params, condition [B, nx, ny, C]) → Features
    denoise: Any  # (params, noisy [B, *drawn], level [B], Features, dropout key or None) → [B, *drawn]
    initial: Any  # (seed) → params


@functools.cache
def network(kind: ModelConfig, bfloat16: bool = False) -> Network:
    """The network of a model, as pure functions."""
    made = NETWORKS[kind.network]
    latent = AUTOENCODERS[kind.latent].channels if kind.latent else 0
    ahead = kind.conditioning.ahead
    quiet = () if ahead is None else (ahead,)
    sizes = Sizes(kind.frames, kind.channels, kind.nx, kind.ny, latent, quiet, bfloat16)

    def build(seed: int) -> Any:
        return made.build(sizes, seed)

    graph = nnx.graphdef(nnx.eval_shape(lambda: build(0)))

    def encode(params, condition: Array) -> Features:
        return nnx.merge(graph, params).encode(condition)

    def denoise(params, noisy: Array, level: Array, features: Features, key: Array | None = None) -> Array:
        module = nnx.merge(graph, params)
        return module(noisy, level, features, key=key) if made.drops else module(noisy, level, features)

    def initial(seed: int):
        return nnx.split(build(seed))[1]

    return Network(encode, denoise, initial)


def denoiser_part(kind: ModelConfig, params: Any) -> dict[str, Array]:
    """The parameters of the denoiser alone (`NetworkKind.denoiser`), path → array."""
    named = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    return {path: leaf for path, leaf in named.items() if path.split("'")[1] in NETWORKS[kind.network].denoiser}


def with_denoiser(params: Any, part: dict[str, Array]) -> Any:
    """All parameters, the denoiser's replaced by `part`."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: part.get(jax.tree_util.keystr(path), leaf), params)


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained model: configuration, parameters (an NNX state), the scale (frames,) of corrections, the autoencoder of
    a latent one, and the covariance of what it draws, where that was estimated."""

    config: ModelConfig
    params: Any
    scale: np.ndarray
    space: LatentSpace | None = None
    residual: ResidualCovariance | None = None

    @property
    def network(self) -> Network:
        """The network's pure functions, in float32 whatever it was trained in."""
        return network(self.config)


def conditional_denoiser(model: Model, features: Features) -> Denoiser:
    """D(x, σ) of one normalized sample x, given the features (batch axis of one) of one condition."""

    def raw(x: Array, level: Array) -> Array:
        return model.network.denoise(model.params, x[None], level[None], features)[0]

    return precondition(model.config.parametrization, raw, model.config.sigma_data)


def encode(model: Model, conditions: Array) -> Features:
    """Features of conditions (G, nx, ny, C), the mean and its scale averaged over the reflection if the flow has it.

    mean(c) ← ½ [mean(c) − R mean(S R c)],  R: y → π − y, S the signs of the channels: −ω(x, π − y) solves the same
    equation, so the average is as good an estimate and keeps the symmetry, which the network has learned but roughly.
    """
    kind = model.config
    if kind.target == "direct" or "reflection" not in kind.symmetries:
        return model.network.encode(model.params, conditions)
    mirrored = mirror(conditions, kind.conditioning)
    features = model.network.encode(model.params, jnp.concatenate([conditions, mirrored]))
    (mean, mirrored_mean), (scale, mirrored_scale) = (jnp.split(a, 2) for a in features[:2])
    return Features(
        (mean - mirrored_mean[:, :, ::-1]) / 2,
        (scale + mirrored_scale[:, :, ::-1]) / 2,
        tuple(level[: len(conditions)] for level in features.levels),
    )


def still_walls(scale: Array, ny: int) -> Array:
    """The scale (frames,) of corrections at every row, (ny, frames): zero on the walls, where vorticity is."""
    inside = jnp.ones((ny, 1), scale.dtype).at[jnp.array([0, -1])].set(0)
    return scale[None] * inside


def latent_estimate(kind: ModelConfig, space: LatentSpace, guess: Array, features: Features, scale: Array):
    """Where samples of a latent model lie, E(estimate), and their unit s (`latent.units`), [B, *drawn] each.

    The estimate is the guess [B, nx, ny, frames] plus the conditioner's mean, and s follows its scale; for target
    direct it is the guess alone, and s follows the scale (ny, frames) of corrections.
    """
    residual = kind.target == "residual"
    estimate = guess + features.mean * trailing(scale, guess) if residual else guess
    size = features.scale * trailing(scale, guess) if residual else jnp.broadcast_to(scale, guess.shape)
    return encode_frames(kind.latent, space, estimate), units(kind.latent, space, size)
