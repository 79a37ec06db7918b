"""What LR forecasts to train on: exact starts, SR-mixup, starts like analyses, or those of the model's own cycle.

    python experiments/mixup.py                              # tiny network
    python experiments/mixup.py --network 4dsrda-small --forecasts clean mixup      # what SR-mixup was proposed for

A regression around one bare LR forecast (prior lr, restart mean), trained from scratch each time with the same seed,
the same runs and the same number of windows seen, then cycled on the same truths.

    clean      forecasts from the truth, low-passed
    mixup      the same, mixed with the most similar other one (Yasuda & Onishi 2023, arXiv:2212.03656)
    perturbed  forecasts from the truth plus a random climatological anomaly, as if from an analysis
    own cycle  forecasts that the model restarts in its own cycling, as it is at the time

Expected: each step from clean to own cycle lowers the error in the cycle, where starts are never exact.
Obtained with --runs 40 --samples 4000 --no-bf16: results/mixup.json and mixup_4dsrda-small.json, and pictures, beside
this file.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import common
import tyro
from rich.console import Console
from rich.table import Table

import jaxsrda

STARTS = ("clean", "mixup", "perturbed")


@dataclasses.dataclass
class Experiment:
    """How much training, and on how many truths it is judged."""

    runs: int = 64
    """Training runs."""
    samples: int = 8_000
    """Windows that each training sees."""
    network: str = "tiny"
    """tiny, small, base, 4dsrda-small or 4dsrda."""
    bf16: bool = True
    """Train in bfloat16."""
    forecasts: tuple[str, ...] = (*STARTS, "own cycle")
    """Which of them."""
    truths: int = 10
    """How many truths."""
    test_truths: bool = True
    """Test truths, seeds 0, 1, …, for tables; to choose something take validation truths, seeds 1000, 1001, …"""
    out: Path = Path(__file__).parent / "results" / "mixup.json"
    """JSON record; the picture lies beside it."""
    reuse_any_code: bool = False
    """Keep rows in the record that other code made too; they keep their own provenance."""


def job(experiment: Experiment, starts: str) -> jaxsrda.Job:
    """The training on one kind of forecasts."""
    starts = "cycle" if starts == "own cycle" else starts
    return jaxsrda.Job(
        (jaxsrda.DataConfig(prior="lr", runs=experiment.runs, starts=starts, extra_layouts=()),),
        jaxsrda.ModelConfig(network=experiment.network, priors=("lr",), target="regression"),
        jaxsrda.TrainConfig(samples=experiment.samples, bfloat16=experiment.bf16),
        cycling=0,
    )


def main(experiment: Experiment) -> None:
    console = Console()
    config = jaxsrda.DiffSRDAConfig(prior="lr", restart="mean", sampler="mean")
    table = Table(
        "forecasts", "held-out L1 (own windows)", "MAER", "MSSIM loss", "over the first", title="Forecasts to train on"
    )
    done, rows = common.kept(experiment), {}
    seeds = common.truth_seeds(experiment)
    truth = jaxsrda.simulate_truth(jaxsrda.jet(), seeds)
    for name in (name for name in (*STARTS, "own cycle") if name in experiment.forecasts):
        if not (row := done.get(name)):
            task, any_code = job(experiment, name), experiment.reuse_any_code
            weights = common.trained("mixup", name.replace(" ", "-"), task, console, any_code)
            row = common.scored(weights, config, truth, seeds)
        rows[name] = row
        held_out = f"{row['held_out']['regression']:.3f}"
        scores = (common.interval(row, score) for score in ("maer", "mssim_loss"))
        table.add_row(name, held_out, *scores, common.over(row, rows[experiment.forecasts[0]]))
    console.print(table)
    common.write(experiment, rows, ("maer", "mssim_loss"))


if __name__ == "__main__":
    main(tyro.cli(Experiment))
