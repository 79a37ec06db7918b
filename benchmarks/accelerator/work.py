"""One job: its programs, its training, its weights and record, and its scores."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxsrda
from benchmarks.accelerator.plans import Job, Plan
from benchmarks.accelerator.queue import Queue, shape_of
from jaxsrda.core.files import write_json
from jaxsrda.core.provenance import stamped
from jaxsrda.core.records import described
from jaxsrda.diffsrda.model import network
from jaxsrda.experiment.registry import method_preset
from jaxsrda.observing.observations import observation_key
from jaxsrda.observing.sensors import observe_truths
from jaxsrda.training import sources, stream, stream_run
from jaxsrda.training.course import Budget
from jaxsrda.training.dataset import WindowSet
from jaxsrda.training.fit import Origin
from jaxsrda.training.job import residual_covariance
from jaxsrda.training.loss import objective
from jaxsrda.training.sources import Policy
from jaxsrda.training.windows import Windows

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 FLOP/s of devices, by the vendor's data sheets."""


def windows_shape(model: jaxsrda.ModelConfig, count: int) -> Windows:
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
    # Lowered for a CPU, which knows the cost of convolutions that a GPU hands to a library.
    cost = jax.jit(jax.grad(scalar)).trace(*shapes).lower(lowering_platforms=("cpu",)).cost_analysis() or {}
    return float(cost.get("flops", 0.0))


def score_program(setup: jaxsrda.Setup, assimilator: Callable[[Any], Any]) -> Callable:
    """A function (policy, keys, observations, truths), truths leading → mean scores by truth, first cycle left out."""
    testbed = setup.testbed

    def scores(policy: Any, keys: Any, observed: Any, truths: Any) -> dict[str, Any]:
        made = assimilator(policy)

        def one(key: Any, observed: Any, truth: Any) -> dict[str, Any]:
            _, history = jaxsrda.run_cycles(made, key, observed, truth, testbed=testbed)
            return {name: values[1:].mean() for name, values in (history.scores or {}).items()}

        return jax.vmap(one)(keys, observed, truths)

    return scores


def filter_program(setup: jaxsrda.Setup, name: str) -> Callable:
    """`score_program` of a method without a model, at its preset."""
    return score_program(setup, lambda _: jaxsrda.make_assimilator(name, setup, method_preset(name)))


class Test(NamedTuple):
    """Test truths with their observations and keys, as `jaxsrda.assimilate` gives them to methods."""

    keys: Any
    observed: Any
    truths: Any


def test_truths(plan: Plan, setup: jaxsrda.Setup) -> Test:
    """The first test truths (from the cache if they are there)."""
    seeds = jnp.arange(plan.truths, dtype=jnp.uint32)
    truths = jnp.asarray(jaxsrda.simulate_truth(plan.testbed, range(plan.truths), level=plan.test_level))
    observing = jax.vmap(lambda number: observation_key(0, number))(seeds)
    observed = observe_truths(observing, setup.grid, truths, setup.sensors, plan.testbed.frames_per_cycle)
    keys = jax.vmap(lambda number: jax.random.fold_in(jax.random.key(0), number))(seeds)
    return Test(keys, observed, truths)


def prepare(
    queue: Queue, plan: Plan, job: Job, setup: jaxsrda.Setup, test: Test, frames: int, others: dict[str, dict]
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

        def assimilator(policy: Policy, config: jaxsrda.DiffSRDAConfig = config) -> Any:
            return jaxsrda.make_diffsrda(setup, config, model=jaxsrda.Model(model, *policy))

        scores = score_program(setup, assimilator)
        futures[f"scores of {name}"] = queue.compiled(f"{job.name}: scores of {name}", scores, policy, *shape_of(test))
    return futures


def train(
    queue: Queue,
    plan: Plan,
    job: Job,
    futures: dict[str, Any],
    data: stream_run.Truths,
    test: Test,
    minutes: float,
    parent: jaxsrda.Model | None = None,
) -> jaxsrda.Model:
    """Run a job, write its weights and record, and return the model."""
    model, (truths, held_out) = job.model, data
    programs = stream_run.Programs(
        futures["steps"].result(),
        {name: (futures[name].result(), runs) for name, (_, _, runs) in job.makers.items()},
        job.rounds,
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
    if job.init:
        params = jaxsrda.load_model(job.init)[0].params

    frozen = params if job.training.part == "denoiser" else None
    origin = Origin(params, scale)
    folder = queue.out / f"{job.name}.train" if queue.resume else None
    done = stream_run.run(model, job.training, config, programs, data, origin, report, folder)
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
    fitted = jaxsrda.Model(model, candidates[best], np.asarray(done.scale))
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
    jaxsrda.save_model(path, fitted, stamped(record), bits=job.bits)
    write_json(queue.out / f"{job.name}.json", stamped(record))  # before the scores, which diverge where weights do
    told = ("samples", "seconds", "windows_per_second", "share_of_peak")
    queue.say({"kind": "done", "job": job.name, **{name: record[name] for name in told}, "chosen": best})
    for row in ends:
        queue.say({"kind": "end of training", "job": job.name, **row})
    record["scores"] = {}
    for name in job.scored:
        record["scores"][name] = score(queue, f"{job.name}, {name}", futures[f"scores of {name}"], fitted, test)
    write_json(queue.out / f"{job.name}.json", stamped(record))
    queue.pack()
    return fitted


def score(queue: Queue, name: str, program: Any, model: jaxsrda.Model | None, test: Test) -> dict[str, Any]:
    """Scores by truth, and the seconds of the run."""
    policy = None if model is None else Policy(model.params, jnp.asarray(model.scale))
    made = program.result()
    since = time.perf_counter()
    rows = {name: np.asarray(values).tolist() for name, values in made(policy, *test).items()}
    seconds = time.perf_counter() - since
    queue.say({"kind": "scores", "of": name, "run": seconds, **{name: float(np.mean(v)) for name, v in rows.items()}})
    return {"per_truth": rows, "seconds": seconds}
