"""Training: the loss, one jitted step, averages of the weights, and a loop that resumes after a kill."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxsrda.core import draws
from jaxsrda.core.checks import check_choice, check_positive, check_seed
from jaxsrda.core.records import renamed
from jaxsrda.diffsrda.latent import LatentSpace, encode_frames
from jaxsrda.diffsrda.model import ModelConfig, denoiser_part, latent_estimate, network, still_walls, with_denoiser
from jaxsrda.diffusion.denoiser import LOSSES, edm_loss_sigma, preconditioning, training_target, vp_loss_sigma
from jaxsrda.training.distillation import distillation_loss
from jaxsrda.training.one_pass import one_pass_loss
from jaxsrda.training.windows import Windows, augment

SIGMAS = ("lognormal", "vp")
PARTS = ("all", "denoiser")


@renamed(levels="sigmas")
@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a model is trained.

    samples: windows seen in all; batch; learning_rate, warmup (fraction of the steps), then a cosine to 1 % of
    it; weight_decay; clip: largest norm of a gradient; noises: noise levels for each window and step; loss: of the
    denoiser (`diffusion.denoiser.LOSSES`), or `crps`: a student of one step that learns from the windows themselves
    (`one_pass`) and not from a teacher; sigmas: noise levels, `vp`, uniform in t on that schedule (arXiv:2006.11239,
    algorithm 1), or `lognormal`, ln σ ~ N(p_mean, p_std²) (arXiv:2206.00364, table 1); regression: weight of the
    conditioner's losses; part: what is trained, `all` or the `denoiser` alone (a student takes `noises` paths a window
    and has no use for loss, sigmas or regression); bfloat16: compute in it, weights stay float32; half_lives: of the
    averages of the weights, in samples; seed.
    """

    samples: int = 50_000
    batch: int = 16
    learning_rate: float = 1e-3
    warmup: float = 0.02
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
    half_lives: tuple[int, ...] = (2_000, 8_000)
    seed: int = 0

    def __post_init__(self):
        for name in ("samples", "batch", "noises"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        check_choice("loss", self.loss, (*LOSSES, "crps"))
        check_choice("sigmas", self.sigmas, SIGMAS)
        check_choice("part", self.part, PARTS)
        check_positive("learning_rate", self.learning_rate)
        check_seed("seed", self.seed)

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return max(1, self.samples // self.batch)


class TrainState(NamedTuple):
    """Parameters, the optimizer's state, averages of the parameters, and steps done."""

    params: Any
    optimizer: Any
    averages: tuple[Any, ...]
    step: Array


def optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101): linear warm-up, cosine decay, clipped gradients."""

    def matrices(params):  # biases and norms do not decay
        return jax.tree.map(lambda a: a.ndim > 1, params)

    warmup = max(1, int(config.warmup * config.steps))
    rate = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warmup, max(config.steps, warmup + 1), 0.01 * config.learning_rate
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(rate, b2=0.99, weight_decay=config.weight_decay, mask=matrices),
    )


def initial_state(model: ModelConfig, config: TrainConfig, params: Any = None) -> TrainState:
    """The state before the first step; params: weights to go on from instead of random ones (all of them)."""
    params = network(model).initial(config.seed) if params is None else params
    if config.part == "denoiser":
        params = denoiser_part(model, params)
    params = jax.tree.map(jnp.copy, params)  # the step reuses its buffers, and the caller may need them
    return TrainState(
        params,
        optimizer(config).init(params),
        tuple(jax.tree.map(jnp.copy, params) for _ in config.half_lives),
        jnp.int32(0),
    )


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
    target = windows.correction.astype(jnp.float32) / norm
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


def make_train_step(
    model: ModelConfig, config: TrainConfig, scale: np.ndarray, frozen: Any = None, space: LatentSpace | None = None
):
    """step(state, key, windows) → (state, metrics), jitted; the state's buffers are reused."""
    rule = optimizer(config)
    decays = [0.5 ** (config.batch / half_life) for half_life in config.half_lives]

    def step(fixed: Any, state: TrainState, key: Array, windows: Windows) -> tuple[TrainState, dict[str, Array]]:
        loss = objective(model, config, scale, *fixed)
        augment_key, loss_key = jax.random.split(jax.random.fold_in(key, state.step))
        windows = augment(augment_key, windows, model.conditioning, model.symmetries)
        (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(state.params, loss_key, windows)
        updates, moments = rule.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        # Early on an average over all steps so far, so that it forgets the random start.
        count = state.step.astype(jnp.float32)
        averages = []
        for decay, average in zip(decays, state.averages, strict=True):
            keep = jnp.minimum(decay, (1 + count) / (10 + count))
            averages.append(jax.tree.map(lambda a, p, keep=keep: keep * a + (1 - keep) * p, average, params))
        metrics["gradient"] = optax.tree.norm(gradient)
        return TrainState(params, moments, tuple(averages), state.step + 1), metrics

    return functools.partial(jax.jit(step, donate_argnums=1), (frozen, space))


def batch_indices(config: TrainConfig, windows: int, step: int) -> np.ndarray:
    """Which windows a step takes: every window once an epoch, in an order that depends on seed and epoch alone."""
    per_epoch = max(1, windows // config.batch)
    epoch, place = divmod(step, per_epoch)
    order = np.random.default_rng([config.seed, epoch]).permutation(windows)
    return order[(place * config.batch) + np.arange(config.batch)] if windows >= config.batch else order
