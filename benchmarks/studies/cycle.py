"""One cycle of every method, scores included, in one process: seconds to compile, seconds a cycle, temporary memory.

    python -m benchmarks.studies.cycle --out benchmarks/results/cycle.json

Each method runs its preset on one truth (seed 0, fine level) with lattice 8; the time of a cycle is the
median over those after the first.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import tyro

import jaxsrda
from benchmarks.machine import machine
from jaxsrda.core.files import write_json
from jaxsrda.core.provenance import stamped, this_run
from jaxsrda.observing.observations import observation_key


@dataclasses.dataclass
class Benchmark:
    """What to time."""

    methods: tuple[str, ...] = tuple(jaxsrda.METHODS)
    """Methods."""
    weights: str = ""
    """Weights of the diffusion model, by default the released ones."""
    steps: int = 0
    """Its sampler's steps, by default the preset's."""
    prior: str = ""
    """Its prior, by default the preset's."""
    sampler: str = ""
    """Its sampler, by default the preset's."""
    cycles: int = 5
    """Cycles timed for each."""
    out: Path = Path(__file__).parents[1] / "results" / "cycle.json"
    """JSON record."""


def main(benchmark: Benchmark) -> None:
    this_run()  # the code as it is now
    testbed = jaxsrda.jet()
    grid, every = testbed.grid, testbed.frames_per_cycle
    setup = jaxsrda.Setup(testbed, jaxsrda.default_climatology())
    truth = jnp.asarray(jaxsrda.simulate_truth(testbed, [0])[0])
    layout = setup.sensors[0].placed(grid)
    observations = jaxsrda.observe_run(observation_key(0, 0), grid, layout, truth, every)
    key = jax.random.key(0)
    rows = {}
    for method in benchmark.methods:
        config = jaxsrda.METHODS[method].config
        if isinstance(config, jaxsrda.DiffSRDAConfig):
            changes = {"weights": config.weights or benchmark.weights}
            changes |= {
                name: getattr(benchmark, name) or getattr(config, name) for name in ("steps", "prior", "sampler")
            }
            config = dataclasses.replace(config, **changes)
        assimilator = jaxsrda.make_assimilator(method, setup, config)

        def one(observed, frames, carry, assimilator=assimilator):
            return jaxsrda.run_cycles(assimilator, key, observed, frames, carry)

        carry = jaxsrda.start(assimilator, key, grid)
        first = jax.tree.map(lambda a: a[:1], observations), truth[:every]
        began = time.perf_counter()
        compiled = jax.jit(one).lower(*first, carry).compile()
        seconds = [time.perf_counter() - began]
        for i in range(benchmark.cycles + 1):
            inputs = (
                jax.tree.map(lambda a, i=i: a[i : i + 1], observations),
                truth[i * every : (i + 1) * every],
            )
            began = time.perf_counter()
            carry, _ = jax.block_until_ready(compiled(*inputs, carry))
            seconds.append(time.perf_counter() - began)
        memory = compiled.memory_analysis()
        row = {
            "members": config.members,
            "compile_seconds": seconds[0],
            "cycle_seconds": statistics.median(seconds[2:]),
            "temporary_mb": memory.temp_size_in_bytes / 1e6 if memory else None,
        }
        rows[method] = stamped(row)
        print(
            f"{method:12} {row['members']:4d} members  compile {row['compile_seconds']:5.1f} s  "
            f"cycle {row['cycle_seconds']:7.3f} s  memory {row['temporary_mb'] or 0:6.0f} MB",
            flush=True,
        )
    record = stamped({"machine": machine(), "methods": rows})
    if "enkf-hr" in rows:
        slowest = rows["enkf-hr"]["cycle_seconds"]
        record["enkf_hr_over"] = {name: slowest / row["cycle_seconds"] for name, row in rows.items()}
    write_json(benchmark.out, record)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
