"""Tune a filter by a sweep over traced hyperparameters on validation truths (seeds 1000 …, never scored elsewhere).

    python benchmarks/tune_filters.py enkf-dual --localization 0.4 0.5 0.6 --additive 0.05 0.1 --truths 4
    python benchmarks/tune_filters.py enkf-hr --layouts lattice:4 lattice:8 --search --members 40 --finalists 3

A grid of settings, or (`--search`) a search along one parameter after the other for the lowest CRPS, from the preset or
the first value given of each.  Compiles once a layout; results go to benchmarks/results/tune_<method>.json after every
setting, and settings that are there already, from the same source, are not run again.  The best `--finalists` of fewer
members or frames are then run with the preset's members and all frames.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from machine import machine

import jaxsrda
from jaxsrda.core.files import write_json
from jaxsrda.core.locks import locked
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
    adaptive: tuple[float, ...] = ()
    """Weight of the newest departures in it."""
    representativeness: tuple[float, ...] = ()
    """Variances added to R."""
    rtps: tuple[float, ...] = ()
    """Relaxation to prior spread."""
    rtpp: tuple[float, ...] = ()
    """Relaxation to prior perturbations."""
    viscosity: tuple[float, ...] = ()
    """ν of the forecast model; 0 is its own."""
    members: int | None = None
    """Ensemble size."""
    substeps: int = 0
    """Of the Lagrangian model; 0 is its own."""
    corrector: bool = False
    """Of the Lagrangian model."""
    truths: int = 4
    """Validation truths."""
    layouts: tuple[str, ...] = (jaxsrda.Sensors.layout,)
    """Sensors, tuned one after the other."""
    frames: int | None = None
    """Frames of each truth that are run, by default all."""
    search: bool = False
    """Search along one parameter after the other."""
    searched: tuple[str, ...] = ("localization", "additive", "rtps", "representativeness", "inflation")
    """The parameters that are searched, in their order."""
    passes: int = 2
    """How often the search goes over the parameters at most."""
    finalists: int = 0
    """How many of the best are run in full."""
    reuse_any_code: bool = False
    """Keep settings that other code ran too; they keep their own provenance."""


AXES = ("localization", "additive", "inflation", "adaptive", "representativeness", "rtps", "rtpp", "viscosity")

STEPS = {
    "localization": lambda x: (x / 1.35, x * 1.35),
    "additive": lambda x: (x / 1.8, x * 1.8),
    "rtps": lambda x: (max(x - 0.2, 0.0), min(x + 0.2, 0.95)),
    "rtpp": lambda x: (max(x - 0.2, 0.0), min(x + 0.2, 0.95)),
    "representativeness": lambda x: (x / 2, x * 2) if x > 0.01 else (0.0, 0.02),
    "inflation": lambda x: (x / 1.04, x * 1.04),
    "adaptive": lambda x: (x / 2, x * 2) if x > 0.02 else (0.0, 0.1),
    "viscosity": lambda x: (x / 1.6, x * 1.6),
}
"""Where a search looks next, on both sides."""

MODEL = ("substeps", "corrector")
"""Options of the model that are compiled."""

ENOUGH = 0.997
"""Relative CRPS below which a step is one forward."""


def renewed(label: dict) -> dict:
    """The label of a record under today's names."""
    config = {"assumed_std" if name == "observation_std" else name: value for name, value in label["config"].items()}
    later = {"substeps": 0, "viscosity": 0.0, "corrector": False, "adaptive": 0.0}
    return {"frames": None} | label | {"config": later | config}


@dataclasses.dataclass
class Trials:
    """Settings of one method on one layout, each run once, and the record that they are written to."""

    tune: Tune
    layout: str
    frames: int | None

    def __post_init__(self):
        testbed = jaxsrda.jet()
        sensors = (jaxsrda.Sensors(self.layout),)
        setup = self.setup = jaxsrda.Setup(testbed, jaxsrda.default_climatology(), sensors)
        self.seeds = list(range(1000, 1000 + self.tune.truths))
        self.truth = jnp.asarray(jaxsrda.simulate_truth(testbed, self.seeds))[:, : self.frames]
        keys = jax.vmap(functools.partial(observation_key, 0))(jnp.asarray(self.seeds, jnp.uint32))
        self.observations = observe_truths(keys, setup.grid, self.truth, sensors, testbed.frames_per_cycle)
        self.scores: dict[tuple, Callable] = {}
        self.path = RESULTS / f"tune_{self.tune.method}.json"
        self.record = self.recorded()

    def recorded(self) -> dict:
        """The record as it is on disk."""
        return json.loads(self.path.read_text()) if self.path.exists() else {"runs": []}

    def compiled(self, config: jaxsrda.FilterConfig) -> Callable:
        """Scores of traced parameters, compiled once for all configurations that differ in these alone."""
        static = config.members, config.controls, config.substeps, config.corrector

        @jax.jit
        def score(params: jaxsrda.FilterParams) -> dict[str, jax.Array]:
            def make(params: jaxsrda.FilterParams) -> jaxsrda.Assimilator:
                return jaxsrda.make_assimilator(self.tune.method, self.setup, config, params)

            one = jax.tree.map(lambda value: value[None], params)
            return jaxsrda.sweep(make, one, jax.random.key(0), self.observations, self.truth)

        return self.scores.setdefault(static, score)

    def run(self, config: jaxsrda.FilterConfig) -> dict:
        """The run of a setting, from the record if the same code made it."""
        label = {"config": dataclasses.asdict(config), "layout": self.layout, "truth_seeds": self.seeds}
        label["frames"] = self.frames
        alike = [run for run in self.record["runs"] if renewed(run["label"]) == label]
        for run in alike:
            if same_code(run, self.tune.reuse_any_code):
                return run
        began = time.perf_counter()
        scores = {name: np.asarray(s)[0] for name, s in self.compiled(config)(jaxsrda.filter_params(config)).items()}
        mean = {name: float(s.mean()) for name, s in scores.items()}
        run = {"label": label, "mean": mean, "maer": scores["maer"], "crps": scores["crps"]}
        run = stamped(run | {"seconds": time.perf_counter() - began, "machine": machine()})
        with locked(self.path.with_suffix(".lock")):  # other layouts may be tuned beside this one
            # One that other code ran gives way.
            runs = [other for other in self.recorded()["runs"] if other not in alike]
            self.record = stamped({"machine": machine(), "runs": [*runs, run]})
            write_json(self.path, self.record)
        shown = ", ".join(f"{name} {getattr(config, name):.3g}" for name in AXES)
        print(
            f"{self.tune.method} {config.members} on {self.layout}: {shown}: MAER {mean['maer']:.4f} CRPS "
            f"{mean['crps']:.4f} spread–skill {mean['spread_skill']:.3f} ({run['seconds']:.0f} s)",
            flush=True,
        )
        return run

    def search(self, config: jaxsrda.FilterConfig) -> jaxsrda.FilterConfig:
        """The setting of lowest CRPS that steps along one parameter at a time lead to."""
        lowest = crps_of(self.run(config))
        for _ in range(self.tune.passes):
            began = config
            for name in self.tune.searched:
                here = config
                for side in (0, 1):
                    if config != here:
                        break  # the other side is where it came from
                    while True:
                        value = STEPS[name](getattr(config, name))[side]
                        ahead = dataclasses.replace(config, **{name: float(f"{value:.4g}")})
                        if ahead == config or not crps_of(self.run(ahead)) < ENOUGH * lowest:
                            break
                        config, lowest = ahead, crps_of(self.run(ahead))
            if config == began:
                break
        return config


def crps_of(run: dict) -> float:
    """The mean CRPS of a run; infinite where it did not stay finite."""
    crps = run["mean"]["crps"]
    return crps if crps is not None and np.isfinite(crps) else np.inf


def main(tune: Annotated[Tune, tyro.conf.arg(name="")]) -> None:
    this_run()  # the code as it is now
    preset = jaxsrda.FILTERS[tune.method]
    base = dataclasses.replace(preset, members=tune.members or preset.members, **{k: getattr(tune, k) for k in MODEL})
    axes = {name: getattr(tune, name) or (getattr(base, name),) for name in AXES}
    for layout in tune.layouts:
        trials = Trials(tune, layout, tune.frames)
        settings = [
            dataclasses.replace(base, **dict(zip(axes, values))) for values in itertools.product(*axes.values())
        ]
        if tune.search:
            trials.search(settings[0])
        else:
            for config in settings:
                trials.run(config)
        own = [run for run in trials.record["runs"] if belongs(renewed(run["label"]), base, layout, tune)]
        best = sorted(own, key=crps_of)
        if tune.finalists and (tune.frames is not None or base.members != preset.members):
            full = Trials(tune, layout, None)
            chosen = [jaxsrda.FilterConfig(**renewed(run["label"])["config"]) for run in best[: tune.finalists]]
            best = [full.run(dataclasses.replace(config, members=preset.members)) for config in chosen]
            best.sort(key=crps_of)
        print(
            f"lowest CRPS on {layout}:",
            best[0]["label"]["config"],
            {k: round(v, 4) for k, v in best[0]["mean"].items()},
        )


def belongs(label: dict, base: jaxsrda.FilterConfig, layout: str, tune: Tune) -> bool:
    """Whether a run is one of these trials'."""
    same = (label["layout"], label["frames"]) == (layout, tune.frames)
    return same and all(label["config"][name] == getattr(base, name) for name in ("members", *MODEL))


if __name__ == "__main__":
    main(tyro.cli(Tune))
