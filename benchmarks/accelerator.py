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
from typing import Any, NamedTuple

os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.93")

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.core.files import write_json
from jaxsrda.core.provenance import stamped
from jaxsrda.core.records import described
from jaxsrda.cycling.assimilator import Setup
from jaxsrda.cycling.cycle import run_cycles
from jaxsrda.diffsrda.condition import Conditioning
from jaxsrda.diffsrda.config import PAPER_DIFFSRDA, DiffSRDAConfig
from jaxsrda.diffsrda.model import Model, ModelConfig, network
from jaxsrda.diffsrda.weights import save_model
from jaxsrda.experiment.registry import make_assimilator, make_diffsrda, method_preset
from jaxsrda.experiment.truth import default_climatology, simulate_truth
from jaxsrda.flow.testbed import Testbed, jet
from jaxsrda.networks import registry
from jaxsrda.observing.observations import observation_key
from jaxsrda.observing.sensors import observe_truths
from jaxsrda.training import sources, stream
from jaxsrda.training.course import Budget
from jaxsrda.training.dataset import WindowSet
from jaxsrda.training.job import residual_covariance
from jaxsrda.training.loss import TrainConfig, objective
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
    """One training: its share of the time, model, settings, where windows come from, and how it is scored.

    makers: name → (prior, sensing, runs at once); rounds: in which order they are asked; checked: makers whose windows
    of the first layout are scored; parent: an earlier job whose weights and makers this one goes on with; scored: name
    → cycle that is run on the test truths.
    """

    name: str
    share: float
    model: ModelConfig
    training: TrainConfig
    stream: StreamConfig
    makers: dict[str, tuple[str, Sensing, int]]
    rounds: tuple[str, ...]
    checked: tuple[str, ...]
    scored: dict[str, DiffSRDAConfig]
    parent: str = ""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that is run: the testbed, runs to train on and runs kept from it, how many are simulated at once, the
    jobs, test truths that models and filters are scored on."""

    testbed: Testbed
    level: str
    runs: int
    held_out: int
    batch: int
    jobs: tuple[Job, ...]
    members: int = 30
    chunk: int = 64
    truths: int = 10
    filters: tuple[str, ...] = ("enkf-lagrange", "enkf-hr")


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

    def job(name: str, share: float, network: str, priors: tuple[str, ...], rate: float) -> Job:
        return Job(
            name,
            share,
            ModelConfig.of(testbed, network=network, priors=priors),
            TrainConfig(batch=256, learning_rate=rate, bfloat16=True, noises=1),
            StreamConfig(),
            makers_of(priors, many, 64),
            rounds_of(priors),
            priors,
            {prior: DiffSRDAConfig(prior=prior) for prior in priors},
        )

    small = job("small", 0.3, "small", both, 1.5e-3)
    one_pass = dataclasses.replace(
        small,
        name="one-pass",
        share=0.15,
        parent="small",
        model=dataclasses.replace(small.model, distilled=1),
        training=dataclasses.replace(small.training, part="denoiser", loss="crps", noises=2, learning_rate=7e-4),
        stream=StreamConfig(data_share=0.2),
        scored={prior: DiffSRDAConfig(prior=prior, steps=1) for prior in both},
    )
    paper = Job(
        "paper-narrow",
        0.25,
        ModelConfig.of(
            testbed,
            network="paper-narrow",
            priors=("lr",),
            target="direct",
            parametrization="noise",
            conditioning=Conditioning.of(testbed, "paper"),
        ),
        TrainConfig(batch=64, learning_rate=1e-4, bfloat16=True, noises=1, loss="l1", sigmas="vp", weight_decay=0.0),
        StreamConfig(capacity=32_768, data_share=0.1),
        {"lr": ("lr", Sensing(), 256)},
        ("lr",),
        ("lr",),
        {"lr": PAPER_DIFFSRDA},
    )
    return Plan(testbed, "", runs, 64, 256, (small, one_pass, paper, job("base", 0.3, "base", ("carried",), 1e-3)))


def tiny_plan() -> Plan:
    """The same at the smallest sizes."""
    full = full_plan(16)

    def smaller(job: Job) -> Job:
        makers = {
            name: (prior, sensing, max(2, sum(sensing.shares))) for name, (prior, sensing, _) in job.makers.items()
        }
        scored = {
            name: dataclasses.replace(config, members=2, steps=1 if job.model.distilled else 2)
            for name, config in job.scored.items()
        }
        network = "tiny" if job.model.network in ("small", "base") else job.model.network
        return dataclasses.replace(
            job,
            model=dataclasses.replace(job.model, network=network),
            training=dataclasses.replace(job.training, batch=4),
            stream=dataclasses.replace(job.stream, capacity=64, dispatch=2, validate=2),
            makers=makers,
            scored=scored,
        )

    testbed = dataclasses.replace(full.testbed, frames=12)
    return dataclasses.replace(
        full,
        testbed=testbed,
        level="hr",
        held_out=2,
        batch=8,
        jobs=tuple(map(smaller, full.jobs)),
        members=4,
        chunk=2,
        truths=1,
        filters=("enkf-sr",),
    )


class Queue:
    """The queue's state: deadline, log, and programs that are compiled beside the work."""

    def __init__(self, out: Path, minutes: float):
        self.out, self.began, self.minutes = out, time.perf_counter(), minutes
        self.pool = concurrent.futures.ThreadPoolExecutor(8)
        self.log = open(out / "log.jsonl", "a", encoding="utf-8")

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


def windows_shape(model: ModelConfig, count: int) -> Windows:
    """Shapes of windows."""
    return Windows(
        *(jax.ShapeDtypeStruct((count, model.nx, model.ny, n), jnp.float16) for n in (model.channels, model.frames))
    )


def step_flops(job: Job, params: Any, frozen: Any) -> float:
    """Floating-point operations of one training step, as XLA counts them before it fuses anything."""
    loss = objective(job.model, job.training, np.ones(job.model.frames, np.float32), frozen)

    def scalar(params: Any, key: Any, windows: Windows) -> Any:
        return loss(params, key, windows)[0]

    shapes = shape_of(params), shape_of(jax.random.key(0)), windows_shape(job.model, job.training.batch)
    cost = jax.jit(jax.grad(scalar)).lower(*shapes).cost_analysis() or {}
    return float(cost.get("flops", 0.0))


def score_program(setup: Setup, assimilator: Callable[[Any], Any]) -> Callable:
    """A function (policy, keys, observations, truths), truths leading → mean scores by truth, first cycle left out."""
    testbed = setup.testbed

    def scores(policy: Any, keys: Any, observed: Any, truths: Any) -> dict[str, Any]:
        made = assimilator(policy)

        def one(key: Any, observed: Any, truth: Any) -> dict[str, Any]:
            _, history = run_cycles(made, key, observed, truth, testbed=testbed)
            return {name: values[1:].mean() for name, values in (history.scores or {}).items()}

        return jax.vmap(one)(keys, observed, truths)

    return scores


class Test(NamedTuple):
    """Test truths with their observations and keys, as `jaxsrda.assimilate` gives them to methods."""

    keys: Any
    observed: Any
    truths: Any


def test_truths(plan: Plan, setup: Setup) -> Test:
    """The first test truths (from the cache if they are there)."""
    seeds = jnp.arange(plan.truths, dtype=jnp.uint32)
    truths = jnp.asarray(simulate_truth(plan.testbed, range(plan.truths), level=plan.level))
    observing = jax.vmap(lambda number: observation_key(0, number))(seeds)
    observed = observe_truths(observing, setup.grid, truths, setup.sensors, plan.testbed.frames_per_cycle)
    keys = jax.vmap(lambda number: jax.random.fold_in(jax.random.key(0), number))(seeds)
    return Test(keys, observed, truths)


def prepare(
    queue: Queue, plan: Plan, job: Job, setup: Setup, test: Test, frames: int, others: dict[str, dict]
) -> dict[str, Any]:
    """Futures of a job's programs; others: those of earlier jobs."""
    model, training = job.model, job.training
    whole = jax.eval_shape(lambda: network(model).initial(0))
    frozen = whole if training.part == "denoiser" else None
    state = jax.eval_shape(lambda params: stream.first_state(model, training, job.stream, params), whole)
    policy = Policy(whole, jax.ShapeDtypeStruct((model.frames,), jnp.float32))
    key = shape_of(jax.random.key(0))
    held = windows_shape(model, job.stream.capacity)
    steps = stream.make_steps(model, training, job.stream)
    numbers = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((), jnp.float32)
    futures: dict[str, Any] = {
        "steps": queue.compiled(
            f"{job.name}: steps", steps, state, frozen, held, *numbers, policy.scale, key, donate=(0,)
        )
    }
    for name, (prior, sensing, runs) in job.makers.items():
        if job.parent:
            futures[name] = others[job.parent][name]
            continue
        if prior == "lr":
            make = sources.forecasts(setup, model, sensing.layouts[0], "mixup")
        else:
            make = sources.cycled(setup, model, prior, sensing, plan.members)
        truths = jax.ShapeDtypeStruct((runs, frames, *plan.testbed.grid.shape), jnp.float16)
        futures[name] = queue.compiled(f"{job.name}: {name}", make, key, truths, policy)
    cycles = (frames - 1) // plan.testbed.frames_per_cycle - 1
    for name in job.checked:
        _, sensing, runs = job.makers[name]
        count = cycles * sensing.parts(runs)[0][1].stop // plan.chunk * plan.chunk

        def error(policy: Policy, windows: Windows) -> dict[str, Any]:
            if training.part == "denoiser" or model.target == "direct":
                return stream.denoiser_error(model, training, policy, windows, plan.chunk)
            return stream.analysis_error(model, policy, windows, plan.chunk)

        shapes = policy, windows_shape(model, count)
        futures[f"error of {name}"] = queue.compiled(f"{job.name}: error of {name}", error, *shapes), count
    for name, config in job.scored.items():

        def assimilator(policy: Policy, config: DiffSRDAConfig = config) -> Any:
            return make_diffsrda(setup, config, model=Model(model, *policy))

        scores = score_program(setup, assimilator)
        futures[f"scores of {name}"] = queue.compiled(f"{job.name}: scores of {name}", scores, policy, *shape_of(test))
    return futures


def train(
    queue: Queue,
    plan: Plan,
    job: Job,
    futures: dict[str, Any],
    data: tuple[Any, Any],
    test: Test,
    minutes: float,
    parent: Model | None = None,
) -> Model:
    """Run a job, write its weights and record, and return the model."""
    model, (truths, held_out) = job.model, data
    programs = stream.Programs(
        futures["steps"].result(),
        {name: (futures[name].result(), runs) for name, (_, _, runs) in job.makers.items()},
        {name: (futures[f"error of {name}"][0].result(), futures[f"error of {name}"][1]) for name in job.checked},
    )
    config = dataclasses.replace(job.stream, budget=Budget(minutes=minutes))
    told_at = 0.0

    def report(line: dict[str, Any]) -> None:
        nonlocal told_at
        if line["kind"] == "curve" and queue.seconds - told_at < 5:
            return
        told_at = queue.seconds if line["kind"] == "curve" else told_at
        queue.say({"job": job.name, **line})

    params, scale = (None, None) if parent is None else (parent.params, parent.scale)
    done = stream.run(model, job.training, config, programs, truths, held_out, job.rounds, params, scale, report)
    frozen = params if job.training.part == "denoiser" else None
    samples = int(done.state.step) * job.training.batch
    scale = jnp.asarray(done.scale)
    candidates = {f"average {n}": p for n, p in zip(config.averages, done.state.averages)} | {"last": done.state.params}
    candidates = {name: stream.whole(frozen, params) for name, params in candidates.items()}
    losses: dict[str, dict[str, float]] = {name: {} for name in candidates}
    kept: list[Windows] = []
    ends: list[dict[str, Any]] = []
    for maker in job.checked:  # windows of one cycling, for all candidates
        make, runs = programs.makers[maker]
        error, count = programs.errors[maker]
        copies = held_out[jnp.asarray(np.arange(runs) % len(held_out))]
        windows = make(jax.random.key(0x686F), copies, Policy(candidates["last"], scale))
        windows = jax.tree.map(lambda a, n=count: a[:n], windows)
        kept.append(jax.tree.map(lambda a: np.asarray(a[:: max(1, len(a) // 64)]), windows))
        for name, params in candidates.items():
            row = {key: float(value) for key, value in error(Policy(params, scale), windows).items()}
            losses[name][maker] = row["loss"]
            ends.append({"samples": samples, "maker": maker, "truths": "held out", "weights": name, **row})
    best = min(losses, key=lambda name: float(np.mean(list(losses[name].values()))))
    fitted = Model(model, candidates[best], np.asarray(done.scale))
    if model.target == "residual":
        fitted = dataclasses.replace(fitted, residual=residual_covariance(fitted, WindowSet(kept)))
    flops = step_flops(job, done.state.params, frozen) / job.training.batch
    rate = samples / max(1e-9, done.seconds["training"])
    device = jax.devices()[0].device_kind
    peak = next((value for name, value in PEAK.items() if name in device), None)
    record: dict[str, Any] = {
        "training": described(job.training) | {"stream": described(config)},
        "model": described(model),
        "makers": {name: [prior, described(sensing), runs] for name, (prior, sensing, runs) in job.makers.items()},
        "runs": len(truths),
        "samples": samples,
        "parent": job.parent,
        "validation": losses | {"chosen": best},
        "validations": done.validations + ends,
        "curve": done.curve[:: max(1, len(done.curve) // 60)],
        "seconds": done.seconds,
        "windows_per_second": rate,
        "flops_per_window": flops,
        "share_of_peak": None if peak is None else rate * flops / peak,
        "device": device,
    }
    path = queue.out / f"{job.name}.npz"
    save_model(path, fitted, stamped(record))
    split(path)
    write_json(queue.out / f"{job.name}.json", stamped(record))  # before the scores, which diverge where weights do
    told = ("samples", "seconds", "windows_per_second", "share_of_peak")
    queue.say({"kind": "done", "job": job.name, **{name: record[name] for name in told}, "chosen": best})
    for row in ends:
        queue.say({"kind": "end of training", "job": job.name, **row})
    record["scores"] = {}
    for name in job.scored:
        record["scores"][name] = score(queue, f"{job.name}, {name}", futures[f"scores of {name}"], fitted, test)
    write_json(queue.out / f"{job.name}.json", stamped(record))
    return fitted


def score(queue: Queue, name: str, program: Any, model: Model | None, test: Test) -> dict[str, Any]:
    """Scores by truth, and the seconds of the run."""
    policy = None if model is None else Policy(model.params, jnp.asarray(model.scale))
    made = program.result()
    since = time.perf_counter()
    rows = {name: np.asarray(values).tolist() for name, values in made(policy, *test).items()}
    seconds = time.perf_counter() - since
    queue.say({"kind": "scores", "of": name, "run": seconds, **{name: float(np.mean(v)) for name, v in rows.items()}})
    return {"per_truth": rows, "seconds": seconds}


def split(path: Path) -> None:
    """A large file in parts."""
    if path.stat().st_size > PART:
        data = path.read_bytes()
        for number, first in enumerate(range(0, len(data), PART)):
            (path.parent / f"{path.name}.{number:02d}").write_bytes(data[first : first + PART])
        path.unlink()


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
    if jax.config.jax_compilation_cache_dir is None:
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
    test = test_truths(plan, setup)
    queue.say({"kind": "test truths"})
    futures: dict[str, dict[str, Any]] = {}
    for job in plan.jobs:
        futures[job.name] = prepare(queue, plan, job, setup, test, frames, futures)

    def filter_scores(name: str) -> Any:
        program = score_program(setup, lambda _: make_assimilator(name, setup, method_preset(name)))
        return queue.compiled(f"filter {name}", program, None, *shape_of(test))

    filters = {name: filter_scores(name) for name in plan.filters}
    program = truth_future.result()
    since = time.perf_counter()

    def told(done: int, total: int) -> None:
        queue.say({"kind": "truths", "done": done, "of": total})

    everything = sources.make_truths(program, plan.runs + plan.held_out, plan.batch, report=told)
    jax.block_until_ready(everything)
    truths, held_out = everything[: -plan.held_out], everything[-plan.held_out :]
    took = time.perf_counter() - since
    queue.say({"kind": "truths", "runs": len(everything), "seconds": took, "runs_per_second": len(everything) / took})
    fitted: dict[str, Model] = {}
    for number, job in enumerate(plan.jobs):
        share = job.share / sum(other.share for other in plan.jobs[number:])
        # What each job needs beside its training: scoring candidates and truths, and writing.
        minutes = max(0.3, share * queue.left / 60 - 0.2)
        queue.say({"kind": "job", "job": job.name, "minutes": minutes})
        data = truths, held_out
        fitted[job.name] = train(
            queue, plan, job, futures[job.name], data, test, minutes, fitted.get(job.parent) if job.parent else None
        )
    rows = {name: score(queue, name, program, None, test) for name, program in filters.items()}
    write_json(queue.out / "filters.json", stamped({"scores": rows, "truths": plan.truths}))
    queue.say({"kind": "end"})


if __name__ == "__main__":
    main()
