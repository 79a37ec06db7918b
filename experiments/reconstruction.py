"""Claim 1 of arXiv:2604.21180: the diffusion model's analyses against filters and controls, all on the same truths.

    python experiments/reconstruction.py                 # all methods, truths 0 … 9 at the fine level, lattice 8
    python experiments/reconstruction.py --methods diffsrda enkf-dual --truths 3

Expected (the paper gives curves, not numbers; these are this project's targets): EnKF-HR MAER ≤ 0.13 with
spread–skill 0.8–1.25, EnKF-SR ≤ 0.28, enkf-dual ≤ 0.165; DiffSRDA no worse than EnKF-HR with prior dual, ≤ 0.18 on LR
forecasts only, spread–skill 0.85–1.15.  Obtained: results/reconstruction.json beside this file.  A method that is in
the results already, with the same settings and from the same source, is not run again.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import common
import numpy as np
import tyro
from rich.console import Console

import jaxsrda
from jaxsrda.app import plotting, report
from jaxsrda.core.files import write_json
from jaxsrda.core.provenance import same_code, stamped, this_run
from jaxsrda.core.records import described
from jaxsrda.diffsrda.weights import default_weights

WEIGHTS = Path(__file__).parent / "weights"
"""Weights that are too large for the package."""

CARRIED = {"prior": "carried", "weights": str(WEIGHTS / "carried-base.npz")}

TUNED_NU = {"viscosity": 1.88e-6, "localization": 2.16, "additive": 0.0031, "rtps": 0.3}
"""From `benchmarks/tune_filters.py enkf-hr` with the forecast model's ν among the parameters."""

VARIANTS: dict[str, tuple[str, dict]] = {
    "enkf-hr/tuned-nu": ("enkf-hr", TUNED_NU),
    "diffsrda/each": ("diffsrda", {"restart": "each"}),
    "diffsrda/open": ("diffsrda", {"restart": "open"}),
    "diffsrda/regression": ("diffsrda", {"sampler": "mean"}),
    "diffsrda/one-step": ("diffsrda", {"weights": "diffsrda-small-student", "steps": 1}),
    "latent-diffsrda/uncentred": ("latent-diffsrda", {"centred": False}),
    "diffsrda/enkf-sr": ("diffsrda", {"prior": "enkf-sr", "restart": "open"}),
    "diffsrda/enkf-sr/each": ("diffsrda", {"prior": "enkf-sr", "restart": "each"}),
    "diffsrda/carried": ("diffsrda", CARRIED),
    "diffsrda/carried/gaussian": ("diffsrda", CARRIED | {"sampler": "gaussian"}),
    "diffsrda/carried/white": ("diffsrda", CARRIED | {"sampler": "white"}),
}
"""Variants: name → (method, changes to its configuration)."""

JOINT = (
    "energy",
    "variogram",
    "crps_block4",
    "crps_block8",
    "crps_block16",
    "crps_gradient",
    "crps_laplacian",
    "crps_change",
)
"""Joint scores that are compared truth by truth."""

COMPARED = ("maer", "crps", "spread_skill", *JOINT)

PLOTTED = ("diffsrda", "diffsrda/enkf-sr", "enkf-hr", "letkf-hr", "enkf-dual", "enkf-sr", "free-run")
"""Drawn against time where more methods are run than lines can be told apart."""


@dataclasses.dataclass
class Experiment:
    """Which methods, on how many truths, with which sensors."""

    methods: tuple[str, ...] = (*jaxsrda.METHODS, *VARIANTS)
    """Methods and variants to run; "enkf-hr/paper" takes the paper's tuning."""
    truths: int = 10
    """How many truths."""
    test_truths: bool = True
    """Test truths, seeds 0, 1, …, for tables; to choose something take validation truths, seeds 1000, 1001, …"""
    truth_level: str = "fine"
    """fine or uhr."""
    layout: str = jaxsrda.Sensors.layout
    """Sensors."""
    weights: str = ""
    """Weights of the diffusion model, by default the released ones."""
    joint: bool = False
    """Joint scores too; a row without them is run again."""
    at_once: int = 5
    """Truths run side by side."""
    out: Path = Path(__file__).parent / "results"
    """Folder of the results."""
    reuse_any_code: bool = False
    """Keep rows in the record that other code made too; they keep their own provenance."""


def run(experiment: Experiment, method: str, truth: np.ndarray) -> tuple[dict, jaxsrda.Result]:
    """The record of one method over all truths, and the analysis of the first batch."""
    name, config = tuned(experiment, method)
    parts = []
    for start in range(0, len(truth), experiment.at_once):
        side = slice(start, start + experiment.at_once)
        some = common.truth_seeds(experiment)[side]
        options = {"layout": experiment.layout, "config": config, "joint": experiment.joint}
        parts.append(jaxsrda.assimilate(name, truth[side], truth_seeds=some, **options))
    per_truth = {name: np.concatenate([part.per_truth[name] for part in parts]) for name in parts[0].scores}
    scores = {name: jaxsrda.bootstrap_interval(values) for name, values in per_truth.items()}
    series = {name: np.concatenate([part.series[name] for part in parts]) for name in parts[0].series}
    statistics = report.mean_statistics([s for part in parts for s in part.statistics])
    seconds = {
        "compile": max(part.seconds["compile"] for part in parts),
        "run_per_truth": sum(part.seconds["run"] for part in parts) / len(truth),
    }
    record = {
        "method": method,
        "settings": portable(described(config)),
        **weights(experiment, method),
        "truths": len(truth),
        "test_truths": experiment.test_truths,
        "truth_level": experiment.truth_level,
        "layout": experiment.layout,
        "scores": report.scores_record(scores),
        "per_truth": {name: per_truth[name].tolist() for name in COMPARED if name in per_truth},
        "series": {name: values.mean(0) for name, values in series.items()},
        "statistics": {
            name: statistics[name] for name in ("rank_histogram", "shell", "energy_truth", "energy_members")
        },
        "seconds": seconds,
        "finite": all(part.finite for part in parts),
        "load": os.getloadavg()[0],
    }
    return stamped(record), parts[0]


def portable(settings: dict) -> dict:
    """Settings with the names of weights in the place of their paths."""
    return settings | ({"weights": Path(settings["weights"]).stem} if settings.get("weights") else {})


def tuned(experiment: Experiment, method: str) -> tuple[str, jaxsrda.FilterConfig | jaxsrda.DiffSRDAConfig]:
    """The assimilator's name and its configuration."""
    if method in VARIANTS:
        name, changes = VARIANTS[method]
        config = dataclasses.replace(jaxsrda.method_preset(name, experiment.layout), **changes)
    else:
        name, _, tuning = method.partition("/")
        config = jaxsrda.method_preset(name, experiment.layout, tuning or "own")
    if isinstance(config, jaxsrda.DiffSRDAConfig) and experiment.weights and not config.weights:
        config = dataclasses.replace(config, weights=experiment.weights)
    return name, config


def weights(experiment: Experiment, method: str) -> dict:
    """The SHA-256 and number of the weights that a method uses, and the windows they saw in training; None for filters.

    Windows of the trainings that a training went on from are counted too.
    """
    _, config = tuned(experiment, method)
    if not isinstance(config, jaxsrda.DiffSRDAConfig):
        return {"weights": None, "parameters": None, "training_windows": None}
    model, record = jaxsrda.load_model(config.weights or default_weights(config.prior))
    sha, windows = record["sha256"], 0
    while record:
        windows += record["samples"]
        record = record["parent"]
    return {"weights": sha, "parameters": common.parameters(model), "training_windows": windows}


def renewed(settings: dict) -> dict:
    """The settings of a record under today's names; in older ones no guide was used, so its options mean nothing."""
    names = {"observation_std": "assumed_std", "noise": "sigmas"}
    gone = ("strength", "iterations", "blur", "hard_steps")
    kept = {names.get(name, name): value for name, value in settings.items() if name not in gone}
    return kept | ({"guidance": None} if kept.get("guidance") == "none" else {})


def main(experiment: Experiment) -> None:
    this_run()  # the code as it is now
    console = Console()
    experiment.out.mkdir(exist_ok=True)
    path = experiment.out / "reconstruction.json"
    records = json.loads(path.read_text()) if path.exists() else {}
    truth = jaxsrda.simulate_truth(jaxsrda.jet(), common.truth_seeds(experiment), experiment.truth_level)
    for method in experiment.methods:
        config = tuned(experiment, method)[1]
        trained = weights(experiment, method)
        wanted = {"truths": experiment.truths, "weights": trained["weights"]}
        wanted |= {name: getattr(experiment, name) for name in ("test_truths", "truth_level", "layout")}
        found = {"test_truths": True} | records[method] if method in records else {}  # older rows do not say so
        # Options that came later have their defaults in older records.
        settings = described(type(config)()) | renewed(found.get("settings", {}))
        wanted |= {"joint": True} if experiment.joint else {}
        found |= {"joint": "energy" in found.get("scores", {})} if found else {}
        same = settings == portable(described(config)) and all(found.get(key) == wanted[key] for key in wanted)
        if found and same and same_code(found, experiment.reuse_any_code):
            records[method] |= trained
            continue
        records[method], first = run(experiment, method, truth)
        write_json(path, records)
        report.pictures(experiment.out / method.replace("/", "-"), first)
        line = ", ".join(
            f"{name} {records[method]['scores'][name]['mean']:.3f}" for name in ("maer", "crps", "spread_skill")
        )
        console.print(f"{method}: {line}, {records[method]['seconds']['run_per_truth']:.1f} s a truth")
    write_json(path, records)
    shown = {name: records[name] for name in experiment.methods if name in records}
    print(markdown(shown))
    print(ratios(records))
    testbed = jaxsrda.jet()
    times = testbed.frame * np.arange(testbed.frames_per_cycle, testbed.frames)
    drawn = PLOTTED if len(shown) > len(PLOTTED) else tuple(shown)
    series = {name: {k: np.array(v) for k, v in shown[name]["series"].items()} for name in drawn if name in shown}
    lengths = {len(next(iter(s.values()))) for s in series.values()}
    if lengths == {len(times)}:
        plotting.plot_series(experiment.out / "reconstruction_series.png", times, series)


def markdown(records: dict[str, dict]) -> str:
    """The table of the README: mean and 95 % interval over the truths, best first; weights and windows trained on."""
    columns = {"maer": "MAER", "mssim_loss": "MSSIM loss", "crps": "CRPS", "spread_skill": "spread–skill"}
    heads = ("method", "members", "weights", "trained on", *columns.values())
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for name, record in sorted(records.items(), key=lambda item: item[1]["scores"]["maer"]["mean"]):
        cells = ["{mean:.3f} [{low:.3f}, {high:.3f}]".format(**record["scores"][column]) for column in columns]
        trained = ("–", "–")
        if record.get("parameters"):
            trained = (f"{record['parameters'] / 1e6:.1f} M", f"{record['training_windows']:,}")
        members = 1 if record["settings"].get("sampler") == "mean" else record["settings"]["members"]
        lines.append(f"| `{name}` | {' | '.join([str(members), *trained, *cells])} |")
    return "\n".join(lines)


def ratios(records: dict[str, dict], base: str = "enkf-hr") -> str:
    """MAER and CRPS over those of `base`, truth by truth: mean and 95 % interval, where both saw the same truths."""

    def seen(name: str) -> tuple:
        record = records.get(name, {})
        return (
            "per_truth" in record,
            *(record.get(key) for key in ("truths", "truth_level", "layout")),
            record.get("test_truths", True),
        )

    lines = []
    for name in records:
        if name == base or not seen(name)[0] or seen(name) != seen(base):
            continue
        cells = []
        for score in ("maer", "crps"):
            own, other = (np.array(records[key]["per_truth"][score]) for key in (name, base))
            cells.append("{} {:.3f} [{:.3f}, {:.3f}]".format(score.upper(), *jaxsrda.bootstrap_interval(own / other)))
        lines.append(f"{name} over {base}: {', '.join(cells)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Experiment))
