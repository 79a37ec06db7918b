"""The accelerator queue: `python -m benchmarks.accelerator OUT MINUTES`, one process, everything in order of worth.

Truths are simulated on the device, then each training job gets its share of the time that is left, makes its own
windows (the model's mean in the loop) and leaves weights and a record that are complete without the rest.  Needs JAX
for the device, Flax, Optax, Orbax, NumPy, rich and xarray alone.  --tiny does the same at the smallest sizes, on a CPU.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.93")

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.core.files import write_json
from jaxsrda.core.provenance import stamped
from jaxsrda.core.records import described
from jaxsrda.cycling.assimilator import Setup
from jaxsrda.diffsrda.model import Model, ModelConfig
from jaxsrda.diffsrda.weights import save_model
from jaxsrda.experiment.truth import default_climatology
from jaxsrda.flow.testbed import Testbed, jet
from jaxsrda.networks import registry
from jaxsrda.training import sources, stream
from jaxsrda.training.course import Budget
from jaxsrda.training.dataset import WindowSet
from jaxsrda.training.job import residual_covariance
from jaxsrda.training.loss import TrainConfig, window_loss
from jaxsrda.training.sources import Policy, Sensing
from jaxsrda.training.stream import StreamConfig
from jaxsrda.training.windows import Windows

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 FLOP/s of devices, by the vendor's data sheets."""

PART = 15_000_000
"""Largest file, in bytes; larger weights are split."""

MAIN = Sensing(
    ("lattice:8", "lattice:8+dropout:0.3+silent:0.3", "random-moving:128", "lattice:12"), (5, 1, 1, 1), 0.1, (0.02, 0.5)
)
DENSE = Sensing(("lattice:6", "lattice:4"), (1, 1), 0.1, (0.02, 0.5))


@dataclasses.dataclass(frozen=True)
class Job:
    """One training: its share of the time, model, settings, and where windows come from.

    makers: name → (prior, sensing, runs at once); rounds: in which order they are asked; checked: makers whose windows
    of the first layout are scored.
    """

    name: str
    share: float
    model: ModelConfig
    training: TrainConfig
    stream: StreamConfig
    makers: dict[str, tuple[str, Sensing, int]]
    rounds: tuple[str, ...]
    checked: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that is run: the testbed, runs to train on and runs kept from it, how many are simulated at once."""

    testbed: Testbed
    level: str
    runs: int
    held_out: int
    batch: int
    jobs: tuple[Job, ...]
    members: int = 30
    chunk: int = 64


def makers_of(priors: tuple[str, ...], runs: dict[str, int], dense: int) -> dict[str, tuple[str, Sensing, int]]:
    """Makers of windows of each prior, with the usual sensors and with dense ones."""
    usual = {prior: (prior, MAIN, runs[prior]) for prior in priors}
    return usual | {f"{prior}, dense": (prior, DENSE, dense) for prior in priors}


def rounds_of(priors: tuple[str, ...]) -> tuple[str, ...]:
    """Usual sensors four times, then dense ones, for each prior in turn."""
    usual = [prior for _ in range(4) for prior in priors]
    return (*usual, *(f"{prior}, dense" for prior in priors))


def full_plan(runs: int) -> Plan:
    """What is worth about ten minutes of an H100 or H200."""
    testbed = jet()
    memory = (jax.devices()[0].memory_stats() or {}).get("bytes_limit", 0)
    many = {"carried": 512 if memory > 100e9 else 256, "lagrange": 256}
    both = ("carried", "lagrange")

    def job(name: str, share: float, network: str, priors: tuple[str, ...], rate: float, batch: int) -> Job:
        return Job(
            name,
            share,
            ModelConfig.of(testbed, network=network, priors=priors),
            TrainConfig(batch=batch, learning_rate=rate, bfloat16=True, noises=1),
            StreamConfig(capacity=65_536, dispatch=25),
            makers_of(priors, many, 64),
            rounds_of(priors),
            priors,
        )

    jobs = (
        job("small", 0.5, "small", both, 1.5e-3, 256),
        job("base", 0.5, "base", ("carried",), 1e-3, 256),
    )
    return Plan(testbed, "", runs, 64, 256, jobs)


def tiny_plan() -> Plan:
    """The same at the smallest sizes."""
    full = full_plan(16)

    def smaller(job: Job) -> Job:
        makers = {
            name: (prior, sensing, sum(sensing.shares) * (1 if "dense" in name else 1))
            for name, (prior, sensing, _) in job.makers.items()
        }
        return dataclasses.replace(
            job,
            model=dataclasses.replace(job.model, network="tiny"),
            training=dataclasses.replace(job.training, batch=8),
            stream=dataclasses.replace(job.stream, capacity=512, dispatch=2, validate=2),
            makers=makers,
        )

    testbed = dataclasses.replace(full.testbed, frames=12)
    return dataclasses.replace(
        full, testbed=testbed, level="hr", held_out=2, batch=8, jobs=tuple(map(smaller, full.jobs)), members=4, chunk=4
    )


class Queue:
    """The queue's state: deadline, log, and programs that are compiled beside the work."""

    def __init__(self, out: Path, minutes: float):
        self.out, self.began, self.minutes = out, time.perf_counter(), minutes
        self.pool = concurrent.futures.ThreadPoolExecutor(8)
        self.log = open(out / "log.jsonl", "a", encoding="utf-8")  # noqa: SIM115 (as long as the queue)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.began

    @property
    def left(self) -> float:
        """Seconds until the time limit."""
        return 60 * self.minutes - self.seconds

    def say(self, line: dict[str, Any]) -> None:
        """A line of the log, on the screen too."""
        line = {"at": round(self.seconds, 1), **line}
        text = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in line.items()})
        print(text, flush=True)
        self.log.write(text + "\n")
        self.log.flush()

    def compiled(self, name: str, function: Callable, *shapes: Any, donate: tuple[int, ...] = ()) -> Any:
        """A future of the program, and how long it took to make."""

        def make() -> Any:
            since = time.perf_counter()
            program = jax.jit(function, donate_argnums=donate).lower(*shapes).compile()
            self.say({"kind": "compiled", "program": name, "seconds": time.perf_counter() - since})
            return program

        return self.pool.submit(make)


def shape_of(tree: Any) -> Any:
    """Shapes and types of arrays."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)


def step_flops(job: Job, state: Any) -> float:
    """Floating-point operations of one training step, as XLA counts them before it fuses anything."""
    model, training = job.model, job.training
    net = jnp.zeros((), jnp.float32)
    batch = Windows(
        jax.ShapeDtypeStruct((training.batch, model.nx, model.ny, model.channels), jnp.float16),
        jax.ShapeDtypeStruct((training.batch, model.nx, model.ny, model.frames), jnp.float16),
    )

    def loss(params: Any, key: Any, windows: Windows) -> Any:
        return window_loss(model, training, jnp.ones(model.frames), params, key, windows)[0] + net

    lowered = jax.jit(jax.grad(loss)).lower(shape_of(state.params), shape_of(jax.random.key(0)), batch)
    cost = lowered.cost_analysis() or {}
    return float(cost.get("flops", 0.0))


def prepare(queue: Queue, plan: Plan, job: Job, setup: Setup, shape: tuple[int, ...]) -> dict[str, Any]:
    """Futures of a job's programs."""
    model, training = job.model, job.training
    state = jax.eval_shape(lambda: stream.first_state(model, training, job.stream))
    policy = Policy(state.params, jax.ShapeDtypeStruct((model.frames,), jnp.float32))
    key = shape_of(jax.random.key(0))
    held = shape_of(jax.eval_shape(lambda: stream.empty_buffer(job.stream.capacity, model).windows))
    steps = stream.make_steps(model, training, job.stream)
    inputs = state, held, jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((), jnp.float32), policy.scale, key
    futures = {"steps": queue.compiled(f"{job.name}: steps", steps, *inputs, donate=(0,))}
    for name, (prior, sensing, runs) in job.makers.items():
        make = sources.cycled(setup, model, prior, sensing, plan.members)
        truths = jax.ShapeDtypeStruct((runs, *shape[1:]), jnp.float16)
        futures[name] = queue.compiled(f"{job.name}: {name}", make, key, truths, policy)
    cycles = (shape[1] - 1) // plan.testbed.frames_per_cycle - 1
    for name in job.checked:
        _, sensing, runs = job.makers[name]
        count = cycles * sensing.parts(runs)[0][1].stop // plan.chunk * plan.chunk
        windows = Windows(
            *(jax.ShapeDtypeStruct((count, model.nx, model.ny, n), jnp.float16) for n in (model.channels, model.frames))
        )

        def error(policy: Policy, windows: Windows) -> dict[str, Any]:
            return stream.analysis_error(model, policy, windows, plan.chunk)

        futures[f"error of {name}"] = queue.compiled(f"{job.name}: error of {name}", error, policy, windows), count
    return futures


def train(queue: Queue, plan: Plan, job: Job, futures: dict[str, Any], truths: Any, held_out: Any, minutes: float):
    """Run a job, and write its weights and record."""
    model = job.model
    programs = stream.Programs(
        futures["steps"].result(),
        {name: (futures[name].result(), runs) for name, (_, _, runs) in job.makers.items()},
        {name: (futures[f"error of {name}"][0].result(), futures[f"error of {name}"][1]) for name in job.checked},
    )
    config = dataclasses.replace(job.stream, budget=Budget(minutes=minutes))
    last = {"curve": 0.0}

    def report(line: dict[str, Any]) -> None:
        if line["kind"] == "curve" and queue.seconds - last["curve"] < 5:
            return
        if line["kind"] == "curve":
            last["curve"] = queue.seconds
        queue.say({"job": job.name, **line})

    done = stream.run(
        model, job.training, config, programs, truths, held_out, job.rounds, report=report, save=lambda *_: None
    )
    samples = int(done.state.step) * job.training.batch
    key = jax.random.key(0x686F)
    candidates = {f"average {n}": p for n, p in zip(config.averages, done.state.averages)} | {"last": done.state.params}
    scale = jnp.asarray(done.scale)
    # Windows of the first average's cycling, for all candidates.
    losses: dict[str, dict[str, float]] = {name: {} for name in candidates}
    kept: list[Windows] = []
    for maker in job.checked:
        make, runs = programs.makers[maker]
        error, count = programs.errors[maker]
        windows = make(key, held_out[jnp.asarray(np.arange(runs) % len(held_out))], Policy(candidates["last"], scale))
        windows = jax.tree.map(lambda a, n=count: a[:n], windows)
        kept.append(jax.tree.map(lambda a: np.asarray(a[:: max(1, len(a) // 64)]), windows))
        for name, params in candidates.items():
            losses[name][maker] = float(error(Policy(params, scale), windows)["regression"])
    best = min(losses, key=lambda name: float(np.mean(list(losses[name].values()))))
    fitted = Model(model, candidates[best], np.asarray(done.scale))
    if model.target == "residual":
        fitted = dataclasses.replace(fitted, residual=residual_covariance(fitted, WindowSet(kept)))
    flops = step_flops(job, done.state)
    rate = samples / max(1e-9, done.seconds["training"])
    kind = jax.devices()[0].device_kind
    peak = next((value for name, value in PEAK.items() if name in kind), None)
    record = {
        "job": described(job.training) | {"stream": described(config)},
        "model": described(model),
        "makers": {name: [prior, described(sensing), runs] for name, (prior, sensing, runs) in job.makers.items()},
        "runs": len(truths),
        "samples": samples,
        "validation": losses | {"chosen": best},
        "validations": done.validations,
        "curve": done.curve[:: max(1, len(done.curve) // 60)],
        "seconds": done.seconds,
        "windows_per_second": rate,
        "flops_per_window": flops / job.training.batch,
        "share_of_peak": None if peak is None else rate * flops / job.training.batch / peak,
        "device": kind,
    }
    path = queue.out / f"{job.name}.npz"
    save_model(path, fitted, stamped(record))
    if path.stat().st_size > PART:
        data = path.read_bytes()
        for number, first in enumerate(range(0, len(data), PART)):
            (queue.out / f"{path.name}.{number:02d}").write_bytes(data[first : first + PART])
        path.unlink()
    write_json(queue.out / f"{job.name}.json", stamped(record))
    told = ("samples", "seconds", "windows_per_second", "share_of_peak")
    queue.say({"kind": "done", "job": job.name, **{name: record[name] for name in told}, "chosen": best})


def main() -> None:
    """The queue."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--tiny", action="store_true", help="smallest sizes, on a CPU")
    parser.add_argument("--runs", type=int, default=1024, help="training runs")
    parser.add_argument("--jobs", nargs="*", default=None, help="names of the jobs, by default all")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    cache = Path(os.environ.get("JAXSRDA_CACHE", "/tmp/jaxsrda-cache"))
    os.environ["JAXSRDA_CACHE"] = str(cache)
    jax.config.update("jax_compilation_cache_dir", str(cache / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    queue = Queue(arguments.out, arguments.minutes)
    plan = tiny_plan() if arguments.tiny else full_plan(arguments.runs)
    if arguments.jobs is not None:
        plan = dataclasses.replace(plan, jobs=tuple(job for job in plan.jobs if job.name in arguments.jobs))
    queue.say({"kind": "device", "name": jax.devices()[0].device_kind, "networks": len(registry.NETWORKS)})
    testbed = plan.testbed
    level = testbed.level(plan.level) if plan.level else testbed.truth
    frames = testbed.frames + 1
    make = sources.truth_program(testbed, level, frames)
    truth_future = queue.compiled("truths", make, jax.ShapeDtypeStruct((plan.batch,), jnp.int32))
    setup = Setup(testbed, default_climatology(testbed))
    queue.say({"kind": "climatology"})
    shape = (plan.runs, frames, *testbed.grid.shape)
    futures = [prepare(queue, plan, job, setup, shape) for job in plan.jobs]
    program = truth_future.result()
    since = time.perf_counter()

    def told(done: int, total: int) -> None:
        queue.say({"kind": "truths", "done": done, "of": total})

    everything = sources.make_truths(program, plan.runs + plan.held_out, plan.batch, report=told)
    jax.block_until_ready(everything)
    truths, held_out = everything[: -plan.held_out], everything[-plan.held_out :]
    took = time.perf_counter() - since
    queue.say({"kind": "truths", "runs": len(everything), "seconds": took, "runs_per_second": len(everything) / took})
    for number, job in enumerate(plan.jobs):
        share = job.share / sum(other.share for other in plan.jobs[number:])
        # What each job needs beside its training: scoring candidates and writing.
        minutes = max(0.3, share * queue.left / 60 - 0.15)
        queue.say({"kind": "job", "job": job.name, "minutes": minutes})
        train(queue, plan, job, futures[number], truths, held_out, minutes)
    queue.say({"kind": "end"})


if __name__ == "__main__":
    main()
