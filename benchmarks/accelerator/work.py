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
from jaxsrda.diffsrda.model import denoiser_part, network
from jaxsrda.observing.observations import observation_key
from jaxsrda.observing.sensors import observe_truths
from jaxsrda.training.fit import fit
from jaxsrda.training.job import thinned, with_covariance
from jaxsrda.training.loss import objective
from jaxsrda.training.programs import Programs, compiled, makers, windows_shape
from jaxsrda.training.sources import Policy
from jaxsrda.training.stream import Fixed, first_state
from jaxsrda.training.stream_run import Origin, Truths
from jaxsrda.training.windows import Windows

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 FLOP/s of devices, by the vendor's data sheets."""


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
    return score_program(setup, lambda _: jaxsrda.make_assimilator(name, setup, jaxsrda.method_preset(name)))


class Test(NamedTuple):
    """Test truths with their observations and keys, as `jaxsrda.assimilate` gives them to methods."""

    keys: Any
    observed: Any
    truths: Any


def test_truths(plan: Plan, setup: jaxsrda.Setup) -> Test:
    """The first test truths (from the cache if they are there)."""
    testbed, seeds = setup.testbed, jnp.arange(plan.truths, dtype=jnp.uint32)
    truths = jnp.asarray(jaxsrda.simulate_truth(testbed, range(plan.truths), level=plan.test_level))
    observing = jax.vmap(lambda number: observation_key(0, number))(seeds)
    observed = observe_truths(observing, setup.grid, truths, setup.sensors, testbed.frames_per_cycle)
    keys = jax.vmap(lambda number: jax.random.fold_in(jax.random.key(0), number))(seeds)
    return Test(keys, observed, truths)


class Prepared(NamedTuple):
    """A job's programs, which are compiled beside the work: those of its training, and scores by name."""

    training: Callable[[], Programs]
    scores: dict[str, Any]


def prepare(
    queue: Queue, job: Job, setup: jaxsrda.Setup, test: Test, run: Any, others: dict[str, Prepared]
) -> Prepared:
    """The programs of a job; run: shape of a truth; others: those of earlier jobs."""
    model, training, stream = job.model, job.training, job.stream.settled(job.model)
    whole = jax.eval_shape(lambda: network(model).initial(0))
    fixed = Fixed(whole if training.part == "denoiser" else None)
    state = jax.eval_shape(lambda params: first_state(model, training, params), whole)
    shapes = {"whole": whole, "fixed": fixed, "state": state, "run": run}
    made = makers(setup, model, job.data, stream)

    def compile_(name: str, *inputs: Any, **options: Any) -> Any:
        if job.parent and name in made:
            return Later(lambda: others[job.parent].training().makers[name][0])
        return queue.compiled(f"{job.name}: {name}", *inputs, **options)

    scores = {}
    policy = Policy(whole, jax.ShapeDtypeStruct((model.frames,), jnp.float32))  # type: ignore[arg-type]
    for name, config in job.scored.items():

        def assimilator(policy: Policy, config: jaxsrda.DiffSRDAConfig = config) -> Any:
            return jaxsrda.make_diffsrda(setup, config, model=jaxsrda.Model(model, *policy))

        program = score_program(setup, assimilator)
        scores[name] = queue.compiled(f"{job.name}: scores of {name}", program, policy, *shape_of(test))
    return Prepared(compiled(model, training, stream, made, shapes, compile_), scores)


class Later(NamedTuple):
    """A program that another job compiles."""

    result: Callable[[], Any]


def train(
    queue: Queue,
    job: Job,
    prepared: Prepared,
    data: Truths,
    test: Test,
    minutes: float,
    parent: jaxsrda.Model | None = None,
) -> jaxsrda.Model:
    """Run a job, write its weights and record, and return the model."""
    training = dataclasses.replace(job.training, minutes=minutes)
    stream, told_at = job.stream.settled(job.model), 0.0

    def report(line: dict[str, Any]) -> None:
        nonlocal told_at
        if line["kind"] == "curve" and queue.seconds - told_at < 5:
            return
        told_at = queue.seconds if line["kind"] == "curve" else told_at
        queue.say({"job": job.name, **line})

    params, scale = (None, None) if parent is None else (parent.params, parent.scale)
    if job.init:
        params = jaxsrda.load_model(job.init)[0].params
    folder = queue.out / f"{job.name}.train" if queue.resume else None
    programs = prepared.training()._replace(what=described(job.data))
    fitted = fit(job.model, training, stream, programs, data, Origin(params, scale), report, folder)
    fitted = with_covariance(fitted)
    model = fitted.model
    frozen = model.params if training.part == "denoiser" else None
    trained = model.params if frozen is None else denoiser_part(job.model, frozen)
    flops = step_flops(job, trained, frozen) / training.batch
    rate = fitted.samples / max(1e-9, fitted.seconds["training"])
    device = jax.devices()[0].device_kind
    peak = next((value for name, value in PEAK.items() if name in device), None)
    record: dict[str, Any] = {
        "training": described(training),
        "stream": described(stream),
        "model": described(job.model),
        "data": described(job.data),
        "samples": fitted.samples,
        "windows": fitted.windows,
        "parent": job.parent,
        "validation": fitted.validation,
        "validations": fitted.validations,
        "curve": thinned(fitted.curve, 60),
        "seconds": fitted.seconds,
        "windows_per_second": rate,
        "flops_per_window": flops,
        "share_of_peak": None if peak is None else rate * flops / peak,
        "device": device,
    }
    path = queue.out / f"{job.name}.npz"
    jaxsrda.save_model(path, model, stamped(record), bits=job.bits)
    write_json(queue.out / f"{job.name}.json", stamped(record))  # before the scores, which diverge where weights do
    told = ("samples", "seconds", "windows_per_second", "share_of_peak")
    (best,) = fitted.validation["chosen"]
    queue.say({"kind": "done", "job": job.name, **{name: record[name] for name in told}, "chosen": best})
    record["scores"] = {}
    for name, program in prepared.scores.items():
        record["scores"][name] = score(queue, f"{job.name}, {name}", program, model, test)
    write_json(queue.out / f"{job.name}.json", stamped(record))
    queue.pack()
    return model


def score(queue: Queue, name: str, program: Any, model: jaxsrda.Model | None, test: Test) -> dict[str, Any]:
    """Scores by truth, and the seconds of the run."""
    policy = None if model is None else Policy(model.params, jnp.asarray(model.scale))
    made = program.result()
    since = time.perf_counter()
    rows = {name: np.asarray(values).tolist() for name, values in made(policy, *test).items()}
    seconds = time.perf_counter() - since
    queue.say({"kind": "scores", "of": name, "run": seconds, **{name: float(np.mean(v)) for name, v in rows.items()}})
    return {"per_truth": rows, "seconds": seconds}
