"""How many training runs, and how long, a network needs: an ablation that arXiv:2604.21180 leaves open.

    python experiments/training_length.py

One network, trained to the mean on prior dual's windows from scratch each time with the same seed and the same number
of windows seen, on more or fewer runs and on their first times only or all; then cycled on the same truths.
Expected: errors fall with the number of runs and with their length, as runs cut short never show the late flow.
Obtained with --runs 8 24 56 --times 6 --samples 4000 --no-bf16: results/training_length.json and .png beside this file.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import common
import tyro
from rich.console import Console
from rich.table import Table

import jaxsrda
from jaxsrda.training.truths import BLOCK


@dataclasses.dataclass
class Experiment:
    """Which trainings, and on how many truths they are judged."""

    runs: tuple[int, ...] = (8, 32, 184)
    """Training runs, all of their times used; 8 more are held out."""
    times: tuple[int, ...] = (6, 12)
    """Assimilation times used of each run, with the largest number of runs; all of them above."""
    samples: int = 8_000
    """Windows that each training sees."""
    network: str = "tiny"
    """tiny, small or base."""
    policy: str = "diffsrda-small"
    """Weights whose cycling gives the windows."""
    bf16: bool = True
    """Train in bfloat16."""
    truths: int = 10
    """How many truths."""
    test_truths: bool = True
    """Test truths, seeds 0, 1, …, for tables; to choose something take validation truths, seeds 1000, 1001, …"""
    out: Path = Path(__file__).parent / "results" / "training_length.json"
    """JSON record; the picture lies beside it."""
    reuse_any_code: bool = False
    """Keep rows in the record that other code made too; they keep their own provenance."""


def job(experiment: Experiment, runs: int, times: int) -> jaxsrda.Job:
    """The training on so many runs and times."""
    return jaxsrda.Job(
        (jaxsrda.DataConfig(prior="dual", runs=runs + BLOCK, times=times, extra_layouts=()),),
        jaxsrda.ModelConfig(network=experiment.network, target="regression"),
        jaxsrda.TrainConfig(samples=experiment.samples, bfloat16=experiment.bf16),
        policy=experiment.policy,
        cycling=0,
    )


def main(experiment: Experiment) -> None:
    console = Console()
    plan = [(runs, 0) for runs in experiment.runs] + [(max(experiment.runs), times) for times in experiment.times]
    table = Table("runs", "times", "MAER", "MSSIM loss", title="Number and length of training runs")
    done, rows = common.kept(experiment), {}
    seeds = common.truth_seeds(experiment)
    truth = jaxsrda.simulate_truth(jaxsrda.jet(), seeds)
    for runs, times in plan:
        name, task = f"{runs} runs, {times or 'all'} times", job(experiment, runs, times)
        if not (row := done.get(name)):
            file = name.replace(" ", "-")
            weights = common.trained("training_length", file, task, console, experiment.reuse_any_code)
            row = common.scored(weights, jaxsrda.DiffSRDAConfig(prior="dual"), truth, seeds)
        rows[name] = row = {"runs": runs, "times": times, **row}
        table.add_row(str(runs), str(times or "all"), *(common.interval(row, k) for k in ("maer", "mssim_loss")))
    console.print(table)
    common.write(experiment, rows, ("maer", "mssim_loss"))


if __name__ == "__main__":
    main(tyro.cli(Experiment))
