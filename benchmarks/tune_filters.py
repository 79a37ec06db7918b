"""Tune a filter by a sweep over traced hyperparameters on validation truths (seeds 1000 …, never scored elsewhere).

    python benchmarks/tune_filters.py enkf-dual --localization 0.4 0.5 0.6 --additive 0.05 0.1 --truths 4

Compiles once; results go to benchmarks/results/tune_<method>.json after every setting, and settings
that are there already, from the same source, are not run again.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import time
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from machine import machine

import jaxsrda
from jaxsrda.core.files import write_json
from jaxsrda.core.provenance import same_code, stamped, this_run
from jaxsrda.observing.observations import observation_key
from jaxsrda.observing.sensors import observe_truths

RESULTS = Path(__file__).parent / "results"


@dataclasses.dataclass
class Tune:
    """A grid of settings; whatever is not given stays at the method's preset."""

    method: tyro.conf.Positional[str]
    """Method to tune."""
    localization: tuple[float, ...] = ()
    """Half-widths."""
    additive: tuple[float, ...] = ()
    """Fractions of climatological anomalies added."""
    inflation: tuple[float, ...] = ()
    """Multiplicative inflation."""
    representativeness: tuple[float, ...] = ()
    """Variances added to R."""
    rtps: tuple[float, ...] = ()
    """Relaxation to prior spread."""
    rtpp: tuple[float, ...] = ()
    """Relaxation to prior perturbations."""
    members: int | None = None
    """Ensemble size."""
    truths: int = 4
    """Validation truths."""
    layout: str = jaxsrda.Sensors.layout
    """Sensors."""
    reuse_any_code: bool = False
    """Keep settings that other code ran too; they keep their own provenance."""


def renewed(label: dict) -> dict:
    """The label of a record under today's names."""
    config = {"assumed_std" if name == "observation_std" else name: value for name, value in label["config"].items()}
    return label | {"config": config}


def main(tune: Annotated[Tune, tyro.conf.arg(name="")]) -> None:
    this_run()  # the code as it is now
    base = jaxsrda.FILTERS[tune.method]
    base = base if tune.members is None else dataclasses.replace(base, members=tune.members)
    axes = {
        name: getattr(tune, name) or (getattr(base, name),)
        for name in ("localization", "additive", "inflation", "representativeness", "rtps", "rtpp")
    }
    testbed = jaxsrda.jet()
    setup = jaxsrda.Setup(testbed, jaxsrda.default_climatology(), (jaxsrda.Sensors(tune.layout),))
    seeds = range(1000, 1000 + tune.truths)
    truth = jnp.asarray(jaxsrda.simulate_truth(testbed, seeds))
    keys = jax.vmap(functools.partial(observation_key, 0))(jnp.asarray(seeds, jnp.uint32))
    observations = observe_truths(keys, setup.grid, truth, setup.sensors, testbed.frames_per_cycle)

    def make(params: jaxsrda.FilterParams) -> jaxsrda.Assimilator:
        return jaxsrda.make_assimilator(tune.method, setup, base, params)

    @jax.jit
    def score(params: jaxsrda.FilterParams) -> dict[str, jax.Array]:
        one = jax.tree.map(lambda value: value[None], params)
        return jaxsrda.sweep(make, one, jax.random.key(0), observations, truth)

    path = RESULTS / f"tune_{tune.method}.json"
    record = json.loads(path.read_text()) if path.exists() else {"runs": []}
    for values in itertools.product(*axes.values()):
        config = dataclasses.replace(base, **dict(zip(axes, values)))
        label = {"config": dataclasses.asdict(config), "layout": tune.layout, "truth_seeds": list(seeds)}
        alike = [run for run in record["runs"] if renewed(run["label"]) == label]
        if any(same_code(run, tune.reuse_any_code) for run in alike):
            continue
        began = time.perf_counter()
        scores = {name: np.asarray(s)[0] for name, s in score(jaxsrda.filter_params(config)).items()}
        run = {"label": label, "mean": {name: s.mean() for name, s in scores.items()}, "maer": scores["maer"]}
        run["seconds"] = time.perf_counter() - began
        # One that other code ran gives way.
        runs = [run for run in record["runs"] if run not in alike]
        record = stamped({"machine": machine(), "runs": [*runs, stamped(run | {"machine": machine()})]})
        write_json(path, record)
        shown = ", ".join(f"{name} {value:g}" for name, value in zip(axes, values))
        mean = run["mean"]
        print(
            f"{tune.method} {config.members}: {shown}: MAER {mean['maer']:.4f} CRPS {mean['crps']:.4f} "
            f"spread–skill {mean['spread_skill']:.3f} ({run['seconds']:.0f} s)",
            flush=True,
        )
    best = min(record["runs"], key=lambda run: run["mean"]["crps"])
    print("lowest CRPS:", best["label"]["config"], {k: round(float(v), 4) for k, v in best["mean"].items()})


if __name__ == "__main__":
    main(tyro.cli(Tune))
