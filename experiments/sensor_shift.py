"""Sensors that the network was not conditioned on: training-free guidance against its alternatives.

    python experiments/sensor_shift.py                            # many hours on 2 cores; goes on where it was
    python experiments/sensor_shift.py --shifts 8-4 --methods none blend oi
    python experiments/sensor_shift.py --shifts 8-4 --methods none blend --blur 4 1 --out blend.json

Where sensors are added (8-4, moorings) the network goes on hearing the lattice of interval 8, and the new ones

    none        are not used: no adaptation
    NAME        guide the samples by a method of jaxsrda.diffusion.guidance
    projected   correct each member in the end
    condition   are told to the network like all others (it was trained on several layouts); velocities, which it does
                not know, to its prior's EnKF alone
    enkf-hr     are assimilated, with all others, by the EnKF with 100 members on the HR grid

Where they take the place of the lattice (8-12, random, moving, drop-out, noise) `none` is the network told of them, as
nothing else keeps its forecasts on track, and NAME and projected use them once more (guide_on all, as in the paper);
the shift named untold shows what guidance is worth when the network is told nothing.

A method's strength is chosen by CRPS on validation truths, in one compiled sweep.  A method that makes them worse than
`none` at every strength is not run further; test truths choose nothing.

Scores are those of the cycle, in which guided samples restart the prior's forecasts: MAER, CRPS and spread–skill, and
the analysis mean's RMSE (noise included) at the new sensors and at 128 others that no method ever sees.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import jaxsrda
from jaxsrda.app import plotting, report
from jaxsrda.core.files import write_json
from jaxsrda.cycling.assimilator import Setup
from jaxsrda.cycling.sweep import sweep
from jaxsrda.diffsrda.config import GUIDES, DiffSRDAConfig
from jaxsrda.experiment.registry import CONFIGS, configured_model, make_diffsrda
from jaxsrda.experiment.truth import default_climatology
from jaxsrda.filters.config import FilterConfig
from jaxsrda.flow.testbed import FRAMES_PER_CYCLE, LEVELS, level_grid
from jaxsrda.observing.layouts import parse_layout
from jaxsrda.observing.observations import OBSERVATION_STD, Observations, observation_key
from jaxsrda.observing.operators import operator
from jaxsrda.observing.sensors import Sensors, misfit, observe_truths


@dataclasses.dataclass
class Shift:
    """What conditions the network, and what guides its samples: None for the same again."""

    layout: str
    guide_layout: str | None = None
    guide_measure: str = "vorticity"
    guide_std: float = OBSERVATION_STD
    observation_std: float = OBSERVATION_STD


NOTHING = "lattice:8+dropout:1"

SHIFTS: dict[str, Shift] = {
    "8-4": Shift("lattice:8", "lattice:4"),
    "moorings": Shift("lattice:8", "random-fixed:64", "velocity-x", 0.05),
    "8-12": Shift("lattice:12"),
    "random": Shift("random-fixed:128"),
    "moving": Shift("random-moving:128"),
    "drop-out": Shift("lattice:8+dropout:0.5"),
    "noise": Shift("lattice:8", observation_std=0.3),
    "8-12 untold": Shift(NOTHING, "lattice:12"),
}
"""The shifts by name."""

STRENGTHS: dict[str, tuple[float, ...]] = {
    "blend": (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1),
    "lifted": (0.7, 1.4, 2.8, 5.6),
    "diffpir": (0.1, 0.3, 1.0, 3.0),
    "oi": (0.5, 1.0, 2.0, 4.0),
    "mmps": (0.25, 0.5, 1.0, 2.0),
    "pigdm": (0.4, 0.7, 1.4, 2.8),
    "sda": (0.1, 0.3, 1.0, 3.0),
    "dps": (0.003, 0.01, 0.03),
    "none": (1.0,),  # has no strength, but is judged like the others
}
"""Strengths among which each method chooses, by CRPS on validation truths."""

CONTROLS = ("none", "projected", "condition", "enkf-hr")


@dataclasses.dataclass
class Experiment:
    """Which shifts and methods, on how many truths."""

    shifts: tuple[str, ...] = tuple(SHIFTS)
    """Shifts to run."""
    methods: tuple[str, ...] = ("none", *GUIDES, *CONTROLS[1:])
    """Rows."""
    truths: int = 10
    """Truth seeds 0 … truths − 1."""
    validation: int = 2
    """Validation truths 1000, 1001, … on which strengths are chosen."""
    validation_frames: int = 96
    """Their length."""
    at_once: int = 5
    """Truths run side by side."""
    blur: tuple[float, float] = DiffSRDAConfig.blur
    """Widths of blend's blur at the first and the last step."""
    out: Path = Path(__file__).parent / "results" / "sensor_shift.json"
    """JSON record, written row by row; the pictures lie beside it."""


class Strength(NamedTuple):
    """What is swept."""

    strength: jax.Array


def observed(shift: Shift, seeds: range, truth: np.ndarray, seed: int = 0) -> Observations:
    """The sensors of a shift, the new ones as guides, as `jaxsrda.assimilate` makes them."""
    grid = level_grid(LEVELS["hr"])
    keys = jax.vmap(functools.partial(observation_key, seed))(jnp.asarray(list(seeds), jnp.uint32))
    old = Sensors(parse_layout(shift.layout, grid), operator("vorticity"), shift.observation_std)
    new = None
    if shift.guide_layout is not None:
        new = Sensors(parse_layout(shift.guide_layout, grid), operator(shift.guide_measure), shift.guide_std)
    return observe_truths(keys, grid, jnp.asarray(truth), old, new)


def configured(shift: Shift, method: str, blur: tuple[float, float]) -> FilterConfig | DiffSRDAConfig:
    """The configuration of a row, without a strength."""
    if method in ("none", "condition", "enkf-hr"):
        return CONFIGS["enkf-hr" if method == "enkf-hr" else "diffsrda"]
    told = {"guide_on": "all" if shift.guide_layout is None else "new", "guidance": method}
    return dataclasses.replace(CONFIGS["diffsrda"], **told, **({"blur": blur} if method == "blend" else {}))


def tune(
    shift: Shift, config: DiffSRDAConfig, values: Sequence[float], truth: np.ndarray, seeds: range
) -> dict[str, float | None]:
    """CRPS of each strength on validation truths, in one compiled sweep; None for one that diverged."""
    guide_operator = operator(shift.guide_measure)
    setup = Setup(default_climatology(), guide_operator=guide_operator)
    model = configured_model(config)
    scores = sweep(
        lambda knob: make_diffsrda(setup, config, model=model, strength=knob.strength),
        Strength(jnp.asarray(values)),
        jax.random.key(0),
        observed(shift, seeds, truth),
        jnp.asarray(truth),
    )
    crps = np.asarray(scores["crps"]).mean(1)
    return {str(value): float(score) if np.isfinite(score) else None for value, score in zip(values, crps)}


def choose(
    console: Console, tuning: dict[str, dict], name: str, config: DiffSRDAConfig, truth: np.ndarray, seeds: range
) -> tuple[float, float]:
    """The strength of least CRPS, and this; those that the record has for the same truths are not tried again."""
    row, judged = f"{name}/{config.guidance}", {"truths": list(seeds), "frames": truth.shape[1]}
    if config.guidance == "blend":
        judged["blur"] = list(config.blur)
    known = {key: value for key, value in tuning.get(row, {}).items() if key not in ("crps", "device")}
    if known != judged:
        tuning[row] = judged | {"crps": {}}
    crps = tuning[row]["crps"]
    if new := [value for value in STRENGTHS[config.guidance] if str(value) not in crps]:
        crps |= tune(SHIFTS[name], config, new, truth, seeds)
        console.print(f"{row}: CRPS on validation truths by strength {crps}")
    finite = {float(strength): score for strength, score in crps.items() if score is not None}
    return min(finite.items(), key=lambda item: item[1], default=(STRENGTHS[config.guidance][0], np.inf))


def batches(count: int, at_once: int) -> list[slice]:
    """Which truths run side by side."""
    return [slice(first, first + at_once) for first in range(0, count, at_once)]


def analyse(
    shift: Shift, method: str, config: FilterConfig | DiffSRDAConfig, truth: np.ndarray, seeds: range, at_once: int
) -> list[jaxsrda.Analysis]:
    """The results of one row, one a batch of truths."""
    name = "enkf-hr" if method == "enkf-hr" else "diffsrda"
    options = dataclasses.asdict(shift)
    if method == "none" or shift.guide_layout is None:
        options |= dict.fromkeys(("guide_layout", "guide_measure", "guide_std"))
    if method in ("condition", "enkf-hr"):
        options["guides_assimilated"] = shift.guide_layout is not None
    return [
        jaxsrda.assimilate(name, truth[batch], config=config, truth_seeds=seeds[batch], **options)
        for batch in batches(len(truth), at_once)
    ]


def scored(
    shift: Shift, strength: float | None, parts: list[jaxsrda.Analysis], truth: np.ndarray, seeds: range, at_once: int
) -> dict:
    """The record of one row."""
    grid = level_grid(LEVELS["hr"])
    fits = {"fit_new": [], "fit_withheld": []}
    for batch, part in zip(batches(len(truth), at_once), parts):
        analyses = jnp.asarray(part.mean[:, ::FRAMES_PER_CYCLE])
        seen = observed(shift, seeds[batch], truth[batch])
        others = observed(Shift(NOTHING, "random-moving:128"), seeds[batch], truth[batch], seed=1)
        for key, sensors, measure in (("new", seen, shift.guide_measure), ("withheld", others, "vorticity")):
            only = sensors if sensors.guides is None else sensors._replace(mask=sensors.guides, guides=None)
            fits[f"fit_{key}"].append(np.asarray(misfit(grid, only, analyses, operator(measure))))
    per_truth = {key: np.concatenate([part.per_truth[key] for part in parts]) for key in parts[0].scores}
    per_truth |= {key: np.concatenate(values) for key, values in fits.items()}
    kept = ("maer", "crps", "spread_skill", *fits)
    return {
        "strength": strength,
        "truths": len(truth),
        "scores": report.scores_record({key: jaxsrda.bootstrap_interval(values) for key, values in per_truth.items()}),
        "per_truth": {key: per_truth[key].tolist() for key in kept},
        "by_lead": np.concatenate([p.series["maer"] for p in parts]).reshape(len(truth), -1, 4).mean((0, 1)).tolist(),
        "seconds": sum(part.seconds["run"] for part in parts) / len(truth),
    }


COLUMNS = {
    "maer": "MAER",
    "crps": "CRPS",
    "spread_skill": "spread–skill",
    "fit_new": "fit, new sensors",
    "fit_withheld": "fit, withheld",
}
PAIRS = (("maer", "none"), ("crps", "blend"))
"""Scores over those of another method on the same truths."""


def print_table(console: Console, shift: str, rows: dict[str, dict]) -> None:
    """The rows of one shift."""
    ratios = {f"{COLUMNS[key]} over {base}": (key, base) for key, base in PAIRS if base in rows}
    table = Table("method", "strength", *COLUMNS.values(), *ratios, "s a truth", title=f"New sensors: {shift}")
    for method, row in rows.items():
        cells = [common.interval(row, key) for key in COLUMNS]
        cells += [common.over(row, rows[base], key) for key, base in ratios.values()]
        table.add_row(method, f"{row['strength'] or ''}", *cells, f"{row['seconds']:.0f}")
    console.print(table)


def of_shift(rows: dict[str, dict], shift: str) -> dict[str, dict]:
    """method → row of one shift, without those that diverged."""
    order = ("none", *GUIDES, *CONTROLS[1:])
    found = {method: rows[f"{shift}/{method}"] for method in order if f"{shift}/{method}" in rows}
    return {method: row for method, row in found.items() if "scores" in row}


def save(out: Path, tuning: dict[str, dict], rows: dict[str, dict]) -> None:
    """The record so far."""
    write_json(out, {"device": jax.devices()[0].device_kind, "tuning": tuning, "rows": rows})


def main(experiment: Experiment) -> None:
    console = Console(width=220)
    truth = jaxsrda.simulate_truth(LEVELS["fine"], list(range(experiment.truths)))
    seeds, validation = range(experiment.truths), range(1000, 1000 + experiment.validation)
    held = jaxsrda.simulate_truth(LEVELS["fine"], list(validation))[:, : experiment.validation_frames]
    record = json.loads(experiment.out.read_text()) if experiment.out.exists() else {}
    rows, tuning = record.get("rows", {}), record.get("tuning", {})
    for name in experiment.shifts:
        shift = SHIFTS[name]
        for method in experiment.methods:
            if method == "projected" and shift.guide_measure != "vorticity":
                continue  # it kriges departures of vorticity
            if method == "condition" and shift.guide_layout is None:
                continue  # it is `none`
            row = f"{name}/{method}"
            if row in rows and rows[row]["truths"] == experiment.truths:
                continue
            strength, config = None, configured(shift, method, experiment.blur)
            if method in GUIDES:
                strength, crps = choose(console, tuning, name, config, held, validation)
                without = choose(console, tuning, name, CONFIGS["diffsrda"], held, validation)[1]
                if crps >= without:
                    best = crps if np.isfinite(crps) else None  # None: it diverged at every strength
                    rows[row] = {"truths": experiment.truths, "declined": {"best": best, "none": without}}
                    console.print(
                        f"{row}: CRPS on validation truths {crps:.4f} at best, {without:.4f} without; not run"
                    )
                    save(experiment.out, tuning, rows)
                    continue
            try:
                if strength is not None:
                    config = dataclasses.replace(config, strength=strength)
                parts = analyse(shift, method, config, truth, seeds, experiment.at_once)
                rows[row] = scored(shift, strength, parts, truth, seeds, experiment.at_once)
            except jaxsrda.DivergedError as error:
                rows[row] = {"strength": strength, "truths": experiment.truths, "diverged": str(error)}
                console.print(f"{row}: {error}")
            else:
                scores = ", ".join(f"{title} {common.interval(rows[row], key)}" for key, title in COLUMNS.items())
                console.print(f"{row}: {scores}, {rows[row]['seconds']:.0f} s a truth")
            save(experiment.out, tuning, rows)
        print_table(console, name, of_shift(rows, name))
    intervals = {
        shift: {
            method: {key: tuple(row["scores"][key].values()) for key in ("maer", "crps", "spread_skill")}
            for method, row in of_shift(rows, shift).items()
        }
        for shift in SHIFTS
        if of_shift(rows, shift) and "untold" not in shift  # off the scale
    }
    plotting.plot_intervals(experiment.out.with_suffix(".png"), intervals)


if __name__ == "__main__":
    main(tyro.cli(Experiment))
