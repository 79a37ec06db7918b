"""Fit a model: train it on a stream, and keep that average of the weights which does best on truths kept apart."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxsrda.core.devices import gathered, placed
from jaxsrda.diffsrda.model import Model, ModelConfig
from jaxsrda.training import stream_run
from jaxsrda.training.loss import TrainConfig
from jaxsrda.training.programs import Programs
from jaxsrda.training.sources import Policy
from jaxsrda.training.stream import Fixed, StreamConfig, host
from jaxsrda.training.stream_run import Origin, Report, Truths
from jaxsrda.training.windows import Windows

SAMPLE = 64
"""Windows of held-out truths that a fit hands on, of each maker that is scored."""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained model (the best average of the weights on held-out truths), and how it went.

    samples: windows seen, with repetition; windows: different ones; curve: losses on the way; validations: errors of
    the model's cycling on the way; validation: name of an average → its mean losses at the end, and under `chosen` the
    best; held_out: windows of held-out truths; seconds: by what they went into.
    """

    model: Model
    samples: int
    windows: int
    curve: list[dict[str, float]]
    validations: list[dict[str, Any]]
    validation: dict[str, dict[str, float]]
    held_out: Windows
    seconds: dict[str, float]


def fit(
    model: ModelConfig,
    config: TrainConfig,
    stream: StreamConfig,
    programs: Programs,
    truths: Truths,
    origin: Origin = Origin(),  # noqa: B008 (a named tuple of None)
    report: Report = lambda _: None,
    folder: Path | None = None,
) -> Fitted:
    """Train (`stream_run.run`) and choose among the averages of the weights and the last ones by their loss.

    All are scored on the same windows, which the last weights' cycling makes of held-out truths.
    Raises ValueError for a denoiser without the rest of its model, and a latent model without its autoencoder.
    """
    if config.part == "denoiser" and origin.params is None:
        raise ValueError("part: training the denoiser alone needs the rest; give weights to start from as init")
    if model.distilled and config.part != "denoiser":
        raise ValueError("distilled: a student learns its denoiser alone, expected part denoiser with it, got all")
    if bool(model.latent) != (origin.space is not None):
        raise ValueError("latent: a model that draws in a latent needs its autoencoder, and no other does")
    done = stream_run.run(model, config, stream, programs, truths, origin, report, folder)
    frozen = origin.params if config.part == "denoiser" else None
    fixed = placed(Fixed(frozen, origin.space), programs.mesh)
    state, scale = done.state, placed(jnp.asarray(done.scale), programs.mesh)
    candidates = {f"average {length}": p for length, p in zip(config.averages, state.averages)} | {"last": state.params}
    candidates = {name: fixed.whole(params) for name, params in candidates.items()}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in candidates}
    held = []
    for maker, (error, count) in programs.errors.items():
        make, runs = programs.makers[maker]
        copies = stream_run.lot(truths.held_out, np.arange(runs) % len(truths.held_out), programs.mesh)
        windows = make(placed(jax.random.key(0x686F), programs.mesh), copies, Policy(candidates["last"], scale))
        windows = jax.tree.map(lambda a, n=count: a[:n], windows)
        held.append(host(windows, SAMPLE))
        for name, params in candidates.items():
            row = {key: float(value) for key, value in error(Policy(params, scale), fixed.space, windows).items()}
            rows[name].append(row)
            report({"kind": "end of training", "maker": maker, "weights": name, **row})
    validation = {
        name: {key: float(np.mean([row[key] for row in some])) for key in some[0]} for name, some in rows.items()
    }
    best = min(validation, key=lambda name: validation[name]["loss"])
    return Fitted(
        Model(model, on_one(candidates[best], programs.mesh), np.asarray(done.scale), origin.space),
        int(state.step) * config.batch,
        done.windows,
        done.curve,
        done.validations,
        validation | {"chosen": {best: 1.0}},
        jax.tree.map(lambda *parts: np.concatenate(parts), *held),
        done.seconds,
    )


def on_one(params: Any, mesh: Mesh | None) -> Any:
    """Weights that a mesh's devices hold, on one device of this process."""
    return params if mesh is None else jax.tree.map(jnp.asarray, gathered(params))
