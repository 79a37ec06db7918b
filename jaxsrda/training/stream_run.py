"""A training on a stream: refills, steps, validations and checkpoints until the budget is spent."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from jaxsrda.core import draws
from jaxsrda.core.checkpoints import Checkpoints
from jaxsrda.core.devices import agreed, gathered, leading, placed
from jaxsrda.core.interrupts import goes_on, interruptible
from jaxsrda.core.locks import locked
from jaxsrda.core.records import described, flat
from jaxsrda.core.trees import digest, from_numbered, numbered
from jaxsrda.diffsrda.latent import LatentSpace
from jaxsrda.diffsrda.model import ModelConfig
from jaxsrda.training import buffer as buffers
from jaxsrda.training.course import learning_rate
from jaxsrda.training.loss import TrainConfig
from jaxsrda.training.programs import Programs
from jaxsrda.training.sources import Policy
from jaxsrda.training.stream import Fixed, StreamConfig, TrainState, correction_scale, first_state
from jaxsrda.training.windows import Windows

SAVE_EVERY = 120.0
"""Seconds of work that a kill can cost."""

Report = Callable[[dict[str, Any]], None]
"""Told a line of the curve, a validation, or a refill, each with its `kind`."""


class Truths(NamedTuple):
    """Truths on the device, (runs, frames, nx, ny): to train on, and kept from it."""

    training: Array
    held_out: Array


class Origin(NamedTuple):
    """Where a training starts: weights, the normalization that they were trained with, and an autoencoder.

    None for new weights and normalization; the autoencoder is a latent model's.
    """

    params: Any = None
    scale: np.ndarray | None = None
    space: LatentSpace | None = None


class Streamed(NamedTuple):
    """A trained stream: the state, the scale, how many windows were made, the curve, validations, and where the time
    went."""

    state: TrainState
    scale: np.ndarray
    windows: int
    curve: list[dict[str, float]]
    validations: list[dict[str, Any]]
    seconds: dict[str, float]


def run(
    model: ModelConfig,
    config: TrainConfig,
    stream: StreamConfig,
    programs: Programs,
    truths: Truths,
    origin: Origin = Origin(),  # noqa: B008 (a named tuple of None)
    report: Report = lambda _: None,
    folder: Path | None = None,
) -> Streamed:
    """Train until the budget is spent; the buffer is filled by the makers, one after the other.

    origin: where it starts; where the denoiser alone is trained, what stays is of its parameters.  Without a scale that
    of the first windows' corrections is taken.  folder: for checkpoints; called again it goes on from the last one, and
    a budget of samples gives the same curve however often it was killed.  A larger budget goes on where one ended.
    Raises ValueError for a loss that is not finite, and for a folder of another training.
    """
    work = Work(model, config, stream, programs, truths, origin, report)
    if folder is None:
        work.train(None, None, lambda: False)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (
            locked(folder.with_name(folder.name + ".lock"), wait=False) if leading() else contextlib.nullcontext(True)
        )
        with lock as mine:
            if not mine:
                raise ValueError(f"{folder}: another process is at work on this training; wait, or choose another")
            store = Checkpoints(folder, work.mark())
            work.restore(store, folder)
            with interruptible(goes_on(folder)) as stopped:
                work.train(store, folder, stopped)
    return Streamed(
        work.state, np.asarray(work.scale), work.counts["windows"], work.curve, work.validations, work.spent
    )


class Work:
    """A training under way; what a checkpoint holds are its state, its buffer and `counts`."""

    def __init__(
        self,
        model: ModelConfig,
        config: TrainConfig,
        stream: StreamConfig,
        programs: Programs,
        truths: Truths,
        origin: Origin,
        report: Report,
    ):
        self.model, self.config, self.stream = model, config, stream
        self.programs, self.truths, self.origin, self.report = programs, truths, origin, report
        self.mesh = programs.mesh
        self.key = jax.random.key(config.seed)
        self.state = placed(first_state(model, config, origin.params), self.mesh)
        self.fixed = placed(Fixed(origin.params if config.part == "denoiser" else None, origin.space), self.mesh)
        self.scale = origin.scale
        self.buffer = buffers.empty_buffer(stream.capacity, model, self.mesh)
        self.curve: list[dict[str, float]] = []
        self.validations: list[dict[str, Any]] = []
        self.spent = {"data": 0.0, "training": 0.0, "validation": 0.0, "all": 0.0}
        # Truths taken, windows made, of these at first, turns of the rounds, validations, samples seen.
        self.counts = {"truths": 0, "windows": 0, "first": 0, "turns": 0, "checks": 1, "samples": 0}

    # Data -------------------------------------------------------------------------------------

    def policy(self) -> Policy:
        """What cycles: the first average of the weights; before corrections have a scale, one half."""
        units = np.full(self.model.frames, 0.5, np.float32) if self.scale is None else self.scale
        return Policy(self.fixed.whole(self.state.averages[0]), placed(jnp.asarray(units), self.mesh))

    def taken(self, runs: int) -> Array:
        """The next truths: every one once a round, in a new order each."""
        total = len(self.truths.training)
        first = self.counts["truths"]
        self.counts["truths"] += runs
        places = [divmod(number, total) for number in range(first, first + runs)]
        numbers = np.array([order(self.config.seed, turn, total)[i] for turn, i in places])
        return lot(self.truths.training, numbers, self.mesh)

    def refill(self, name: str, folder: Path | None) -> None:
        """New windows of a maker."""
        since = time.perf_counter()
        make, runs = self.programs.makers[name]
        number = self.buffer.fills[-1].number + 1 if self.buffer.fills else 0
        key = placed(draws.stream(self.key, "refill", number + 1), self.mesh)
        new = make(key, self.taken(runs), self.policy())
        row = self.errors(name, new, "training") if self.scale is not None else {}
        if folder is not None:
            fill = gathered(new)
            if leading():
                buffers.save_fill(folder, number, fill)
        self.buffer = buffers.write(self.buffer, new)
        jax.block_until_ready(self.buffer.windows.condition)
        self.counts["windows"] += len(new.condition)
        took = time.perf_counter() - since
        self.spent["data"] += took
        self.report({"kind": "refill", "maker": name, "windows": len(new.condition), "seconds": took, **row})

    def due(self) -> bool:
        """Whether new windows are: their share of the time, or of the samples, is not used up."""
        if self.config.minutes:
            return agreed(self.spent["data"] - self.stream.data_share * self.spent["all"]) < 0
        return self.counts["windows"] - self.counts["first"] < self.stream.data_share * self.counts["samples"]

    def errors(self, name: str, windows: Windows, seen: str) -> dict[str, float]:
        """Errors of the model's cycling on the first windows of a maker, noted."""
        if name not in self.programs.errors:
            return {}
        error, count = self.programs.errors[name]
        found = error(self.policy(), self.fixed.space, jax.tree.map(lambda a: a[:count], windows))
        row = {n: float(v) for n, v in found.items()}
        self.validations.append({"samples": self.counts["samples"], "maker": name, "truths": seen, **row})
        return row

    def validate(self) -> None:
        """Cycle the held-out truths."""
        since = time.perf_counter()
        for name in self.programs.errors:
            make, runs = self.programs.makers[name]
            copies = lot(self.truths.held_out, np.arange(runs) % len(self.truths.held_out), self.mesh)
            key = placed(draws.stream(self.key, "held out"), self.mesh)
            row = self.errors(name, make(key, copies, self.policy()), "held out")
            self.report({"kind": "validation", "maker": name, "samples": self.counts["samples"], **row})
        self.spent["validation"] += time.perf_counter() - since

    # Training ---------------------------------------------------------------------------------

    def train(self, store: Checkpoints | None, folder: Path | None, stopped: Callable[[], bool]) -> None:
        """Refill, validate and step until the budget is spent."""
        stream, config, rounds = self.stream, self.config, tuple(self.programs.makers)
        before, began = self.spent["all"], time.perf_counter()
        if not self.buffer.fills:
            for name in rounds:
                self.refill(name, folder)
            self.counts["first"] = self.counts["windows"]
        if self.scale is None:
            filled = placed(jnp.int32(self.buffer.filled), self.mesh)
            self.scale = gathered(correction_scale(self.buffer.windows.correction, filled))
        saved, pending = began, None
        while (fraction := self.fraction(before, began)) < 1:
            if store is not None:
                late = agreed(math.inf if stopped() else time.perf_counter() - saved)
                if late > SAVE_EVERY:
                    self.tell(pending, before + time.perf_counter() - began)
                    pending = None
                    self.save(store, folder)
                    saved = time.perf_counter()
                if late == math.inf:
                    raise KeyboardInterrupt
            if fraction >= self.counts["checks"] / stream.validate:
                self.validate()
                self.counts["checks"] += 1
            if self.due():
                self.refill(rounds[self.counts["turns"] % len(rounds)], folder)
                self.counts["turns"] += 1
            since = time.perf_counter()
            step = self.counts["samples"] // config.batch
            rate = learning_rate(config.learning_rate, fraction, step, config.warmup_steps, config.cooling)
            numbers = jnp.int32(self.buffer.filled), rate, jnp.asarray(self.scale), self.key
            numbers = placed(numbers, self.mesh)
            self.state, metrics = self.programs.steps(self.state, self.fixed, self.buffer.windows, *numbers)
            self.counts["samples"] += stream.dispatch * config.batch
            # Told one dispatch late, so that the next one is under way already.
            self.tell(pending, before + time.perf_counter() - began)
            pending = {"samples": self.counts["samples"], "fraction": fraction, "rate": float(rate)}, metrics
            self.spent["training"] += time.perf_counter() - since
        self.tell(pending, self.spent["all"])
        jax.block_until_ready(self.state.params)
        self.spent["all"] = before + time.perf_counter() - began
        if store is not None:
            self.save(store, folder)
            store.close()

    def fraction(self, before: float, began: float) -> float:
        """Of the budget spent."""
        self.spent["all"] = agreed(before + time.perf_counter() - began)
        return self.config.spent(self.spent["all"], self.counts["samples"])

    def tell(self, pending: tuple[dict[str, float], dict[str, Array]] | None, seconds: float) -> None:
        """A line of the curve.  ValueError for a loss that is not finite."""
        if pending is None:
            return
        where, metrics = pending
        row = {name: float(value) for name, value in metrics.items()}
        if not np.isfinite(row["loss"]):
            raise ValueError(
                f"training: the loss is no longer finite at step {where['samples'] // self.config.batch}; lower "
                "learning_rate"
            )
        self.curve.append({**where, **row})
        self.report({"kind": "curve", "seconds": seconds, **self.curve[-1]})

    # Checkpoints ------------------------------------------------------------------------------

    def mark(self) -> dict[str, str]:
        """What the training is, by name: all but its budget."""
        data = [[*part.shape, np.asarray(part[0, -1], float).sum().item()] for part in self.truths]
        start = [float(np.abs(np.asarray(leaf, float)).sum()) for leaf in jax.tree.leaves(self.state.params)]
        scale = None if self.origin.scale is None else np.asarray(self.origin.scale, float).tolist()
        space = {name: np.asarray(leaf) for name, leaf in numbered(self.origin.space).items()}
        told = {"makers": list(self.programs.makers), "runs": data, "first weights": start, "first scale": scale}
        return work_of(self.model, self.config, self.stream, self.programs.what) | {
            **{name: json.dumps(value) for name, value in told.items()},
            "autoencoder's weights": digest(space),
        }

    def save(self, store: Checkpoints, folder: Path | None) -> None:
        """A checkpoint; windows lie beside it, those that it does not need are removed after it is written.

        The first process writes it, and the others wait until it is there.
        """
        if leading():
            self.write(store, folder)
        agreed(0.0)

    def write(self, store: Checkpoints, folder: Path | None) -> None:
        """The state, its notes, and no more windows than it needs."""
        arrays = {name: np.asarray(leaf) for name, leaf in numbered(self.state).items()}
        notes = {
            "curve": self.curve,
            "validations": self.validations,
            "spent": self.spent,
            "counts": self.counts,
            "fills": [list(fill) for fill in self.buffer.fills],
            "scale": np.asarray(self.scale).tolist(),
        }
        store.save(self.counts["samples"], arrays, notes)
        if folder is not None:
            buffers.tidy(folder, self.buffer.fills)

    def restore(self, store: Checkpoints, folder: Path) -> None:
        """Go on from the last checkpoint, if there is one, whatever devices wrote it."""
        steps = store.steps()
        if not steps:
            return
        kept = store.restore(steps[-1])
        leaves = {name: jnp.asarray(array) for name, array in kept.arrays.items()}
        self.state = placed(from_numbered(jax.tree.structure(self.state), leaves), self.mesh)
        notes = kept.notes
        self.curve, self.validations = notes["curve"], notes["validations"]
        self.spent, self.counts = notes["spent"], notes["counts"]
        self.scale = np.asarray(notes["scale"], np.float32)
        fills = [buffers.Fill(*fill) for fill in notes["fills"]]
        self.buffer = buffers.restored(folder, self.buffer, fills)


def lot(truths: Array, numbers: np.ndarray, mesh: Mesh | None) -> Array:
    """Some of the truths, shared out among the devices of a mesh."""
    return truths[numbers] if mesh is None else placed(np.asarray(truths)[numbers], mesh, "data")


def work_of(model: ModelConfig, config: TrainConfig, stream: StreamConfig, what: Any) -> dict[str, str]:
    """What a training is before its truths are there, as text by name; all but its budget.

    what: of its data, as `Programs.what` has it.
    """
    configs = {"model": described(model), "training": described(config), "stream": described(stream), "data": what}
    named = {name: text for part, value in configs.items() for name, text in flat(part, value).items()}
    return {name: text for name, text in named.items() if name not in ("training.samples", "training.minutes")}


@functools.lru_cache(4)
def order(seed: int, turn: int, total: int) -> np.ndarray:
    """The order of truths in a round."""
    return np.random.default_rng([seed, turn]).permutation(total)
