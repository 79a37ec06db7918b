"""Sensors that the network was not conditioned on: training-free guidance against its alternatives.

    python experiments/sensor_shift.py                            # hours on 2 cores; goes on where it was
    python experiments/sensor_shift.py --shifts 8-4 --truths 3

For each shift the network goes on hearing the lattice of interval 8 (or what is left of it), and the new sensors

    none        are not used: no adaptation
    NAME        guide the samples by a method of jaxsrda.diffusion.guidance, its strength chosen on validation truths
    projected   correct each member in the end
    condition   are told to the network like all others (it was trained on several layouts)
    enkf-hr     are assimilated, with all others, by the EnKF with 100 members on the HR grid

Scores are those of the cycle, in which guided samples restart the prior's forecasts.  Expected: with interval 4 the
best method takes at least 20 % off the MAER without adaptation and beats `blend` in CRPS at equal steps, with
spread–skill 0.8–1.25.  Not run at this size yet; it writes results/sensor_shift.json beside this file, row by row.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import common
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import jaxsrda
from jaxsrda import report
from jaxsrda.config import CONFIGS, GUIDES, LEVELS
from jaxsrda.io import write_json

SHIFTS: dict[str, dict] = {
    "8-4": {"layout": "lattice:8", "guide_layout": "lattice:4"},
    "8-12": {"layout": "lattice:8+dropout:1", "guide_layout": "lattice:12"},
    "random": {"layout": "lattice:8+dropout:1", "guide_layout": "random-fixed:128"},
    "moving": {"layout": "lattice:8+dropout:1", "guide_layout": "random-moving:128"},
    "drop-out": {"layout": "lattice:8+dropout:1", "guide_layout": "lattice:8+dropout:0.5"},
    "moorings": {
        "layout": "lattice:8",
        "guide_layout": "random-fixed:64",
        "guide_measure": "velocity-x",
        "guide_std": 0.05,
    },
    "noise": {"layout": "lattice:8+dropout:1", "guide_layout": "lattice:8", "guide_std": 0.3},
}
"""Name → what `jaxsrda.assimilate` is told."""

STRENGTHS: dict[str, tuple[float, ...]] = {
    "blend": (0.01, 0.1, 1.0),
    "lifted": (0.7, 1.3, 2.6),
    "diffpir": (0.5, 1.0, 4.0),
    "oi": (0.5, 1.0, 2.0),
    "mmps": (0.5, 1.0, 2.0),
    "pigdm": (0.7, 1.3, 2.6),
    "sda": (0.1, 0.5, 2.0),
    "dps": (0.003, 0.01, 0.03),
}
"""Strengths among which each method chooses, by CRPS on validation truths."""


@dataclasses.dataclass
class Experiment:
    """Which shifts and methods, on how many truths."""

    shifts: tuple[str, ...] = tuple(SHIFTS)
    """Shifts to run."""
    methods: tuple[str, ...] = ("none", *GUIDES, "projected", "condition", "enkf-hr")
    """Rows."""
    truths: int = 10
    """Truth seeds 0 … truths − 1."""
    validation: int = 2
    """Validation truths 1000, 1001, … on which strengths are chosen."""
    at_once: int = 5
    """Truths run side by side."""
    out: Path = Path(__file__).parent / "results" / "sensor_shift.json"
    """JSON record."""


def run(shift: str, method: str, strength: float | None, truth: np.ndarray, seeds: range, at_once: int) -> dict:
    """The record of one row."""
    options = dict(SHIFTS[shift])
    name = "enkf-hr" if method == "enkf-hr" else "diffsrda"
    config = CONFIGS[name]
    if method == "none":
        options = {"layout": options["layout"]}
    elif method in ("condition", "enkf-hr"):
        options["guides_assimilated"] = True
    else:
        config = dataclasses.replace(config, guidance=method, strength=strength)
    parts = []
    for first in range(0, len(truth), at_once):
        batch = slice(first, first + at_once)
        parts.append(jaxsrda.assimilate(name, truth[batch], config=config, truth_seeds=seeds[batch], **options))
    per_truth = {key: np.concatenate([part.per_truth[key] for part in parts]) for key in parts[0].scores}
    return {
        "strength": strength,
        "scores": report.scores_record({key: jaxsrda.bootstrap_interval(values) for key, values in per_truth.items()}),
        "per_truth": {key: per_truth[key].tolist() for key in ("maer", "crps", "spread_skill")},
        "seconds": sum(part.seconds["run"] for part in parts) / len(truth),
    }


def main(experiment: Experiment) -> None:
    console = Console(width=160)
    truth = jaxsrda.simulate_truth(LEVELS["fine"], list(range(experiment.truths)))
    seeds, validation = range(experiment.truths), range(1000, 1000 + experiment.validation)
    rows = json.loads(experiment.out.read_text())["rows"] if experiment.out.exists() else {}
    for shift in experiment.shifts:
        for method in experiment.methods:
            if method in ("condition", "enkf-hr") and "guide_measure" in SHIFTS[shift]:
                continue  # neither takes two kinds of sensors at once
            name = f"{shift}/{method}"
            if name in rows and rows[name]["truths"] == experiment.truths:
                continue
            strength = None
            if method in STRENGTHS:
                held = jaxsrda.simulate_truth(LEVELS["fine"], list(validation))
                tried = {
                    s: run(shift, method, s, held, validation, experiment.at_once)["scores"]["crps"]["mean"]
                    for s in STRENGTHS[method]
                }
                strength = min(tried, key=tried.__getitem__)
            rows[name] = run(shift, method, strength, truth, seeds, experiment.at_once) | {"truths": experiment.truths}
            settings = {key: value for key, value in dataclasses.asdict(experiment).items() if key != "out"}
            write_json(experiment.out, {"settings": settings, "rows": rows})
            console.print(
                f"{name}: {', '.join(common.interval(rows[name], k) for k in ('maer', 'crps', 'spread_skill'))}"
            )
        columns = ("maer", "crps", "spread_skill", "observation_rmse_analysis")
        table = Table("method", "strength", *columns, "MAER over none", "s a truth", title=f"Sensors shift: {shift}")
        for method in experiment.methods:
            if (row := rows.get(f"{shift}/{method}")) is not None:
                cells = [common.interval(row, key) for key in columns]
                over = common.over(row, rows[f"{shift}/none"]) if f"{shift}/none" in rows else ""
                table.add_row(method, f"{row['strength'] or ''}", *cells, over, f"{row['seconds']:.0f}")
        console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Experiment))
