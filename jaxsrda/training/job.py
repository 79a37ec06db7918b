"""`jaxsrda train`: from training runs to a weights file, with its record, curves and a test in the real cycle."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import platform
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.core.checks import check_choice
from jaxsrda.core.files import check_writable, write_json
from jaxsrda.core.progress import Progress
from jaxsrda.core.records import described, key_of, renamed
from jaxsrda.cycling.assimilator import Setup
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.covariance import ResidualCovariance, estimate_residual_covariance
from jaxsrda.diffsrda.latent import LatentSpace, encoder_gain
from jaxsrda.diffsrda.model import Model, ModelConfig, apart, denoiser_part, encode, network, with_denoiser
from jaxsrda.diffsrda.prior import PRIORS
from jaxsrda.diffsrda.sampling import make_draw, mean_draw
from jaxsrda.diffsrda.step import Draw
from jaxsrda.diffsrda.weights import load_model, model_hash, released, save_model
from jaxsrda.experiment.run import assimilate
from jaxsrda.experiment.truth import default_climatology, simulate_truth
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.testbed import Testbed
from jaxsrda.training.autoencoder import autoencoder_training, trained_space
from jaxsrda.training.dataset import DataConfig, WindowSet, training_windows
from jaxsrda.training.fit import Fitted, Origin, fit
from jaxsrda.training.loop import Report
from jaxsrda.training.loss import TrainConfig, check_loss
from jaxsrda.training.truths import BLOCK, training_runs

VALIDATION_TRUTHS = (1000, 1001)
"""Truths for the cycling test; test truths start at 0, training runs have a stream of their own."""

ON_POLICY = ("none", "open", "mean", "each", "best")

RESIDUAL_WINDOWS = 64
"""Windows that the covariance of what a model draws is estimated on."""


@renamed(visit="on_policy", visitor="policy_weights")
@dataclasses.dataclass(frozen=True)
class Job:
    """What `train` does.

    data: training sets, one for each prior that the model is to serve.  init: weights to go on from.  on_policy: which
    windows of a model's own cycling are taken: `none`, those of a restart (`open`, `mean` or `each`, see
    `DiffSRDAConfig.restart`), or `best`, of each prior's own; policy_weights: that model, by default init.
    open_loop: take the windows of the priors alone too.  held_out: runs for validation, the last of each set.
    cycling: truths of the cycling test.  autoencoder: how the autoencoder of a latent model is trained, on the frames
    of the first set's runs.
    """

    data: tuple[DataConfig, ...] = (DataConfig(),)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    training: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    init: str = ""
    policy_weights: str = ""
    on_policy: str = "none"
    open_loop: bool = True
    held_out: int = BLOCK
    cycling: int = len(VALIDATION_TRUTHS)
    autoencoder: TrainConfig = dataclasses.field(default_factory=autoencoder_training)

    def __post_init__(self):
        check_choice("on_policy", self.on_policy, ON_POLICY)
        check_loss(self.model, self.training)
        if self.on_policy != "none" and not (self.policy_weights or self.init):
            raise ValueError(
                "on_policy: the model's own cycling needs a model; give its weights as init or policy_weights"
            )
        if self.policy_weights and self.on_policy == "none":
            raise ValueError(
                "policy_weights: their windows are not asked for; say how they cycle, with on_policy best or a restart"
            )
        if not 0 <= self.cycling <= len(VALIDATION_TRUTHS):
            raise ValueError(f"cycling: expected 0 to {len(VALIDATION_TRUTHS)}, got {self.cycling}")
        if self.training.part == "denoiser" and not self.init:
            raise ValueError("part: training the denoiser alone needs the rest; give weights to start from as init")
        if self.model.distilled and self.training.part != "denoiser":
            raise ValueError("distilled: a student learns its denoiser alone, expected part denoiser with it, got all")
        if self.training.part == "denoiser" and self.model.target == "regression":
            raise ValueError("part: a regression has no use for its denoiser; use target residual or direct")
        if self.training.part == "denoiser" and self.model.network not in apart():
            raise ValueError(f"part: only {', '.join(apart())} have a denoiser apart, got {self.model.network}")
        if self.held_out < BLOCK or self.held_out % BLOCK or self.held_out >= min(d.runs for d in self.data):
            raise ValueError(f"held_out: expected a multiple of {BLOCK} below the number of runs, got {self.held_out}")


def gather(job: Job, setup: Setup, model: Model | None, progress: Progress) -> tuple[WindowSet, WindowSet]:
    """Training and validation windows of a job; model: whose cycling is visited."""
    kept, held = [], []
    for data in job.data:
        level = data.truth_level
        for first in range(0, data.runs, BLOCK):
            progress(f"{level.name} runs", first, data.runs)
            training_runs(data.testbed, level, BLOCK, first=first)
        kinds: list[tuple[Draw | None, str, str]] = [(None, "open", "")] if job.open_loop or model is None else []
        if job.on_policy != "none" and model is not None:
            restart = PRIORS[data.prior].restart if job.on_policy == "best" else job.on_policy
            draw, sampled = mean_draw(model), ""  # other restarts and the memory need no more than the mean
            if restart == "each":
                cycled = DiffSRDAConfig(prior=data.prior, members=data.members, restart="each")
                draw, sampled = make_draw(model, cycled), key_of(cycled)
            kinds.append((draw, restart, f"{model_hash(model)} {sampled}"))
        last = (data.runs - job.held_out) // BLOCK
        for kind in kinds:
            windows = training_windows(data, setup, *kind, units=job.model.conditioning, progress=progress)
            for (block, _, _), part in zip(data.plan(), windows.parts, strict=True):
                (held if block >= last else kept).append(part)
    return WindowSet(kept), WindowSet(held)


def train(
    job: Job,
    out: Path,
    folder: Path | None = None,
    progress: Progress = lambda *_: None,
    report: Report = lambda *_: None,
) -> tuple[Fitted, dict[str, Any]]:
    """Train a model and write its weights to `out` and its record beside it (.json); returns both.

    folder: for checkpoints and curves, by default beside `out`.  Killed and called again, it goes on.
    Raises ValueError for bad configurations before any work.
    """
    check_writable(out, (".npz",))
    began = time.perf_counter()
    model, parent = (None, {}) if not job.init else load_model(job.init)
    # A regression may go on as the mean that a residual model diffuses around.
    free: dict[str, Any] = {"priors": job.model.priors}
    if model is not None and (model.config.target, job.model.target) == ("regression", "residual"):
        free["target"] = "residual"
    if model is not None and not model.config.distilled:
        free["distilled"] = job.model.distilled
    if model is not None and not model.config.latent:
        free["latent"] = job.model.latent
    if model is not None and dataclasses.replace(model.config, **free) != job.model:
        raise ValueError(f"init: the weights are {model.config}, the job asks for {job.model}; make them agree")
    if model is not None and job.model.distilled and (model.config.distilled or model.config.target == "regression"):
        raise ValueError(
            "init: a teacher draws samples in many steps, got a "
            f"{'student' if model.config.distilled else 'regression'}; "
            "give the weights of a model with target residual or direct"
        )
    if len({key_of(data.testbed) for data in job.data}) > 1:
        raise ValueError("data: expected one testbed for all training sets, got several; train one model for each")
    if job.model.priors != tuple(data.prior for data in job.data):
        raise ValueError(f"priors: the model's are {job.model.priors}, the data's differ; make them agree")
    policy = load_model(job.policy_weights)[0] if job.policy_weights else model
    if policy is not None and job.on_policy != "none" and not set(job.model.priors) <= set(policy.config.priors):
        raise ValueError(
            f"policy_weights: serve priors {', '.join(policy.config.priors)}, the job asks for "
            f"{', '.join(job.model.priors)}; "
            "give weights that serve them all"
        )
    if policy is not None and job.on_policy != "none" and policy.config.conditioning != job.model.conditioning:
        raise ValueError(
            f"policy_weights: their conditions are {policy.config.conditioning}, the job asks for "
            f"{job.model.conditioning}; give weights with the same conditioning"
        )
    testbed = job.data[0].testbed
    setup = Setup(testbed, default_climatology(testbed))
    windows, held_out = gather(job, setup, policy, progress)
    progress("windows", 1, 1)
    gathered = time.perf_counter()
    folder = out.with_suffix(".train") if folder is None else folder
    origin = Origin() if model is None else Origin(model.params, model.scale, model.space)
    coded: dict[str, Any] = {}
    if job.model.latent and origin.space is None:
        space, coded = latent_space(job, windows, report)
        origin = origin._replace(space=space)
        if origin.params is not None:  # the denoiser of another space is no start
            fresh = denoiser_part(job.model, network(job.model).initial(job.training.seed))
            origin = origin._replace(params=with_denoiser(origin.params, fresh))
    fitted = fit(folder, job.model, job.training, windows, held_out, origin, report)
    if job.model.target == "residual" and not job.model.latent:
        drawn = dataclasses.replace(fitted.model, residual=residual_covariance(fitted.model, held_out))
        fitted = dataclasses.replace(fitted, model=drawn)
    record = {
        "job": described(job),
        "windows": len(windows),
        "samples": job.training.steps * job.training.batch,
        "parent": parent,
        "autoencoder": coded,
        "validation": fitted.validation,
        "curve": thinned(fitted.curve),
        "milestones": fitted.milestones,
        "seconds": {"data": gathered - began, "training": fitted.seconds},
        "machine": f"{platform.machine()}, {jax.devices()[0].device_kind}",
        "versions": {name: importlib.metadata.version(name) for name in ("jaxsrda", "jax", "flax", "optax")},
    }
    # A denoiser alone is stored alone if everyone has the rest.
    base = job.init if job.training.part == "denoiser" and job.init in released() else ""
    record["sha256"] = save_model(out, fitted.model, record, base)
    write_json(out.with_suffix(".json"), record)  # before the cycling, which weights that diverge do not survive
    if job.cycling:
        record["cycling"] = cycling_scores(fitted.model, testbed, VALIDATION_TRUTHS[: job.cycling], progress)
    write_json(out.with_suffix(".json"), record)
    return fitted, record


def latent_space(job: Job, windows: WindowSet, report: Report) -> tuple[LatentSpace, dict[str, Any]]:
    """The autoencoder of a job's latent model, trained or from the cache, with its gain; and its record."""
    data = job.data[0]
    space, record = trained_space(
        job.model.latent, data.testbed, data.truth_level, data.runs, job.held_out, job.autoencoder, report
    )
    sample = windows.take(np.linspace(0, len(windows) - 1, min(64, len(windows))).astype(int))
    guess = jnp.asarray(sample.condition[..., : job.model.frames], jnp.float32) * job.model.conditioning.field_scale
    truth = guess + jnp.asarray(sample.correction, jnp.float32)
    gain = jax.jit(functools.partial(encoder_gain, job.model.latent))(space, guess, truth)
    return space._replace(gain=gain), record


def residual_covariance(model: Model, windows: WindowSet, count: int = RESIDUAL_WINDOWS) -> ResidualCovariance:
    """The covariance of what a residual model should draw, on some windows kept from training.

    Residuals (truth − guess − mean)/scale, in the units that samples are drawn in.
    """
    picked = np.linspace(0, len(windows) - 1, min(count, len(windows))).astype(int)

    @jax.jit
    def residual(condition: jax.Array, correction: jax.Array) -> jax.Array:
        features = encode(model, condition)
        return (correction / jnp.asarray(model.scale) - features.mean) / features.scale

    parts = []
    for first in range(0, len(picked), 8):
        batch = windows.take(picked[first : first + 8])
        parts.append(np.asarray(residual(*(jnp.asarray(a, jnp.float32) for a in batch))))
    grid = ChannelGrid(model.config.nx, model.config.ny)
    return estimate_residual_covariance(grid, jnp.asarray(np.concatenate(parts)))


def cycling_scores(model: Model, testbed: Testbed, seeds: tuple[int, ...], progress: Progress) -> dict[str, Any]:
    """Scores of the model in its real cycle on validation truths, for restarts `open`, `mean` and `each`."""
    truths = simulate_truth(testbed, seeds, progress=progress)
    scores = {}
    for prior in model.config.priors:
        alone = model.config.target == "regression"
        for restart in ("open", "mean") if alone else ("open", "mean", "each"):
            config = DiffSRDAConfig(prior=prior, restart=restart, sampler="mean" if alone else "dpmpp-2m")
            if model.config.distilled:
                config = dataclasses.replace(config, steps=model.config.distilled)
            result = assimilate("diffsrda", truths, config=config, model=model, truth_seeds=seeds, testbed=testbed)
            scores[f"{prior}, {restart}"] = {name: float(np.mean(values)) for name, values in result.per_truth.items()}
    return scores


def thinned(curve: list[dict[str, float]], lines: int = 40) -> list[dict[str, float]]:
    """At most `lines` lines of a curve, the last among them."""
    every = max(1, -(-len(curve) // lines))
    return curve[::-1][::every][::-1]
