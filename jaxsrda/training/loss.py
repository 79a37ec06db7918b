"""What a training minimizes, and how it goes: the loss of a batch of windows, and its settings."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core import draws
from jaxsrda.core.checks import check_choice, check_fraction, check_positive, check_seed
from jaxsrda.core.linalg import trailing
from jaxsrda.core.records import renamed
from jaxsrda.diffsrda.latent import LatentSpace, encode_frames
from jaxsrda.diffsrda.model import ModelConfig, latent_estimate, network, still_walls, with_denoiser
from jaxsrda.diffusion.denoiser import LOSSES, edm_loss_sigma, preconditioning, training_target, vp_loss_sigma
from jaxsrda.training.course import exponent
from jaxsrda.training.distillation import distillation_loss
from jaxsrda.training.one_pass import one_pass_loss
from jaxsrda.training.windows import Windows

SIGMAS = ("lognormal", "vp")
PARTS = ("all", "denoiser")


@renamed(levels="sigmas", half_lives="averages, relative lengths")
@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a model is trained.

    samples: windows seen in all, or minutes: of wall time, which takes the place of samples where it is not 0; batch;
    learning_rate: reached after `warmup` steps, constant, then falling to zero over the last part `cooling` of the
    budget (`course.learning_rate`); averages: relative lengths of the weights' averages (`course.keep`), the first of
    which cycles; weight_decay; clip: largest norm of a gradient; noises: noise levels for each window and step; loss:
    of the denoiser (`diffusion.denoiser.LOSSES`), or `crps`: a student of one step that learns from the windows
    themselves (`one_pass`) and not from a teacher; sigmas: noise levels, `vp`, uniform in t on that schedule
    (arXiv:2006.11239, algorithm 1), or `lognormal`, ln σ ~ N(p_mean, p_std²) (arXiv:2206.00364, table 1); regression:
    weight of the conditioner's losses; part: what is trained, `all` or the `denoiser` alone (a student takes `noises`
    paths a window and has no use for loss, sigmas or regression); bfloat16: compute in it, weights stay float32; seed.
    """

    samples: int = 50_000
    minutes: float = 0.0
    batch: int = 16
    learning_rate: float = 1e-3
    warmup: int = 200
    cooling: float = 0.3
    averages: tuple[float, ...] = (0.1, 0.03)
    weight_decay: float = 1e-2
    clip: float = 1.0
    noises: int = 2
    loss: str = "l2"
    sigmas: str = "lognormal"
    p_mean: float = 0.6
    p_std: float = 1.4
    regression: float = 1.0
    part: str = "all"
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self):
        for name in ("samples", "batch", "noises"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.minutes:
            check_positive("minutes", self.minutes)
        if self.warmup < 0 or self.warmup != int(self.warmup):
            raise ValueError(f"warmup: expected a number of steps, 0 or more, got {self.warmup}")
        check_fraction("cooling", self.cooling)
        for length in self.averages:
            exponent(length)
        check_choice("loss", self.loss, (*LOSSES, "crps"))
        check_choice("sigmas", self.sigmas, SIGMAS)
        check_choice("part", self.part, PARTS)
        check_positive("learning_rate", self.learning_rate)
        check_seed("seed", self.seed)

    @property
    def warmup_steps(self) -> int:
        """Steps of the warm-up, no more than a tenth of a budget of samples."""
        return int(self.warmup if self.minutes else min(self.warmup, self.samples // self.batch // 10))

    def spent(self, seconds: float, samples: int) -> float:
        """The fraction of the budget that is spent, from 0 to 1."""
        return min(1.0, seconds / (60 * self.minutes) if self.minutes else samples / self.samples)


def window_loss(
    model: ModelConfig,
    config: TrainConfig,
    norm: Array,
    params: Any,
    key: Array,
    windows: Windows,
    training: bool = True,
    space: LatentSpace | None = None,
) -> tuple[Array, dict[str, Array]]:
    """The scalar loss of a batch of windows whose corrections are divided by `norm` (frames,), and its parts.

    regression: L1 of the conditioner's mean, which a residual model diffuses around; scale: |target − mean|/b + ln b of
    its scale b, the likelihood of Laplace's law around a mean taken as given; diffusion: the error (`loss`) of the
    denoiser's network against its target, averaged over `noises` levels (not for a regression).
    training: features are dropped, where the network does so.  space: the autoencoder of a latent model, which stays.
    """
    net = network(model, config.bfloat16)
    target = windows.correction.astype(jnp.float32) / trailing(norm, windows.correction)
    features = net.encode(params, windows.condition.astype(jnp.float32))
    off = target - features.mean
    regression = jnp.abs(off).mean()
    left = jax.lax.stop_gradient(off)
    scale = (jnp.abs(left) / features.scale + jnp.log(features.scale)).mean()
    metrics = {"regression": regression, "scale": scale}
    if model.target == "regression":
        return regression + scale, {"loss": regression + scale, **metrics}
    if space is not None:
        clean = latent_target(model, space, norm, windows, jax.lax.stop_gradient(features))
    else:
        clean = left / jax.lax.stop_gradient(features.scale) if model.target == "residual" else target
    noise_key, level_key, drop_key = jax.random.split(key, 3)
    repeat = functools.partial(jnp.repeat, repeats=config.noises, axis=0)
    clean, features = repeat(clean), jax.tree.map(repeat, features)
    # Batched by hand: a vmap would make one gradient of the weights for each sample before adding them up.
    level_shape = (len(clean), 1, 1, 1)
    if config.sigmas == "vp":
        sigma = vp_loss_sigma(level_key, level_shape, dtype=clean.dtype)
    else:
        sigma = edm_loss_sigma(level_key, level_shape, config.p_mean, config.p_std, clean.dtype)
    noise = draws.normal(noise_key, clean.shape, clean.dtype)
    c = preconditioning(model.parametrization, sigma, model.sigma_data)
    wanted = training_target(model.parametrization, clean, noise, sigma, model.sigma_data)
    level = jnp.broadcast_to(c.level, level_shape).reshape(-1)
    predicted = net.denoise(params, c.scale * (clean + sigma * noise), level, features, drop_key if training else None)
    diffusion = LOSSES[config.loss](predicted, wanted)
    total = diffusion + config.regression * (regression + scale)
    return total, {"loss": total, **metrics, "diffusion": diffusion}


def latent_target(model: ModelConfig, space: LatentSpace, norm: Array, windows: Windows, features: Any) -> Array:
    """What a latent model learns to draw: r = (E(truth) − E(estimate))/s, [B, *drawn] (`model.latent_estimate`)."""
    guess = windows.condition[..., : model.frames].astype(jnp.float32) * model.conditioning.field_scale
    centre, unit = latent_estimate(model, space, guess, features, still_walls(norm, model.ny))
    truth = encode_frames(model.latent, space, guess + windows.correction.astype(jnp.float32))
    return jax.lax.stop_gradient((truth - centre) / unit)


def check_loss(model: ModelConfig, config: TrainConfig) -> None:
    """ValueError for a `crps` that is not of a student of one step, or of fewer than 2 members."""
    if config.loss != "crps":
        return
    if model.distilled != 1:
        raise ValueError(
            f"loss: crps is that of a student of one step, expected distilled 1 with it, got {model.distilled}"
        )
    if config.noises < 2:
        raise ValueError(f"noises: the fair CRPS compares members, expected 2 or more, got {config.noises}")


Loss = Callable[..., tuple[Array, dict[str, Array]]]
"""loss(params, key, windows, training) → (scalar, its parts)."""


def objective(
    model: ModelConfig, config: TrainConfig, scale: np.ndarray, frozen: Any = None, space: LatentSpace | None = None
) -> Loss:
    """What a training minimizes: `window_loss`, or `distillation_loss` for a student.

    frozen: all parameters of the model that the trained ones are a part of (`part` denoiser; a student's teacher).
    space: the autoencoder of a latent model.
    """
    check_loss(model, config)
    norm = jnp.asarray(scale, jnp.float32)

    def loss(params: Any, key: Array, windows: Windows, training: bool = True):
        if model.distilled and config.loss == "crps":
            return one_pass_loss(model, frozen, params, norm, key, windows, config.noises, config.bfloat16)
        if model.distilled:
            return distillation_loss(model, frozen, params, key, windows, config.noises, config.bfloat16)
        whole = params if config.part == "all" else with_denoiser(frozen, params)
        return window_loss(model, config, norm, whole, key, windows, training, space)

    return loss
