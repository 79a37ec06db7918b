"""`python -m benchmarks.accelerator OUT MINUTES`."""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.93")

import jax
import jax.numpy as jnp

import jaxsrda
from benchmarks.accelerator import __doc__ as about
from benchmarks.accelerator.plans import Plan, cpu_plan, full_plan, tiny_plan
from benchmarks.accelerator.queue import Queue, shape_of
from benchmarks.accelerator.work import Prepared, filter_program, prepare, score, test_truths, train
from jaxsrda.core.checks import check_choice
from jaxsrda.core.files import write_json
from jaxsrda.core.provenance import stamped
from jaxsrda.networks.layers import on_cpu
from jaxsrda.training import sources
from jaxsrda.training.dataset import AT_ONCE, truths_of
from jaxsrda.training.stream_run import Truths


def main() -> None:
    """Read the command line, and run the queue."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accelerator", description=about)
    parser.add_argument("out", type=Path, help="folder of the results")
    parser.add_argument("minutes", type=float, help="time for everything")
    parser.add_argument("--pack", action="store_true", help="leave nothing in OUT but an archive in a few parts")
    parser.add_argument("--resume", action="store_true", help="keep checkpoints of trainings, and go on from them")
    parser.add_argument("--tiny", action="store_true", help="smallest sizes, on a CPU")
    parser.add_argument("--cpu", action="store_true", help="what two cores can do, instead")
    parser.add_argument("--runs", type=int, default=960, help="training runs")
    parser.add_argument("--jobs", nargs="*", help="names of the jobs, by default all")
    given = parser.parse_args()
    cache = Path(os.environ.setdefault("JAXSRDA_CACHE", str(Path(tempfile.gettempdir()) / "jaxsrda")))
    work = cache / "queue" if given.pack else given.out
    for folder in (given.out, work):
        folder.mkdir(parents=True, exist_ok=True)
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(cache / "programs"))
    plan = tiny_plan() if given.tiny else (cpu_plan if given.cpu else full_plan)(given.runs)
    names = [job.name for job in plan.jobs]
    for name in given.jobs or ():
        check_choice("jobs", name, names)
    plan = dataclasses.replace(plan, jobs=tuple(job for job in plan.jobs if job.name in (given.jobs or names)))
    run(Queue(work, given.minutes, given.out if given.pack else None, given.resume), plan)


def run(queue: Queue, plan: Plan) -> None:
    """Truths, then all jobs, then the filters on the same test truths."""
    queue.say({"kind": "device", "name": jax.devices()[0].device_kind})
    data = plan.data
    testbed = data.testbed
    make = sources.truth_program(testbed, data.truth_level, testbed.frames + 1)
    program = None if on_cpu() else queue.compiled("truths", make, jax.ShapeDtypeStruct((AT_ONCE,), jnp.int32))
    setup = jaxsrda.Setup(testbed, jaxsrda.default_climatology(testbed))
    test = test_truths(plan, setup)
    queue.say({"kind": "climatology and test truths"})
    programs: dict[str, Prepared] = {}
    shape = jax.ShapeDtypeStruct((data.frames, *testbed.grid.shape), jnp.float16)
    for job in plan.jobs:
        programs[job.name] = prepare(queue, job, setup, test, shape, programs)
    filters = {name: queue.compiled(name, filter_program(setup, name), None, *shape_of(test)) for name in plan.filters}
    since = time.perf_counter()

    def told(done: int, total: int) -> None:
        queue.say({"kind": "truths", "done": done, "of": total})

    everything = truths_of(data, data.runs, told, None if program is None else program.result())
    jax.block_until_ready(everything)
    took = time.perf_counter() - since
    queue.say({"kind": "truths", "runs": len(everything), "seconds": took, "runs_per_second": len(everything) / took})
    parts = Truths(everything[: -plan.held_out], everything[-plan.held_out :])
    fitted: dict[str, jaxsrda.Model] = {}
    for number, job in enumerate(plan.jobs):
        share = job.share / sum(other.share for other in plan.jobs[number:])
        # What each job needs beside its training: scoring candidates and truths, and writing.
        minutes = max(0.3, share * queue.left / 60 - 0.2)
        queue.say({"kind": "job", "job": job.name, "minutes": minutes})
        parent = fitted.get(job.parent)
        fitted[job.name] = train(queue, job, programs[job.name], parts, test, minutes, parent)
    rows = {name: score(queue, name, made, None, test) for name, made in filters.items()}
    write_json(queue.out / "filters.json", stamped({"scores": rows, "truths": plan.truths}))
    queue.say({"kind": "end"})
    queue.pack()


if __name__ == "__main__":
    main()
