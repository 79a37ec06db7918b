"""Training of the autoencoders: loss, one jitted step, how well frames come back, and a fit that resumes."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core import draws
from jaxsrda.core.cache import cached_npz, content_hash, unfinished
from jaxsrda.core.records import key_of
from jaxsrda.core.trees import flatten, unflatten
from jaxsrda.diffsrda.latent import LatentSpace
from jaxsrda.diffsrda.weights import chosen
from jaxsrda.flow.testbed import SYMMETRIES, Level, Testbed
from jaxsrda.networks.autoencoder import PRESETS, AutoencoderConfig, functions
from jaxsrda.networks.codebook import (
    Codebook,
    codebook_losses,
    counted,
    first_codebook,
    follow,
    quantize,
    restart_dead,
    tallied,
    usage,
)
from jaxsrda.training import loop
from jaxsrda.training.course import direction, learning_rate
from jaxsrda.training.loop import Report
from jaxsrda.training.loss import TrainConfig
from jaxsrda.training.truths import training_runs

COUNTING = 0.99
"""Decay of the counts by which dead codes are known, where codes are trained by gradient."""


def autoencoder_training(samples: int = 30_000, seed: int = 0) -> TrainConfig:
    """How autoencoders are trained unless told."""
    return TrainConfig(samples=samples, learning_rate=2e-3, seed=seed)


def steps_of(training: TrainConfig) -> int:
    """Optimizer steps in all."""
    return max(1, training.samples // training.batch)


def batch_indices(training: TrainConfig, frames: int, step: int) -> np.ndarray:
    """Which frames a step takes: every one once an epoch, in an order that depends on seed and epoch alone."""
    epoch, place = divmod(step, max(1, frames // training.batch))
    order = np.random.default_rng([training.seed, epoch]).permutation(frames)
    return order[(place * training.batch) + np.arange(training.batch)]


class AutoencoderState(NamedTuple):
    """Parameters of the network, the codebook, the optimizer's state (of both), and steps done."""

    params: Any
    codebook: Codebook
    optimizer: Any
    step: Array


def reconstruction_loss(
    config: AutoencoderConfig, params: Any, codes: Array, key: Array, omega: Array
) -> tuple[Array, tuple[dict[str, Array], Array, Array]]:
    """The scalar loss of frames [B, nx, ny]; its parts, the latents before quantization, and the chosen codes' numbers.

    Mean |ω̂ − ω| over the scale of fields, plus
    ‖sg[z] − e‖² (unless codes follow by running averages) and the commitment β ‖z − sg[e]‖², or
    plus w · ½(μ² + σ² − ln σ² − 1), the divergence of the latent's law N(μ, σ²) from N(0, 1), for each number.
    """
    network = functions(config)
    latent = network.encode(params, omega)
    z, numbers = latent.mean, jnp.zeros(latent.mean.shape[:-1], jnp.int32)
    metrics = {}
    if config.codes:
        to_decode, numbers = quantize(codes, z)
        moved, committed = codebook_losses(codes, z, numbers)
        penalty = config.commitment * committed + (0.0 if config.decay else 1.0) * moved
        metrics["used"], metrics["perplexity"] = usage(tallied(numbers, config.codes))
    else:
        to_decode = z + jnp.exp(latent.log_variance / 2) * draws.normal(key, z.shape, z.dtype)
        divergence = 0.5 * (z**2 + jnp.exp(latent.log_variance) - latent.log_variance - 1).sum(-1).mean()
        penalty = config.divergence * divergence
        metrics["divergence"] = divergence
    off = jnp.abs(network.decode(params, to_decode) - omega).mean()
    metrics["relative_l1"] = off / jnp.abs(omega).mean()
    loss = off / config.field_scale + penalty
    return loss, ({"loss": loss, **metrics}, z, numbers)


def initial_autoencoder(config: AutoencoderConfig, training: TrainConfig) -> AutoencoderState:
    """The state before the first step."""
    params = functions(config).initial(training.seed)
    codebook = first_codebook(jax.random.key(training.seed), max(config.codes, 1), config.channels)
    moments = direction(training.clip, training.weight_decay).init((params, codebook.vectors))
    return AutoencoderState(params, codebook, moments, jnp.zeros((), jnp.int32))


def make_autoencoder_step(
    config: AutoencoderConfig, training: TrainConfig, symmetries: tuple[str, ...] = SYMMETRIES
) -> Callable:
    """step(state, frames [B, nx, ny]) → (state, metrics), jitted.

    Frames are shifted in x and reflected, −ω(x, π − y), at random, as far as these are symmetries of the flow.
    """
    rule, base = direction(training.clip, training.weight_decay), jax.random.key(training.seed)
    total = steps_of(training)

    def step(state: AutoencoderState, omega: Array) -> tuple[AutoencoderState, dict[str, Array]]:
        shift_key, side_key, noise_key, code_key = jax.random.split(jax.random.fold_in(base, state.step), 4)
        shifts = draws.integers(shift_key, (len(omega),), 0, omega.shape[1])
        sides = draws.coins(side_key, (len(omega), 1, 1))
        if "shift" in symmetries:
            omega = jax.vmap(functools.partial(jnp.roll, axis=0))(omega, shifts)
        if "reflection" in symmetries:
            omega = jnp.where(sides, -omega[:, :, ::-1], omega)

        def loss(trained):
            params, codes = trained
            return reconstruction_loss(config, params, codes, noise_key, omega)

        trained = (state.params, state.codebook.vectors)
        (_, (metrics, z, numbers)), gradient = jax.value_and_grad(loss, has_aux=True)(trained)
        updates, moments = rule.update(gradient, state.optimizer, trained)
        spent = state.step / jnp.float32(total)
        rate = learning_rate(training.learning_rate, spent, state.step, training.warmup_steps, training.cooling)
        params, vectors = jax.tree.map(lambda p, u: p - rate * u, trained, updates)
        codebook = state.codebook
        if config.codes:
            codebook = counted(codebook, z, numbers, config.decay or COUNTING)
            codebook = follow(codebook) if config.decay else codebook._replace(vectors=vectors)
            codebook = restart_dead(codebook, code_key, z, config.least)
        return AutoencoderState(params, codebook, moments, state.step + 1), metrics

    return jax.jit(step, donate_argnums=0)


@dataclasses.dataclass(frozen=True)
class FittedAutoencoder:
    """A trained autoencoder: parameters, codes, curve, scores on validation frames, seconds of training."""

    params: Any
    codes: np.ndarray
    curve: list[dict[str, float]]
    milestones: list[dict[str, float]]
    validation: dict[str, float]
    seconds: float


def fit_autoencoder(
    folder: Path,
    preset: str,
    training: TrainConfig,
    frames: np.ndarray,
    held_out: np.ndarray,
    report: Report = lambda *_: None,
    symmetries: tuple[str, ...] = SYMMETRIES,
) -> FittedAutoencoder:
    """Train on frames (n, nx, ny) in `folder`, going on from its last checkpoint; `loop.run` says what is raised.

    ValueError for fewer frames than a batch, and for a budget of minutes.
    """
    config = PRESETS[preset]
    if training.minutes:
        raise ValueError(f"minutes: an autoencoder's training is measured in samples, got {training.minutes} minutes")
    if len(frames) < training.batch:
        raise ValueError(f"training: {len(frames)} frames are less than a batch of {training.batch}; use more runs")
    start = initial_autoencoder(config, training)
    data = [content_hash(part[:: max(1, len(part) // 8)].tobytes().hex()) for part in (frames, held_out)]
    mark = json.dumps([preset, dataclasses.asdict(config), dataclasses.asdict(training), data])

    def batch(i: int) -> Array:
        return jnp.asarray(frames[batch_indices(training, len(frames), i)], jnp.float32)

    @jax.jit
    def validated(params: Any, codes: Array, omega: Array) -> dict[str, Array]:
        back, numbers = reconstruct(config, params, codes, omega)
        parts = {"error": jnp.abs(back - omega).sum(), "size": jnp.abs(omega).sum()}
        if config.codes:
            parts["counts"] = tallied(numbers, config.codes)
        return parts

    def score(state: AutoencoderState) -> dict[str, float]:
        pieces = range(0, len(held_out), training.batch)
        parts = [
            validated(state.params, state.codebook.vectors, jnp.asarray(held_out[i : i + training.batch], jnp.float32))
            for i in pieces
        ]
        total = {name: np.sum([np.asarray(part[name], np.float64) for part in parts], axis=0) for name in parts[0]}
        scores = {"relative_l1": float(total["error"] / total["size"])}
        if config.codes:
            used, perplexity = usage(jnp.asarray(total["counts"], jnp.float32))
            scores |= {"used": float(used), "perplexity": float(perplexity)}
        return scores

    step = make_autoencoder_step(config, training, symmetries)
    course = loop.run(folder, mark, loop.Work(start, step, batch, score, steps_of(training), training.batch), report)
    codes = np.asarray(course.state.codebook.vectors) if config.codes else np.zeros((0, config.channels), np.float32)
    return FittedAutoencoder(
        course.state.params, codes, course.curve, course.milestones, course.milestones[-1], course.seconds
    )


def trained_space(
    preset: str,
    testbed: Testbed,
    level: Level,
    runs: int,
    held_out: int,
    training: TrainConfig,
    report: Report = lambda *_: None,
) -> tuple[LatentSpace, dict[str, Any]]:
    """An autoencoder trained on the frames of training runs, its last `held_out` runs kept apart, and its record.

    Kept in the cache, so it is trained once for each configuration; a killed training goes on.  Its gain is one until
    it is measured on windows (`latent.encoder_gain`).
    """
    named = [testbed.numerics(level), testbed.grid.shape, testbed.symmetries]
    name = key_of(PRESETS[preset], training, named, runs, held_out)

    def compute() -> dict[str, np.ndarray]:
        omega = training_runs(testbed, level, runs)
        folder = unfinished(f"autoencoder-{preset}", name)
        frames, held = (part.reshape(-1, *omega.shape[2:]) for part in (omega[:-held_out], omega[-held_out:]))
        fitted = fit_autoencoder(folder, preset, training, frames, held, report, testbed.symmetries)
        record = {
            "preset": preset,
            "config": dataclasses.asdict(PRESETS[preset]),
            "training": dataclasses.asdict(training),
            "frames": len(frames),
            "samples": steps_of(training) * training.batch,
            "milestones": fitted.milestones,
            "validation": fitted.validation,
            "seconds": fitted.seconds,
        }
        weights = {f"params.{n}": np.asarray(a) for n, a in flatten(fitted.params).items()}
        return weights | {"codes": fitted.codes, "record": np.array(json.dumps(record))}

    arrays = cached_npz(f"autoencoder-{preset}", name, compute)
    config = PRESETS[preset]
    params = unflatten(functions(config).initial, chosen("params", arrays), "cache", f"autoencoder {preset!r}")
    space = LatentSpace(params, jnp.asarray(arrays["codes"]), jnp.ones(config.channels, jnp.float32))
    return space, json.loads(str(arrays["record"]))


def reconstruct(config: AutoencoderConfig, params: Any, codes: Array, omega: Array) -> tuple[Array, Array]:
    """Frames [B, nx, ny] after encoding and decoding, and the numbers of the codes between (zeros without codes)."""
    network = functions(config)
    z = network.encode(params, omega).mean
    numbers = jnp.zeros(z.shape[:-1], jnp.int32)
    if config.codes:
        z, numbers = quantize(codes, z)
    return network.decode(params, z), numbers
