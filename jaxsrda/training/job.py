"""`jaxsrda train`: from training runs to a weights file, with its record, curves and a test in the real cycle."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxsrda.core.checkpoints import check_kept
from jaxsrda.core.devices import Devices, leading, mesh_of, placed
from jaxsrda.core.files import check_writable, write_json
from jaxsrda.core.linalg import trailing
from jaxsrda.core.progress import Progress
from jaxsrda.core.records import described, renamed
from jaxsrda.cycling.assimilator import Setup
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.covariance import ResidualCovariance, estimate_residual_covariance
from jaxsrda.diffsrda.latent import LatentSpace, encoder_gain
from jaxsrda.diffsrda.model import Model, ModelConfig, apart, denoiser_part, encode, network, with_denoiser
from jaxsrda.diffsrda.weights import load_model, model_hash, released, save_model
from jaxsrda.experiment.run import assimilate
from jaxsrda.experiment.truth import default_climatology, simulate_truth
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.testbed import Testbed
from jaxsrda.training.autoencoder import autoencoder_training, trained_space
from jaxsrda.training.dataset import DataConfig, one_set_of_truths, truths_of
from jaxsrda.training.fit import SAMPLE, Fitted, fit
from jaxsrda.training.loop import write_curve
from jaxsrda.training.loss import TrainConfig, check_loss
from jaxsrda.training.programs import Making, check_capacity, makers, programs
from jaxsrda.training.sources import Policy
from jaxsrda.training.stream import StreamConfig, host
from jaxsrda.training.stream_run import Origin, Report, Truths, lot, work_of
from jaxsrda.training.truths import BLOCK
from jaxsrda.training.windows import Windows

VALIDATION_TRUTHS = (1000, 1001)
"""Truths for the cycling test; test truths start at 0, training runs have a stream of their own."""

MOST_LINES = 40
"""Lines of a curve in the record."""

GONE = {
    name: "policy: own, none, or weights whose cycling the windows are of"
    for name in ("visit", "on_policy", "visitor", "policy_weights", "open_loop")
}


@renamed(**GONE)
@dataclasses.dataclass(frozen=True)
class Job:
    """What `train` does.

    data: training sets, one for each prior that the model is to serve, all of the same runs.  stream: how windows flow.
    init: weights to go on from.  policy: whose cycling the windows are of: the model's `own`, as it is at the time;
    `none`, the priors' alone; or that of other weights (a released name or a file), so that any networks learn from
    windows alike.  held_out: runs for validation, the last.  cycling: truths of the cycling test.  autoencoder: how the
    autoencoder of a latent model is trained, on frames of the same runs.
    """

    data: tuple[DataConfig, ...] = (DataConfig(),)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    training: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    stream: StreamConfig = dataclasses.field(default_factory=StreamConfig)
    init: str = ""
    policy: str = "own"
    held_out: int = BLOCK
    cycling: int = len(VALIDATION_TRUTHS)
    autoencoder: TrainConfig = dataclasses.field(default_factory=autoencoder_training)

    def __post_init__(self):
        check_loss(self.model, self.training)
        first = one_set_of_truths(self.data)
        if self.model.priors != tuple(data.prior for data in self.data):
            raise ValueError(
                f"priors: the model's are {self.model.priors}, the data's {tuple(data.prior for data in self.data)}; "
                "make them agree"
            )
        if self.policy != "own" and all(data.starts != "cycle" for data in self.data):
            raise ValueError(f"policy: bare forecasts are of no cycle, got {self.policy}; leave it out")
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
        if self.held_out < BLOCK or self.held_out % BLOCK or self.held_out >= first.runs:
            raise ValueError(f"held_out: expected a multiple of {BLOCK} below the number of runs, got {self.held_out}")


def train(
    job: Job,
    out: Path,
    folder: Path | None = None,
    progress: Progress = lambda *_: None,
    report: Report = lambda _: None,
    devices: Devices = None,
) -> tuple[Fitted, dict[str, Any]]:
    """Train a model and write its weights to `out` and its record beside it (.json); returns both.

    folder: for checkpoints, windows and the curve, by default beside `out`.  Killed and called again, it goes on, on
    these devices or others.  report: told of each line of the curve, refill and validation (`stream_run.Report`).
    devices: None for one, `all`, how many, or a mesh with the axis `data`; they share windows and batches out, so they
    have to divide the batch and the capacity.  The autoencoder of a latent model is trained on one.
    Raises ValueError for bad configurations, and for a folder of another training, before any work.
    """
    check_writable(out, (".npz",))
    began = time.perf_counter()
    model, parent = begun(job)
    policy = job.policy if job.policy in ("own", "none") else policy_of(job)
    whose = policy if isinstance(policy, str) else model_hash(policy)
    data = job.data[0]
    testbed, stream = data.testbed, job.stream.settled(job.model)
    folder = out.with_suffix(".train") if folder is None else folder
    what = data_of(job, whose, parent)
    check_kept(folder, work_of(job.model, job.training, stream, what))
    mesh = mesh_of(devices, data=math.gcd(job.training.batch, stream.capacity))
    setup = Setup(testbed, default_climatology(testbed))
    made = makers(setup, job.model, job.data, stream, policy, mesh)
    check_capacity(made, stream.capacity)
    everything = truths_of(data, data.runs, lambda done, total: progress(f"{data.truth_level.name} runs", done, total))
    truths = Truths(everything[: -job.held_out], everything[-job.held_out :])
    progress("windows", 1, 1)
    gathered = time.perf_counter()
    origin = Origin() if model is None else Origin(model.params, model.scale, model.space)
    coded: dict[str, Any] = {}
    if job.model.latent and origin.space is None:
        first = functools.partial(first_windows, made, truths, job.model, origin, mesh)
        space, coded = latent_space(job, first, report)
        origin = origin._replace(space=space)
        if origin.params is not None:  # the denoiser of another space is no start
            fresh = denoiser_part(job.model, network(job.model).initial(job.training.seed))
            origin = origin._replace(params=with_denoiser(origin.params, fresh))
    own = programs(job.model, job.training, stream, made, what, mesh)
    fitted = with_covariance(fit(job.model, job.training, stream, own, truths, origin, report, folder))
    record = record_of(job, fitted, parent) | {"autoencoder": coded}
    record["seconds"] |= {"truths": gathered - began}
    record["devices"] = 1 if mesh is None else mesh.size
    if leading():
        write_curve(folder / "curve.csv", fitted.curve)
        # A denoiser alone is stored alone if everyone has the rest.
        base = job.init if job.training.part == "denoiser" and job.init in released() else ""
        record["sha256"] = save_model(out, fitted.model, record, base)
        write_json(out.with_suffix(".json"), record)  # before the cycling, which weights that diverge do not survive
        if job.cycling:
            record["cycling"] = cycling_scores(fitted.model, testbed, VALIDATION_TRUTHS[: job.cycling], progress)
        write_json(out.with_suffix(".json"), record)
    return fitted, record


def data_of(job: Job, policy: str, parent: dict[str, Any]) -> dict[str, Any]:
    """What tells the data and the start of a job from those of others, in terms of JSON.

    policy: `own`, `none`, or the digest of the weights whose cycling it is; parent: the record of those it starts from.
    """
    coded = described(job.autoencoder) if job.model.latent else "none"
    start = parent.get("sha256", "none")
    return {
        "sets": described(job.data),
        "policy": policy,
        "init": start,
        "held_out": job.held_out,
        "autoencoder": coded,
    }


def begun(job: Job) -> tuple[Model | None, dict[str, Any]]:
    """The model that a job goes on from, and its record; ValueError for one that is no start of what it asks for."""
    if not job.init:
        return None, {}
    model, parent = load_model(job.init)
    # A regression may go on as the mean that a residual model diffuses around.
    free: dict[str, Any] = {"priors": job.model.priors}
    if (model.config.target, job.model.target) == ("regression", "residual"):
        free["target"] = "residual"
    if not model.config.distilled:
        free["distilled"] = job.model.distilled
    if not model.config.latent:
        free["latent"] = job.model.latent
    if dataclasses.replace(model.config, **free) != job.model:
        raise ValueError(f"init: the weights are {model.config}, the job asks for {job.model}; make them agree")
    if job.model.distilled and (model.config.distilled or model.config.target == "regression"):
        raise ValueError(
            "init: a teacher draws samples in many steps, got a "
            f"{'student' if model.config.distilled else 'regression'}; "
            "give the weights of a model with target residual or direct"
        )
    return model, parent


def policy_of(job: Job) -> Model:
    """The weights whose cycling a job's windows are of; ValueError where they do not serve its priors or conditions."""
    model, _ = load_model(job.policy)
    if not set(job.model.priors) <= set(model.config.priors):
        raise ValueError(
            f"policy: these weights serve priors {', '.join(model.config.priors)}, the job asks for "
            f"{', '.join(job.model.priors)}; give weights that serve them all"
        )
    if model.config.conditioning != job.model.conditioning:
        raise ValueError(
            f"policy: their conditions are {model.config.conditioning}, the job asks for {job.model.conditioning}; "
            "give weights with the same conditioning"
        )
    return model


def first_windows(
    made: dict[str, Making], truths: Truths, model: ModelConfig, origin: Origin, mesh: Mesh | None = None
) -> Windows:
    """Some windows of the first maker's on training truths, before any training."""
    maker = next(iter(made.values()))
    params = network(model).initial(0) if origin.params is None else origin.params
    scale = np.full(model.frames, 0.5, np.float32) if origin.scale is None else origin.scale
    runs = lot(truths.training, np.arange(maker.runs) % len(truths.training), mesh)
    key, policy = placed((jax.random.key(0), Policy(params, jnp.asarray(scale))), mesh)
    return host(jax.jit(maker.make)(key, runs, policy), SAMPLE)


def latent_space(job: Job, windows: Callable[[], Windows], report: Report) -> tuple[LatentSpace, dict[str, Any]]:
    """The autoencoder of a job's latent model, trained or from the cache, with its gain on windows; and its record."""
    data = job.data[0]

    def told(done: int, total: int, metrics: dict[str, float]) -> None:
        report({"kind": "autoencoder", "samples": done, "of": total, **metrics})

    space, record = trained_space(
        job.model.latent, data.testbed, data.truth_level, data.runs, job.held_out, job.autoencoder, told
    )
    sample = windows()
    guess = jnp.asarray(sample.condition[..., : job.model.frames], jnp.float32) * job.model.conditioning.field_scale
    truth = guess + jnp.asarray(sample.correction, jnp.float32)
    gain = jax.jit(functools.partial(encoder_gain, job.model.latent))(space, guess, truth)
    return space._replace(gain=gain), record


def residual_covariance(model: Model, windows: Windows) -> ResidualCovariance:
    """The covariance of what a residual model should draw, on windows kept from training.

    Residuals (truth − guess − mean)/scale, in the units that samples are drawn in.
    """

    @jax.jit
    def residual(condition: jax.Array, correction: jax.Array) -> jax.Array:
        features = encode(model, condition)
        return (correction / trailing(jnp.asarray(model.scale), correction) - features.mean) / features.scale

    parts = []
    for first in range(0, len(windows.condition), 8):
        batch = (jnp.asarray(a[first : first + 8], jnp.float32) for a in windows)
        parts.append(np.asarray(residual(*batch)))
    grid = ChannelGrid(model.config.nx, model.config.ny)
    return estimate_residual_covariance(grid, jnp.asarray(np.concatenate(parts)))


def with_covariance(fitted: Fitted) -> Fitted:
    """The fit with the covariance of what its model draws, where it is a residual model's on the grid."""
    model = fitted.model
    if model.config.target != "residual" or model.config.latent:
        return fitted
    drawn = dataclasses.replace(model, residual=residual_covariance(model, fitted.held_out))
    return dataclasses.replace(fitted, model=drawn)


def record_of(job: Job, fitted: Fitted, parent: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a training beside its weights."""
    return {
        "job": described(job),
        "windows": fitted.windows,
        "samples": fitted.samples,
        "parent": parent,
        "validation": fitted.validation,
        "curve": thinned(fitted.curve),
        "milestones": fitted.validations[-MOST_LINES:],
        "seconds": fitted.seconds,
        "windows_per_second": fitted.samples / max(1e-9, fitted.seconds["training"]),
        "machine": f"{platform.machine()}, {jax.local_devices()[0].device_kind}",
        "versions": {name: importlib.metadata.version(name) for name in ("jaxsrda", "jax", "flax", "optax")},
    }


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


def thinned(curve: list[dict[str, float]], lines: int = MOST_LINES) -> list[dict[str, float]]:
    """At most `lines` lines, each the mean of as many neighbouring ones; where they lie is that of the last."""
    every = max(1, -(-len(curve) // lines))
    groups = [curve[max(0, end - every) : end] for end in range(len(curve), 0, -every)][::-1]
    where = ("samples", "fraction")
    return [
        {key: group[-1][key] if key in where else float(np.mean([row[key] for row in group])) for key in group[-1]}
        for group in groups
    ]
