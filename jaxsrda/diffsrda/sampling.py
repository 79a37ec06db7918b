"""How a model draws an ensemble: noise levels, where samples lie, the sensors that guide them, and the draw itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core import draws
from jaxsrda.core.checks import check_shape
from jaxsrda.core.linalg import trailing
from jaxsrda.diffsrda.condition import krige
from jaxsrda.diffsrda.config import NOISES, DiffSRDAConfig
from jaxsrda.diffsrda.covariance import smoothing
from jaxsrda.diffsrda.latent import decode_frames
from jaxsrda.diffsrda.model import Model, ModelConfig, conditional_denoiser, encode, latent_estimate, still_walls
from jaxsrda.diffsrda.step import Corrections, Draw
from jaxsrda.diffusion.denoiser import Denoiser
from jaxsrda.diffusion.guidance import Projected, Readings, Samples
from jaxsrda.diffusion.samplers import sample, sample_members
from jaxsrda.diffusion.schedules import sigma_grid, student_sigmas
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.networks import Features
from jaxsrda.observing.observations import Observations
from jaxsrda.observing.sensors import Sensors, predict, with_role


def sampling_levels(kind: ModelConfig, config: DiffSRDAConfig) -> np.ndarray:
    """The noise levels that a model draws by; ValueError for a sampler or steps that it was not made for."""
    if kind.target == "regression" and config.sampler != "mean":
        raise ValueError(
            f"sampler: these weights are a regression, expected sampler mean with them, got {config.sampler}; "
            "train on with target residual for samples"
        )
    if kind.distilled and config.sampler not in ("mean", *NOISES) and config.steps != kind.distilled:
        raise ValueError(
            f"steps: these weights were distilled to {kind.distilled}, expected as many, got {config.steps}; "
            f"say steps {kind.distilled}"
        )
    if kind.distilled and config.sampler not in ("mean", "dpmpp-2m", *NOISES):
        raise ValueError(f"sampler: a student's steps are those of dpmpp-2m, got {config.sampler}; leave it out")
    if kind.distilled:
        return student_sigmas(kind.distilled)
    if config.sigmas == "vp":
        return sigma_grid("vp", config.steps)
    return sigma_grid(config.sigmas, config.steps, config.sigma_min, config.sigma_max)


def placement(
    model: Model, conditions: Array, features: Features, scale: Array, frames: int | None = None
) -> Callable[[Array], Array]:
    """What samples are corrections of: normalized samples (M, *drawn) → corrections (M, nx, ny, frames) to the guess.

    On the grid μ + scale · r, with the conditioner's mean and scale for target residual, zero and one for direct; on a
    latent D(E(estimate) + s r) − guess (`latent_estimate`).  conditions, features: (1 or M, …); scale: (ny, frames);
    frames: how many are wanted, from t on, the fewer the cheaper.
    """
    kind, space = model.config, model.space
    frames = kind.frames if frames is None else frames
    features = features._replace(mean=features.mean[..., :frames], scale=features.scale[..., :frames])
    scale = scale[..., :frames]
    if space is None:
        if kind.target != "residual":
            return lambda drawn: drawn[..., :frames] * trailing(scale, drawn)
        return lambda drawn: (features.mean + features.scale * drawn[..., :frames]) * trailing(scale, drawn)
    guess, numbers = conditions[..., :frames] * kind.conditioning.field_scale, frames * kind.drawn[-1] // kind.frames
    centre, unit = latent_estimate(kind, space, guess, features, scale)
    return lambda drawn: decode_frames(kind.latent, space, centre + unit * drawn[..., :numbers]) - guess


def guiding(observations: Observations | None, sensors: Sequence[Sensors], guide_on: str) -> Observations | None:
    """The observations that guide, the others masked: of the `new` sets, or `all`; None if there are none."""
    if observations is None:
        return None
    if guide_on == "all":
        return observations
    if all(each.role != "guiding" for each in sensors):
        return None
    return with_role(observations, sensors, "guiding")


def known_of_samples(model: Model, sigmas: np.ndarray) -> Samples:
    """What guides may know of a model's samples: their size, their covariance if it was estimated, and neighbours."""
    kind = model.config
    grid = ChannelGrid(kind.nx, kind.ny)
    spectral = kind.target == "residual" and not kind.latent
    nodes = kind.nx // kind.drawn[0]  # grid points between two nodes of a latent

    def smooth(width: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
        return smoothing(lambda sigma: width(sigma) / nodes, *kind.drawn[:2])

    covariance = model.residual.shrunk(grid) if spectral and model.residual is not None else None
    return Samples(kind.sigma_data, covariance, sigmas, smooth)


def noise_of(model: Model, sampler: str) -> Callable[[Array], Array]:
    """White noise (nx, ny, frames) of variance one → a normalized sample of sampler `gaussian` or `white`.

    ValueError for a model without the covariance of what it draws.
    """
    grid, covariance = ChannelGrid(model.config.nx, model.config.ny), model.residual
    if covariance is None or model.config.target != "residual" or model.config.latent:
        raise ValueError(
            f"sampler: {sampler} needs the covariance of residuals, which these weights (target "
            f"{model.config.target}) lack; take weights with target residual on the grid"
        )
    if sampler == "gaussian":
        return functools.partial(covariance.field, grid)
    deviation = covariance.point_variance(grid) ** 0.5
    return lambda white: deviation * white


def mean_draw(model: Model, members: int = 1) -> Draw:
    """A draw without samples: every member is the model's estimate of the mean.

    That is the conditioner's; of a model with target direct, which has none, the denoiser's from pure noise.
    """
    if model.config.target == "direct":
        return make_draw(model, DiffSRDAConfig(prior="lr", restart="mean", sampler="mean", members=members))
    kind = model.config
    scale = still_walls(jnp.asarray(model.scale, jnp.float32), kind.ny)

    def draw(key: Array, conditions: Array, observations: Observations | None = None) -> Corrections:
        check_shape("conditions", conditions, (None, kind.nx, kind.ny, kind.channels))
        mean = encode(model, conditions).mean * trailing(scale, conditions).astype(conditions.dtype)
        return Corrections(jnp.moveaxis(jnp.broadcast_to(mean, (members, *mean.shape[1:])), -1, 1))

    return Draw(draw, kind.conditioning, members)


def make_draw(
    model: Model,
    config: DiffSRDAConfig,
    sensors: Sequence[Sensors] = (Sensors(),),
    members: int | None = None,
    eta: Array | None = None,
) -> Draw:
    """draw(key, conditions (G, nx, ny, C), observations) → `Corrections` of `members` samples to the guess.

    G is 1 (one condition for all samples, encoded once) or the number of members.  members, eta (traced): instead of
    the configuration's.  With sampler `mean` a model that estimates a mean draws nothing (`mean_draw`).  sensors: the
    sets that observations belong to.  At a time when no sensor guides, samples are as without guidance.
    ValueError for a regression with any other sampler, for noise of an unknown covariance, for a student with other
    steps than its own, and for guidance `projected` of sensors that do not measure vorticity.
    """
    kind = model.config
    sigmas = sampling_levels(kind, config)
    wanted: Any = config.guidance  # a guide, where the configuration had a name
    kriged = [each for each in sensors if config.guide_on == "all" or each.role == "guiding"]
    if isinstance(wanted, Projected) and not all(each.measures_vorticity for each in kriged):
        raise ValueError(
            "guidance: projected kriges misfits of vorticity; for other operators take a guide of each step"
        )
    members = config.members if members is None else members
    if kind.target != "direct" and config.sampler == "mean":
        return mean_draw(model, members)
    scale = still_walls(jnp.asarray(model.scale, jnp.float32), kind.ny)
    grid, units = ChannelGrid(kind.nx, kind.ny), kind.conditioning
    shaped = noise_of(model, config.sampler) if config.sampler in NOISES else None
    known = known_of_samples(model, sigmas)

    def draw(key: Array, conditions: Array, observations: Observations | None = None) -> Corrections:
        check_shape("conditions", conditions, (None, kind.nx, kind.ny, kind.channels))
        if observations is None and wanted is not None:
            raise ValueError("guidance: it needs observations, got none; pass them to draw")
        found = guiding(observations, sensors, config.guide_on) if wanted is not None else None
        stepwise = found is not None and not isinstance(wanted, Projected)
        guided = found.mask.any() if found is not None and stepwise else False
        features = encode(model, conditions)
        by_frame = scale.astype(conditions.dtype)

        def denoiser(condition: Array, features: Features) -> Denoiser:
            """Of one condition, batch axis of one."""
            plain = conditional_denoiser(model, features)
            if found is None or wanted is None:
                return plain
            readings = found
            place = placement(model, condition, features, by_frame, frames=1)
            guess = condition[0, ..., units.first] * units.field_scale

            def observe(x: Array) -> Array:
                return predict(grid, guess + place(x[None])[0, ..., 0], readings, sensors)

            return wanted(plain, observe, Readings(readings.values, readings.mask, readings.variance), known)

        def plain_noise(denoiser: Denoiser, key: Array) -> Array:
            return shaped(draws.normal(key, kind.drawn, conditions.dtype))  # type: ignore[misc]

        one_sample = functools.partial(
            sample,
            shape=kind.drawn,
            sigmas=sigmas,
            sampler=config.sampler,
            eta=config.eta if eta is None else eta,
            dtype=conditions.dtype,
        )
        one_sample = one_sample if shaped is None else plain_noise
        samples = functools.partial(sample_members, key=key, members=members, draw=one_sample, chunk=config.chunk)
        place = placement(model, conditions, features, by_frame)
        if len(conditions) == 1:
            corrections = place(samples(denoiser(conditions, features)))
        else:
            each = jax.tree.map(lambda a: a[:, None], (conditions, features))
            corrections = place(samples(lambda one, x, sigma: denoiser(*one)(x, sigma), conditions=each))
        mean = None
        if kind.target == "residual" and config.centred and members > 1 and len(conditions) == 1:
            mean, free = features.mean * trailing(by_frame, conditions), corrections
            if model.space is not None:  # what an autoencoder loses of the mean itself
                free = free - place(jnp.zeros((1, *kind.drawn), conditions.dtype)) + mean
            if stepwise:
                # Guidance moves the mean too, to where the path of no noise ends.
                quiet = place(one_sample(denoiser(conditions, features), None)[None])
                mean = jnp.where(guided, quiet, mean)
                free = jnp.where(guided, corrections, free)
            corrections = free
        if found is not None and isinstance(wanted, Projected):
            corrections = projected(corrections, conditions, found)
            mean = None if mean is None else projected(mean, conditions, found)
        return Corrections(jnp.moveaxis(corrections, -1, 1), None if mean is None else jnp.moveaxis(mean[0], -1, 0))

    def projected(corrections: Array, conditions: Array, found: Observations) -> Array:
        """Corrections whose first frame has each member's misfit kriged onto it."""
        first = conditions[..., units.first] * units.field_scale + corrections[..., 0]

        def gain(omega: Array) -> Array:
            return krige(grid, found.values - predict(grid, omega, found, sensors), found, units)[0]

        inside = jnp.sign(scale[:, 0]).astype(corrections.dtype)  # zero on the walls
        return corrections.at[..., 0].add(trailing(inside, first) * jax.vmap(gain)(first))

    return Draw(draw, units, members)
