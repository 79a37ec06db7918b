"""What guidance costs: seconds of a draw with each method over those of an unguided one, compile time apart.

    python -m benchmarks.studies.guidance                                  # released weights, 512 new sensors
    python -m benchmarks.studies.guidance --weights latent-kl-small        # through a decoder

Thirty members, four steps, one condition of noise (cost does not depend on it).  Methods take turns, so that a busy
machine slows all alike; the ratio is that of medians.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import jaxsrda
from benchmarks.machine import machine
from jaxsrda.core.files import write_json
from jaxsrda.core.provenance import stamped, this_run


@dataclasses.dataclass
class Benchmark:
    """What is timed."""

    weights: str = "diffsrda-small"
    """Released weights or a file."""
    layout: str = "lattice:4"
    """The sensors that guide."""
    methods: tuple[str, ...] = tuple(name for name in jaxsrda.GUIDES if name != "projected")
    """Methods that guide the steps."""
    members: int = 30
    """Members drawn."""
    steps: int = 4
    """Steps of the sampler."""
    repeats: int = 5
    """Timed draws of each."""
    out: Path | None = None
    """JSON record, by default results/guidance_WEIGHTS.json beside this file."""


def main(benchmark: Benchmark) -> None:
    this_run()  # the code as it is now
    grid = jaxsrda.jet().grid
    model = jaxsrda.load_model(benchmark.weights)[0]
    field = jax.random.normal(jax.random.key(1), grid.shape, jnp.float32)
    sensors = jaxsrda.Sensors(), jaxsrda.Sensors(benchmark.layout, role="guiding")
    seen = [jaxsrda.observe(jax.random.key(2), grid, each.placed(grid), field, 0) for each in sensors]
    observations = jaxsrda.join(*seen)
    conditions = jax.random.normal(jax.random.key(3), (1, *grid.shape, model.config.channels), jnp.float32)
    runs, seconds = {}, {}
    for name in ("none", *benchmark.methods):
        config = jaxsrda.DiffSRDAConfig(members=benchmark.members, steps=benchmark.steps, guidance=name)
        began = time.perf_counter()
        draw = jaxsrda.make_draw(model, config, sensors)
        runs[name] = jax.jit(draw.corrections).lower(jax.random.key(0), conditions, observations).compile()
        seconds[name] = {"compile": time.perf_counter() - began, "runs": []}
    for _ in range(1 + benchmark.repeats):
        for name, run in runs.items():
            began = time.perf_counter()
            jax.block_until_ready(run(jax.random.key(0), conditions, observations))
            seconds[name]["runs"].append(time.perf_counter() - began)
    table = Table("guidance", "compile, s", "a draw, s", "over none", title=f"{benchmark.weights}, {benchmark.layout}")
    rows = {}
    for name, row in seconds.items():
        median = float(np.median(row["runs"][1:]))
        ratio = median / (rows["none"]["seconds"] if rows else median)
        rows[name] = stamped({"compile": row["compile"], "seconds": median, "ratio": ratio})
        table.add_row(name, f"{row['compile']:.1f}", f"{median:.3f}", f"{rows[name]['ratio']:.2f}")
    Console().print(table)
    out = benchmark.out or Path(__file__).parents[1] / "results" / f"guidance_{Path(benchmark.weights).stem}.json"
    settings = {key: value for key, value in dataclasses.asdict(benchmark).items() if key != "out"}
    write_json(out, stamped({"settings": settings, "machine": machine(), "rows": rows}))


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
