"""The conditional diffusion model as a pure object: network, parameters, normalization, and how samples are drawn."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from jaxsrda.checks import check_choice, check_positive, check_shape
from jaxsrda.conditioning import AHEAD, CHANNELS, FIELD_SCALE, FRAMES, krige, mirror
from jaxsrda.config import PRIORS, DiffSRDAConfig
from jaxsrda.diffsrda import Draw
from jaxsrda.diffusion.denoiser import PARAMETRIZATIONS, Denoiser, precondition
from jaxsrda.diffusion.guidance import GUIDES, smoothing
from jaxsrda.diffusion.samplers import sample_members
from jaxsrda.diffusion.schedules import sigma_grid, student_sigmas
from jaxsrda.grid import ChannelGrid
from jaxsrda.latent import LatentSpace, decode_frames, encode_frames, latent_nodes, units
from jaxsrda.networks.autoencoder import PRESETS as AUTOENCODERS
from jaxsrda.networks.paper import PaperUNet, PaperUNetConfig
from jaxsrda.networks.srda import PRESETS as SRDA_PRESETS
from jaxsrda.networks.srda import SRDA, SRDAConfig
from jaxsrda.networks.unet import PRESETS, Features, UNet, UNetConfig
from jaxsrda.observations import Observations, Operator, vorticity

TARGETS = ("residual", "direct", "regression")
MOST_DISTILLED = 2
"""Most steps of a student; with three or four the teacher itself is good."""

DENOISER = ("noisy_stem", "embedding", "denoiser", "norm", "head")
"""Parts of the efficient U-Net that run at every step; the others run once a cycle."""

BLUR = 2.0
"""Width, in grid points, of what `blend` makes of a sensor."""

UNETS = tuple(PRESETS)
NETWORKS = (*UNETS, "paper", *SRDA_PRESETS)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What a model is.

    network: a preset of `networks`; priors: what its training windows came from; nx, ny: its grid; parametrization
    and sigma_data: of the denoiser (`diffusion.denoiser`); target: `residual`, diffusion around the
    conditioner's mean (Mardani et al. 2023, arXiv:2309.15214) in units of its scale, so that what is drawn has the same
    size everywhere; `direct`, around the first guess; or `regression`, that mean alone, which nothing is drawn from.
    distilled: steps that a student of another model draws in, 0 for a model that is no student.  latent: a preset of
    `networks.autoencoder` in whose latent the diffusion runs (Rombach et al. 2022, arXiv:2112.10752), empty for none.
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

    def __post_init__(self):
        object.__setattr__(self, "priors", tuple(self.priors))  # a list, from JSON
        for prior in self.priors:
            check_choice("prior", prior, PRIORS)
        check_choice("network", self.network, NETWORKS)
        check_choice("target", self.target, TARGETS)
        if self.network == "paper" and self.target != "direct":
            raise ValueError("target: the paper's network estimates no mean; use target direct")
        if self.network in SRDA_PRESETS and self.target != "regression":
            raise ValueError(f"target: {self.network} estimates a mean alone; use target regression, got {self.target}")
        if not 0 <= self.distilled <= MOST_DISTILLED or (self.distilled and self.network not in UNETS):
            raise ValueError(
                f"distilled: expected 0 to {MOST_DISTILLED} steps of a network of {', '.join(UNETS)}, got "
                f"{self.distilled} of {self.network}"
            )
        if self.distilled and self.target == "regression":
            raise ValueError("distilled: a regression draws nothing; distil a model with target residual or direct")
        if self.latent:
            check_choice("latent", self.latent, AUTOENCODERS)
            if self.network not in UNETS or self.target == "regression" or self.distilled:
                raise ValueError(
                    f"latent: expected a network of {', '.join(UNETS)} with target residual or direct that is no "
                    f"student, got {self.network}, {self.target}"
                )
        check_choice("parametrization", self.parametrization, PARAMETRIZATIONS)
        check_positive("sigma_data", self.sigma_data)

    @property
    def drawn(self) -> tuple[int, int, int]:
        """Shape of what is drawn: a window, or its latent."""
        if not self.latent:
            return self.nx, self.ny, FRAMES
        config = AUTOENCODERS[self.latent]
        return *latent_nodes(config, self.nx, self.ny), FRAMES * config.channels


class Network(NamedTuple):
    """A network split into its definition and two pure functions of its parameters."""

    encode: Any  # (params, condition [B, nx, ny, C]) → Features
    denoise: Any  # (params, noisy [B, *drawn], level [B], Features, dropout key or None) → [B, *drawn]
    initial: Any  # (seed) → params


@functools.cache
def network(kind: ModelConfig, bfloat16: bool = False) -> Network:
    """The network of a model, as pure functions."""
    name = kind.network

    def build(seed: int) -> UNet | PaperUNet | SRDA:
        if name == "paper":
            return PaperUNet(PaperUNetConfig(FRAMES, CHANNELS, bfloat16=bfloat16), rngs=nnx.Rngs(seed))
        if name in SRDA_PRESETS:
            config = SRDAConfig(
                FRAMES, CHANNELS, kind.nx, kind.ny, quiet=(AHEAD,), bfloat16=bfloat16, **SRDA_PRESETS[name]
            )
            return SRDA(config, rngs=nnx.Rngs(seed))
        latent = AUTOENCODERS[kind.latent].channels if kind.latent else 0
        config = UNetConfig(FRAMES, CHANNELS, latent=latent, quiet=(AHEAD,), bfloat16=bfloat16, **PRESETS[name])
        return UNet(config, rngs=nnx.Rngs(seed))

    graph = nnx.graphdef(nnx.eval_shape(lambda: build(0)))

    def encode(params, condition: Array) -> Features:
        return nnx.merge(graph, params).encode(condition)

    def denoise(params, noisy: Array, level: Array, features: Features, key: Array | None = None) -> Array:
        module = nnx.merge(graph, params)
        return module(noisy, level, features, key=key) if name == "paper" else module(noisy, level, features)

    def initial(seed: int):
        return nnx.split(build(seed))[1]

    return Network(encode, denoise, initial)


def denoiser_part(params: Any) -> dict[str, Array]:
    """The parameters of the denoiser alone (DENOISER), path → array."""
    named = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    return {path: leaf for path, leaf in named.items() if path.split("'")[1] in DENOISER}


def with_denoiser(params: Any, part: dict[str, Array]) -> Any:
    """All parameters, the denoiser's replaced by `part`."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: part.get(jax.tree_util.keystr(path), leaf), params)


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained model: configuration, parameters (an NNX state), the scale (5,) of corrections, by frame, and the
    autoencoder of a latent one."""

    config: ModelConfig
    params: Any
    scale: np.ndarray
    space: LatentSpace | None = None

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
    """Features of conditions (G, nx, ny, C), the mean and its scale averaged over the testbed's reflection.

    mean(c) ← ½ [mean(c) − R mean(S R c)],  R: y → π − y, S the signs of the channels: −ω(x, π − y) solves the same
    equation, so the average is as good an estimate and keeps the symmetry, which the network has learned but roughly.
    """
    if model.config.target == "direct":
        return model.network.encode(model.params, conditions)
    features = model.network.encode(model.params, jnp.concatenate([conditions, mirror(conditions)]))
    (mean, mirrored_mean), (scale, mirrored_scale) = (jnp.split(a, 2) for a in features[:2])
    return Features(
        (mean - mirrored_mean[:, :, ::-1]) / 2,
        (scale + mirrored_scale[:, :, ::-1]) / 2,
        tuple(level[: len(conditions)] for level in features.levels),
    )


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


def still_walls(scale: Array, ny: int) -> Array:
    """The scale (5,) of corrections at every row, (ny, 5): zero on the walls, where vorticity is."""
    inside = jnp.ones((ny, 1), scale.dtype).at[jnp.array([0, -1])].set(0)
    return scale * inside


def latent_estimate(kind: ModelConfig, space: LatentSpace, guess: Array, features: Features, scale: Array):
    """Where samples of a latent model lie, E(estimate), and their unit s (`latent.units`), [B, *drawn] each.

    The estimate is the guess [B, nx, ny, 5] plus the conditioner's mean, and s follows its scale; for target direct it
    is the guess alone, and s follows the scale (ny, 5) of corrections.
    """
    residual = kind.target == "residual"
    estimate = guess + features.mean * scale if residual else guess
    size = features.scale * scale if residual else jnp.broadcast_to(scale, guess.shape)
    return encode_frames(kind.latent, space, estimate), units(kind.latent, space, size)


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


def guiding(observations: Observations, guide_on: str) -> Observations:
    """The sensors that guide, as those that are there: the `new` ones, or `all`."""
    new = jnp.zeros_like(observations.mask) if observations.guides is None else observations.guides
    return observations._replace(mask=new if guide_on == "new" else new | observations.mask)


def guidance_options(kind: ModelConfig, config: DiffSRDAConfig, strength: Array | None) -> dict[str, Any]:
    """What a method of guidance is told: its strength, and for `blend` a blur over points, or nodes of a latent."""
    options: dict[str, Any] = {}
    chosen = config.strength if strength is None else strength
    if chosen is not None:
        options["strength"] = chosen
    elif config.guidance in ("lifted", "pigdm"):
        options["strength"] = kind.sigma_data
    elif config.guidance == "oi":
        options["strength"] = kind.sigma_data**2
    if config.guidance == "blend":
        options["blur"] = smoothing(BLUR if not kind.latent else BLUR / 4, *kind.drawn[:2])
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
    ValueError for a regression with any other sampler, and for a student with other steps than its own.
    """
    kind = model.config
    sigmas = sampling_levels(kind, config)
    scale = still_walls(jnp.asarray(model.scale, jnp.float32), kind.ny)
    members = config.members if members is None else members
    grid = ChannelGrid(kind.nx, kind.ny)
    options = guidance_options(kind, config, strength)

    def draw(key: Array, conditions: Array, observations: Observations | None = None) -> Array:
        check_shape("conditions", conditions, (None, kind.nx, kind.ny, CHANNELS))
        if observations is None and config.guidance != "none":
            raise ValueError(f"guidance: {config.guidance} needs observations, got none; pass them to draw")
        sensors: Any = None if observations is None else guiding(observations, config.guide_on)
        features = encode(model, conditions)
        by_frame = scale.astype(conditions.dtype)
        mean = features.mean * by_frame
        if kind.target != "direct" and config.sampler == "mean":
            return jnp.moveaxis(jnp.broadcast_to(mean, (members, *mean.shape[1:])), -1, 1)

        def measure(omega: Array) -> Array:
            seen = operator(grid, omega, sensors.positions)
            if guide_operator is None or sensors.guides is None:
                return seen
            return jnp.where(sensors.guides, guide_operator(grid, omega, sensors.positions), seen)

        def denoiser(told: tuple[Array, Features]) -> Denoiser:
            """Of one condition, batch axis of one."""
            plain = conditional_denoiser(model, told[1])
            if config.guidance not in GUIDES:
                return plain
            place, guess = placement(model, *told, by_frame, frames=1), told[0][0, ..., 0] * FIELD_SCALE

            def observe(x: Array) -> Array:
                return measure(guess + place(x[None])[0, ..., 0])

            return GUIDES[config.guidance](plain, observe, sensors, **options)

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
        )
        told = (conditions, features)
        if len(conditions) == 1:
            drawn = samples(denoiser(told))
        else:
            each = jax.tree.map(lambda a: a[:, None], told)
            drawn = samples(lambda told, x, sigma: denoiser(told)(x, sigma), conditions=each)
        corrections = placement(model, *told, by_frame)(drawn)
        if config.guidance == "projected":
            first = conditions[..., 0] * FIELD_SCALE + corrections[..., 0]
            gain = jax.vmap(lambda omega: krige(grid, sensors.values - measure(omega), sensors)[0])
            corrections = corrections.at[..., 0].add(gain(first))
        centred = kind.target == "residual" and config.centred and config.guidance == "none"
        if centred and members > 1 and len(conditions) == 1:
            corrections = corrections - corrections.mean(0) + mean
        return jnp.moveaxis(corrections, -1, 1)

    return draw
