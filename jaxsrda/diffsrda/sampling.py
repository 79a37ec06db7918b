"""How a model draws an ensemble: noise levels, where samples lie, the sensors that guide them, and the draw itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core.checks import check_shape
from jaxsrda.diffsrda.condition import CHANNELS, FIELD_SCALE, FRAMES, krige
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.covariance import channel_covariance, smoothing
from jaxsrda.diffsrda.latent import decode_frames
from jaxsrda.diffsrda.model import Model, ModelConfig, conditional_denoiser, encode, latent_estimate, still_walls
from jaxsrda.diffsrda.step import Draw
from jaxsrda.diffusion.denoiser import Denoiser
from jaxsrda.diffusion.guidance.table import GUIDES
from jaxsrda.diffusion.samplers import sample_members
from jaxsrda.diffusion.schedules import sigma_grid, student_sigmas
from jaxsrda.flow.grid import ChannelGrid, bases
from jaxsrda.networks.unet import Features
from jaxsrda.observing.observations import Observations, predict
from jaxsrda.observing.operators import Operator, vorticity, vorticity_spectral

RESIDUAL_SPECTRUM = (58.0, 8.5)
"""a and k₀ of the variance a exp(−k/k₀) of what the released model draws, in orthonormal coefficients."""

RESIDUAL_CORRELATION = (1.0, 0.22, 0.10, 0.08, 0.06)
"""Its correlation between frames, by lag (`benchmarks/residual_covariance.py`)."""


def sampling_levels(kind: ModelConfig, config: DiffSRDAConfig) -> np.ndarray:
    """The noise levels that a model draws by; ValueError for a sampler or steps that it was not made for."""
    if kind.target == "regression" and config.sampler != "mean":
        raise ValueError(
            f"sampler: these weights are a regression, expected sampler mean with them, got {config.sampler}; "
            "train on with target residual for samples"
        )
    if kind.distilled and config.sampler != "mean" and config.steps != kind.distilled:
        raise ValueError(
            f"steps: these weights were distilled to {kind.distilled}, expected as many, got {config.steps}; "
            f"say steps {kind.distilled}"
        )
    if kind.distilled and config.sampler not in ("mean", "dpmpp-2m"):
        raise ValueError(f"sampler: a student's steps are those of dpmpp-2m, got {config.sampler}; leave it out")
    if kind.distilled:
        return student_sigmas(kind.distilled)
    if config.noise == "vp":
        return sigma_grid("vp", config.steps)
    return sigma_grid(config.noise, config.steps, config.sigma_min, config.sigma_max)


def placement(
    model: Model, conditions: Array, features: Features, scale: Array, frames: int = FRAMES
) -> Callable[[Array], Array]:
    """What samples are corrections of: normalized samples (M, *drawn) → corrections (M, nx, ny, frames) to the guess.

    On the grid μ + scale · r, with the conditioner's mean and scale for target residual, zero and one for direct; on a
    latent D(E(estimate) + s r) − guess (`latent_estimate`).  conditions, features: (1 or M, …); scale: (ny, 5); frames:
    how many are wanted, from t on, the fewer the cheaper.
    """
    kind, space = model.config, model.space
    features = features._replace(mean=features.mean[..., :frames], scale=features.scale[..., :frames])
    scale = scale[..., :frames]
    if space is None:
        if kind.target != "residual":
            return lambda drawn: drawn[..., :frames] * scale
        return lambda drawn: (features.mean + features.scale * drawn[..., :frames]) * scale
    guess, numbers = conditions[..., :frames] * FIELD_SCALE, frames * kind.drawn[-1] // FRAMES
    centre, unit = latent_estimate(kind, space, guess, features, scale)
    return lambda drawn: decode_frames(kind.latent, space, centre + unit * drawn[..., :numbers]) - guess


def guiding(observations: Observations | None, guide_on: str) -> Observations | None:
    """The sensors that guide, as those that are there: the `new` ones or `all`; None if there are none."""
    if observations is None:
        return None
    if guide_on == "all":
        new = False if observations.guides is None else observations.guides
        return observations._replace(mask=observations.mask | new)
    return None if observations.guides is None else observations._replace(mask=observations.guides)


def geometric(ends: tuple[float, float], sigmas: np.ndarray) -> Callable[[Array], Array]:
    """σ → width, from one end at the first level to the other at the last that is evaluated, geometric in σ."""
    first, last = float(sigmas[0]), float(sigmas[max(len(sigmas) - 2, 1)])
    power = float(np.log(ends[1] / ends[0]) / np.log(last / first)) if last > 0 else 0.0
    return lambda sigma: ends[0] * (sigma / first) ** power


def guidance_options(
    kind: ModelConfig, config: DiffSRDAConfig, sigmas: np.ndarray, strength: Array | None
) -> dict[str, Any]:
    """What a method of guidance is told: its strength, for `blend` where it is hard and a blur over points, or nodes of
    a latent, and for `oi` the covariance of what is drawn (as if white but for residuals on the grid)."""
    options: dict[str, Any] = {}
    spectral = kind.target == "residual" and not kind.latent
    chosen = config.strength if strength is None else strength
    if chosen is not None:
        options["strength"] = chosen
    elif config.guidance in ("lifted", "pigdm"):
        options["strength"] = kind.sigma_data
    elif config.guidance == "oi" and not spectral:
        options["strength"] = kind.sigma_data**2
    if config.iterations is not None:
        options["iterations"] = config.iterations
    if config.guidance == "oi" and spectral:
        grid = ChannelGrid(kind.nx, kind.ny)
        size, decay = RESIDUAL_SPECTRUM
        lags = np.abs(np.subtract.outer(np.arange(FRAMES), np.arange(FRAMES)))
        variances = size * np.exp(-np.sqrt(bases(grid).k2) / decay)
        options["covariance"] = channel_covariance(grid, variances, np.array(RESIDUAL_CORRELATION)[lags])
    if config.guidance == "blend":
        nodes = kind.nx // kind.drawn[0]  # grid points between two nodes of a latent
        width = geometric((config.blur[0] / nodes, config.blur[1] / nodes), sigmas)
        options["blur"] = smoothing(width, *kind.drawn[:2])
        if config.hard_steps:
            options["hard_below"] = float(sigmas[-1 - config.hard_steps]) * 1.0001  # float32 may round the level up
    return options


def make_draw(
    model: Model,
    config: DiffSRDAConfig,
    eta: Array | None = None,
    members: int | None = None,
    operator: Operator = vorticity,
    guide_operator: Operator | None = None,
    strength: Array | None = None,
) -> Draw:
    """draw(key, conditions (G, nx, ny, C), observations) → corrections (members, 5, nx, ny) to the guess, in vorticity.

    G is 1 (one condition for all samples, encoded once) or the number of members.  eta, strength (traced) and members:
    instead of the configuration's.  With sampler `mean` a model that estimates a mean draws nothing: every member is
    that mean.  operator, guide_operator: what observations measure, and those of them that guide, by default the same.
    At a time when no sensor guides samples are as without guidance.
    ValueError for a regression with any other sampler, for a student with other steps than its own, and for guidance
    `projected` of sensors that do not measure vorticity.
    """
    kind = model.config
    sigmas = sampling_levels(kind, config)
    kriged = (guide_operator or operator, operator) if config.guide_on == "all" else (guide_operator or operator,)
    if config.guidance == "projected" and not all(each in (vorticity, vorticity_spectral) for each in kriged):
        raise ValueError(
            "guidance: projected kriges misfits of vorticity; for other operators take a method of each step"
        )
    scale = still_walls(jnp.asarray(model.scale, jnp.float32), kind.ny)
    members = config.members if members is None else members
    grid = ChannelGrid(kind.nx, kind.ny)
    options = guidance_options(kind, config, sigmas, strength)

    def draw(key: Array, conditions: Array, observations: Observations | None = None) -> Array:
        check_shape("conditions", conditions, (None, kind.nx, kind.ny, CHANNELS))
        if observations is None and config.guidance != "none":
            raise ValueError(f"guidance: {config.guidance} needs observations, got none; pass them to draw")
        found = guiding(observations, config.guide_on)
        guidance = "none" if found is None else config.guidance
        guide = guidance if callable(guidance) else GUIDES.get(guidance)  # of each step
        sensors = cast(Observations, found)  # looked at by guidance alone
        guided = False if guide is None else sensors.mask.any()
        features = encode(model, conditions)
        by_frame = scale.astype(conditions.dtype)
        mean = features.mean * by_frame
        if kind.target != "direct" and config.sampler == "mean":
            return jnp.moveaxis(jnp.broadcast_to(mean, (members, *mean.shape[1:])), -1, 1)

        def measure(omega: Array) -> Array:
            return predict(grid, omega, sensors, operator, guide_operator)

        def denoiser(told: tuple[Array, Features]) -> Denoiser:
            """Of one condition, batch axis of one."""
            plain = conditional_denoiser(model, told[1])
            if guide is None:
                return plain
            place, guess = placement(model, *told, by_frame, frames=1), told[0][0, ..., 0] * FIELD_SCALE

            def observe(x: Array) -> Array:
                return measure(guess + place(x[None])[0, ..., 0])

            return guide(plain, observe, sensors, **options)

        samples = functools.partial(
            sample_members,
            key=key,
            members=members,
            shape=kind.drawn,
            sigmas=sigmas,
            sampler=config.sampler,
            eta=config.eta if eta is None else eta,
            chunk=config.chunk,
            dtype=conditions.dtype,
            # Guidance moves the mean too: what the conditioner knows of it is no longer its value.
            antithetic=guided if config.centred else False,
        )
        told = (conditions, features)
        if len(conditions) == 1:
            drawn = samples(denoiser(told))
        else:
            each = jax.tree.map(lambda a: a[:, None], told)
            drawn = samples(lambda told, x, sigma: denoiser(told)(x, sigma), conditions=each)
        corrections = placement(model, *told, by_frame)(drawn)
        if kind.target == "residual" and config.centred and members > 1 and len(conditions) == 1:
            centred = corrections - corrections.mean(0) + mean
            corrections = centred if guide is None else jnp.where(guided, corrections, centred)
        if guidance == "projected":
            first = conditions[..., 0] * FIELD_SCALE + corrections[..., 0]
            gain = jax.vmap(lambda omega: krige(grid, sensors.values - measure(omega), sensors)[0])
            inside = jnp.sign(by_frame[:, 0])  # zero on the walls
            corrections = corrections.at[..., 0].add(inside * gain(first))
        return jnp.moveaxis(corrections, -1, 1)

    return draw
