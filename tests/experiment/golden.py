"""Golden numbers: every method, sampler, restart and guide on truth 0, in the package's default precision.

    python tests/experiment/golden.py OUT.json [NAME …]

makes the cases named, by default all of `cases`; `released` stands for one run of each weights file that comes with
the package.  The numbers that tests hold are made by

    python tests/experiment/golden.py tests/data/golden.json
    python tests/experiment/golden.py tests/data/golden_released.json released

tests/data/golden.json was made by the code before its modules moved into rooms (JAX 0.10.2, CPU), so that no score
may change unnoticed.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import jaxsrda
from jaxsrda import METHODS, DiffSRDAConfig, Sensors

MEMBERS = 6
LATTICE = Sensors()
MOORED = Sensors("random-fixed:32", "velocity-x", 0.05, role="guiding")
PLACED = Sensors("random-fixed:32", role="guiding")


def preset(method: str, **options: Any) -> Any:
    """A method's preset with few members."""
    return dataclasses.replace(METHODS[method].config, members=MEMBERS, **options)


def small(**options: Any) -> DiffSRDAConfig:
    """A cheap configuration of the diffusion model."""
    return DiffSRDAConfig(**{"members": 4} | options)


def for_lr() -> Any:
    """The released model as if it had been trained for bare LR forecasts."""
    model = jaxsrda.load_model("diffsrda-small")[0]
    return dataclasses.replace(model, config=dataclasses.replace(model.config, priors=("dual", "enkf-sr", "lr")))


def cases() -> dict[str, Callable[[], dict[str, Any]]]:
    """The options of each golden run, by its name."""
    found: dict[str, Callable[[], dict[str, Any]]] = {}
    for method in METHODS:
        found[method] = lambda method=method: {"method": method, "config": preset(method)}
    for sampler in ("ddim", "heun", "dpmpp-2m-sde", "mean"):
        sigmas = "vp" if sampler == "ddim" else "edm"
        found[f"sampler {sampler}"] = lambda s=sampler, g=sigmas: {"config": small(sampler=s, sigmas=g)}
    for restart in ("open", "first", "each"):
        found[f"restart {restart}"] = lambda r=restart: {"config": small(restart=r, centred=r != "first")}
    found["prior enkf-sr"] = lambda: {"config": small(prior="enkf-sr")}
    for restart in ("each", "first"):
        found[f"prior lr {restart}"] = lambda r=restart: {"config": small(prior="lr", restart=r), "model": for_lr()}
    found["student"] = lambda: {"config": small(weights="diffsrda-small-student", steps=1)}
    for guide in ("lifted", "diffpir", "oi", "mmps", "pigdm", "sda", "dps"):
        found[f"guide {guide}"] = lambda g=guide: {
            "frames": 8,
            "config": small(guidance=g),
            "sensors": (LATTICE, MOORED),
        }
    found["guide blend options"] = lambda: {
        "frames": 8,
        "config": small(guidance=jaxsrda.Blend(0.5, (4.0, 1.0), 1)),
        "sensors": (LATTICE, PLACED),
    }
    found["guide oi all strength"] = lambda: {
        "frames": 8,
        "config": small(guidance=jaxsrda.OI(0.5, 2), guide_on="all"),
    }
    found["guide projected"] = lambda: {
        "frames": 8,
        "config": small(guidance="projected"),
        "sensors": (LATTICE, PLACED),
    }
    found["guide latent oi"] = lambda: {
        "method": "latent-diffsrda",
        "frames": 8,
        "config": dataclasses.replace(METHODS["latent-diffsrda"].config, members=4, guidance="oi"),
        "sensors": (LATTICE, PLACED),
    }
    speed = Sensors("random-fixed:32", "speed")
    found["assimilated guides"] = lambda: {
        "method": "enkf-sr",
        "config": preset("enkf-sr"),
        "sensors": (LATTICE, speed),
    }
    tracks = Sensors("track:4+dropout:0.3")
    found["withhold tracks"] = lambda: {
        "method": "enkf-sr",
        "config": preset("enkf-sr"),
        "sensors": tracks,
        "withhold": 0.2,
    }
    cluster = Sensors("cluster:2", "vorticity-arcsinh")
    found["etkf arcsinh"] = lambda: {"method": "etkf-hr", "config": preset("etkf-hr"), "sensors": cluster}
    for method in ("diffsrda", "latent-diffsrda"):
        found[f"full {method}"] = lambda method=method: {"method": method, "frames": 96}
    return found


RELEASED = "released"
"""Prefix of the runs of released weights, and the name that stands for all of them."""


def released() -> dict[str, Callable[[], dict[str, Any]]]:
    """A golden run of each released weights file, by its method and in the steps that it was made for."""
    return {f"{RELEASED} {name}": lambda name=name: of_weights(name) for name in jaxsrda.released()}


def of_weights(name: str) -> dict[str, Any]:
    """The options of a run with released weights."""
    kind = jaxsrda.load_model(name)[0].config
    options: dict[str, Any] = {"weights": name, "prior": kind.priors[0], "members": MEMBERS}
    if kind.target == "regression":
        return {"method": "cnn", "config": DiffSRDAConfig(sampler="mean", **options)}
    if kind.distilled:
        options["steps"] = kind.distilled
    return {"method": "latent-diffsrda" if kind.latent else "diffsrda", "config": DiffSRDAConfig(**options)}


def numbers(truth: np.ndarray, method: str = "diffsrda", frames: int = 12, **options: Any) -> dict[str, float]:
    """Scores and sums of a golden run."""
    result = jaxsrda.run(jaxsrda.Experiment(method, truth[:, :frames], **options))
    sums = {"sum": result.mean, "std": result.std, "background": result.background}
    scores = {name: float(values.mean()) for name, values in result.per_truth.items()}
    return scores | {name: float(np.abs(array).sum()) for name, array in sums.items()}


def main(out: str, *names: str) -> None:
    """Run the cases named, by default all but those of released weights, and write their numbers."""
    truth = jaxsrda.simulate_truth(jaxsrda.jet(), [0])
    weights, made = released(), {}
    known = cases() | weights
    for name in [*weights] if names == (RELEASED,) else names or cases():
        made[name] = numbers(truth, **known[name]())
        print(name, made[name]["maer"], flush=True)
        with open(out, "w", encoding="utf-8") as file:
            json.dump(made, file, indent=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
