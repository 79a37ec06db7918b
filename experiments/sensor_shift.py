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
from jax.typing import ArrayLike
from rich.console import Console
from rich.table import Table

import jaxsrda
from jaxsrda.app import plotting, report
from jaxsrda.core.files import write_json
from jaxsrda.core.provenance import same_code, stamped, this_run
from jaxsrda.core.records import described
from jaxsrda.diffsrda.weights import default_weights
from jaxsrda.experiment.registry import configured_model
from jaxsrda.observing.observations import observation_key
from jaxsrda.observing.sensors import misfit, observe_truths, with_role

Config = jaxsrda.FilterConfig | jaxsrda.DiffSRDAConfig

Shift = tuple[jaxsrda.Sensors, ...]
"""What conditions the network; and what guides its samples, if that is not the same again."""

NOTHING = jaxsrda.Sensors("lattice:8+dropout:1")

WITHHELD: Shift = (NOTHING, jaxsrda.Sensors("random-moving:128", role="guiding"))
"""Sensors that no method ever sees."""

SHIFTS: dict[str, Shift] = {
    "8-4": (jaxsrda.Sensors(), jaxsrda.Sensors("lattice:4", role="guiding")),
    "moorings": (jaxsrda.Sensors(), jaxsrda.Sensors("random-fixed:64", "velocity-x", 0.05, "guiding")),
    "8-12": (jaxsrda.Sensors("lattice:12"),),
    "random": (jaxsrda.Sensors("random-fixed:128"),),
    "moving": (jaxsrda.Sensors("random-moving:128"),),
    "drop-out": (jaxsrda.Sensors("lattice:8+dropout:0.5"),),
    "noise": (jaxsrda.Sensors(noise_std=0.3),),
    "8-12 untold": (NOTHING, jaxsrda.Sensors("lattice:12", role="guiding")),
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

METHODS = ("none", *jaxsrda.GUIDES, "condition", "enkf-hr")
"""Rows of a shift, in order; the guide `projected` has no strength to choose."""


@dataclasses.dataclass
class Experiment:
    """Which shifts and methods, on how many truths."""

    shifts: tuple[str, ...] = tuple(SHIFTS)
    """Shifts to run."""
    methods: tuple[str, ...] = METHODS
    """Rows."""
    truths: int = 10
    """Truth seeds 0 … truths − 1."""
    validation: int = 2
    """Validation truths 1000, 1001, … on which strengths are chosen."""
    validation_frames: int = 96
    """Their length."""
    at_once: int = 5
    """Truths run side by side."""
    blur: tuple[float, float] = jaxsrda.Blend.blur
    """Widths of blend's blur at the first and the last step."""
    out: Path = Path(__file__).parent / "results" / "sensor_shift.json"
    """JSON record, written row by row; the pictures lie beside it."""
    reuse_any_code: bool = False
    """Keep rows and tried strengths that other code made too; they keep their own provenance."""


class Strength(NamedTuple):
    """What is swept."""

    strength: jax.Array


def observed(shift: Shift, seeds: range, truth: np.ndarray, seed: int = 0) -> jaxsrda.Observations:
    """The observations of all sensors of a shift, as `jaxsrda.assimilate` makes them."""
    testbed = jaxsrda.jet()
    keys = jax.vmap(functools.partial(observation_key, seed))(jnp.asarray(list(seeds), jnp.uint32))
    return observe_truths(keys, testbed.grid, jnp.asarray(truth), shift, testbed.frames_per_cycle)


def configured(shift: Shift, method: str, blur: tuple[float, float]) -> Config:
    """The configuration of a row, without a strength."""
    if method not in jaxsrda.GUIDES:
        return jaxsrda.METHODS["enkf-hr" if method == "enkf-hr" else "diffsrda"].config
    guide = jaxsrda.Blend(blur=blur) if method == "blend" else jaxsrda.GUIDES[method]()
    told = {"guide_on": "all" if len(shift) == 1 else "new", "guidance": guide}
    return dataclasses.replace(jaxsrda.METHODS["diffsrda"].config, **told)


def strengthened(config: jaxsrda.DiffSRDAConfig, strength: ArrayLike) -> jaxsrda.DiffSRDAConfig:
    """The configuration with another strength of its guide, if it has one."""
    if config.guidance is None:
        return config
    return dataclasses.replace(config, guidance=dataclasses.replace(config.guidance, strength=strength))


def tune(
    shift: Shift, config: jaxsrda.DiffSRDAConfig, values: Sequence[float], truth: np.ndarray, seeds: range
) -> dict[str, float | None]:
    """CRPS of each strength on validation truths, in one compiled sweep; None for one that diverged."""
    setup = jaxsrda.Setup(jaxsrda.jet(), jaxsrda.default_climatology(), shift)
    model = configured_model(config)
    scores = jaxsrda.sweep(
        lambda knob: jaxsrda.make_diffsrda(setup, strengthened(config, knob.strength), model=model),
        Strength(jnp.asarray(values)),
        jax.random.key(0),
        observed(shift, seeds, truth),
        jnp.asarray(truth),
    )
    crps = np.asarray(scores["crps"]).mean(1)
    return {str(value): float(score) if np.isfinite(score) else None for value, score in zip(values, crps)}


def tried(entry: dict, judged: dict, any_code: bool) -> dict:
    """What a record has of a method's strengths on the same truths, without those that other code tried.

    `by` has the provenance of each strength.
    """
    known = {key: value for key, value in entry.items() if key not in ("crps", "by", "device")}
    if known != judged:
        return judged | {"crps": {}, "by": {}}
    by = entry.get("by", {})
    same = [value for value in entry["crps"] if same_code({"provenance": by.get(value, {})}, any_code)]
    parts = {"crps": {value: entry["crps"][value] for value in same}, "by": {v: by[v] for v in same if v in by}}
    return parts | judged | ({"device": entry["device"]} if same and "device" in entry else {})


def choose(
    console: Console,
    tuning: dict[str, dict],
    row: str,
    config: jaxsrda.DiffSRDAConfig,
    truth: np.ndarray,
    seeds: range,
    any_code: bool,
) -> tuple[float, float]:
    """The strength of least CRPS, and this; those that the record has for the same truths are not tried again."""
    (name, _, method), judged = row.partition("/"), {"truths": list(seeds), "frames": truth.shape[1]}
    if method == "blend":
        judged["blur"] = list(config.guidance.blur)
    tuning[row] = entry = tried(tuning.get(row, {}), judged, any_code)
    crps = entry["crps"]
    if new := [value for value in STRENGTHS[method] if str(value) not in crps]:
        found = tune(SHIFTS[name], config, new, truth, seeds)
        crps |= found
        entry["by"] |= dict.fromkeys(found, this_run())
        console.print(f"{row}: CRPS on validation truths by strength {crps}")
    finite = {float(strength): score for strength, score in crps.items() if score is not None}
    return min(finite.items(), key=lambda item: item[1], default=(STRENGTHS[method][0], np.inf))


def batches(count: int, at_once: int) -> list[slice]:
    """Which truths run side by side."""
    return [slice(first, first + at_once) for first in range(0, count, at_once)]


def analyse(
    shift: Shift, method: str, config: Config, truth: np.ndarray, seeds: range, at_once: int
) -> list[jaxsrda.Result]:
    """The results of one row, one a batch of truths."""
    name, sensors = "enkf-hr" if method == "enkf-hr" else "diffsrda", shift
    if method == "none":
        sensors = shift[:1]
    if method in ("condition", "enkf-hr"):
        sensors = tuple(dataclasses.replace(each, role="assimilated") for each in shift)
    return [
        jaxsrda.assimilate(name, truth[batch], config=config, sensors=sensors, truth_seeds=seeds[batch])
        for batch in batches(len(truth), at_once)
    ]


def scored(
    shift: Shift, strength: float | None, parts: list[jaxsrda.Result], truth: np.ndarray, seeds: range, at_once: int
) -> dict:
    """The record of one row."""
    testbed = jaxsrda.jet()
    fits = {"fit_new": [], "fit_withheld": []}
    for batch, part in zip(batches(len(truth), at_once), parts):
        analyses = jnp.asarray(part.mean[:, :: testbed.frames_per_cycle])
        for key, sensors, seed in (("new", shift, 0), ("withheld", WITHHELD, 1)):
            seen = with_role(observed(sensors, seeds[batch], truth[batch], seed), sensors, sensors[-1].role)
            fits[f"fit_{key}"].append(np.asarray(misfit(testbed.grid, seen, analyses, sensors)))
    per_truth = {key: np.concatenate([part.per_truth[key] for part in parts]) for key in parts[0].scores}
    per_truth |= {key: np.concatenate(values) for key, values in fits.items()}
    kept, by_lead = ("maer", "crps", "spread_skill", *fits), np.concatenate([part.series["maer"] for part in parts])
    return {
        "strength": strength,
        "truths": len(truth),
        "scores": report.scores_record({key: jaxsrda.bootstrap_interval(values) for key, values in per_truth.items()}),
        "per_truth": {key: per_truth[key].tolist() for key in kept},
        "by_lead": by_lead.reshape(-1, testbed.frames_per_cycle).mean(0).tolist(),
        "seconds": sum(part.seconds["run"] for part in parts) / len(truth),
    }


COLUMNS = {"maer": "MAER", "crps": "CRPS", "spread_skill": "spread–skill"}
COLUMNS |= {"fit_new": "fit, new sensors", "fit_withheld": "fit, withheld"}
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
    found = {method: rows[f"{shift}/{method}"] for method in METHODS if f"{shift}/{method}" in rows}
    return {method: row for method, row in found.items() if "scores" in row}


def save(out: Path, tuning: dict[str, dict], rows: dict[str, dict]) -> None:
    """The record so far."""
    write_json(out, stamped({"tuning": tuning, "rows": rows}))


def settings_of(experiment: Experiment, shift: Shift, config: Config) -> dict:
    """What a row depends on besides the number of test truths; the strength is a result."""
    settings = {"sensors": described(shift), "config": described(config)}
    if isinstance(config, jaxsrda.DiffSRDAConfig):
        settings["weights"] = jaxsrda.load_model(config.weights or default_weights(config.prior))[1]["sha256"]
        if config.guidance is not None:
            settings["validation"] = {"seeds": experiment.validation, "frames": experiment.validation_frames}
    return common.plain(settings)


def reusable(row: dict, experiment: Experiment, settings: dict) -> bool:
    """Whether a row need not be made again: the same truths, settings (older rows have none) and source."""
    same = row.get("truths") == experiment.truths and row.get("settings", settings) == settings
    return same and same_code(row, experiment.reuse_any_code)


def main(experiment: Experiment) -> None:
    this_run()  # the code as it is now
    console = Console(width=220)
    truth = jaxsrda.simulate_truth(jaxsrda.jet(), range(experiment.truths))
    seeds = range(experiment.truths)
    validation = range(common.VALIDATION, common.VALIDATION + experiment.validation)
    held = jaxsrda.simulate_truth(jaxsrda.jet(), validation)[:, : experiment.validation_frames]
    record = json.loads(experiment.out.read_text()) if experiment.out.exists() else {}
    rows, tuning = record.get("rows", {}), record.get("tuning", {})
    for name in experiment.shifts:
        shift = SHIFTS[name]
        for method in experiment.methods:
            if method == "projected" and not shift[-1].measures_vorticity:
                continue  # it kriges departures of vorticity
            if method == "condition" and len(shift) == 1:
                continue  # it is `none`
            row, strength, config = f"{name}/{method}", None, configured(shift, method, experiment.blur)
            settings = settings_of(experiment, shift, config)
            if reusable(rows.get(row, {}), experiment, settings):
                continue
            if method in STRENGTHS and method != "none":
                given = held, validation, experiment.reuse_any_code
                strength, crps = choose(console, tuning, row, config, *given)
                plain = jaxsrda.METHODS["diffsrda"].config
                without = choose(console, tuning, f"{name}/none", plain, *given)[1]
                if crps >= without:
                    best = crps if np.isfinite(crps) else None  # None: it diverged at every strength
                    made = {"truths": experiment.truths, "settings": settings}
                    rows[row] = stamped(made | {"declined": {"best": best, "none": without}})
                    console.print(f"{row}: CRPS on validation truths {crps:.4f}, {without:.4f} without; not run")
                    save(experiment.out, tuning, rows)
                    continue
            try:
                config = config if strength is None else strengthened(config, strength)
                parts = analyse(shift, method, config, truth, seeds, experiment.at_once)
                made = scored(shift, strength, parts, truth, seeds, experiment.at_once)
            except jaxsrda.DivergedError as error:
                made = {"strength": strength, "truths": experiment.truths, "diverged": str(error)}
                console.print(f"{row}: {error}")
            else:
                scores = ", ".join(f"{title} {common.interval(made, key)}" for key, title in COLUMNS.items())
                console.print(f"{row}: {scores}, {made['seconds']:.0f} s a truth")
            rows[row] = stamped(made | {"settings": settings})
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
