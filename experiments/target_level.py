"""What training on truths as coarse as the analysis costs when the truth to be met is finer.

    python experiments/target_level.py                                               # resumes
    python experiments/target_level.py --network tiny --runs 24 --samples 6000       # 10 minutes on 2 busy cores

One network, twice from the same seed: trained on HR runs (as in arXiv:2604.21180) and on fine ones, whose smaller
viscosity leaves more in the scales that HR shares with them.  Both give the mean around prior enkf-sr, which goes its
own way, on truths of both levels.  Expected: each is best on its own level.  Obtained, at
the small size: results/target_level.json, where the level of the training runs makes no difference on fine truths.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import common
import tyro
from rich.console import Console
from rich.table import Table

import jaxsrda
from jaxsrda.core.files import write_json
from jaxsrda.core.provenance import stamped

NAMES = ("hr", "fine")


@dataclasses.dataclass
class Experiment:
    """How much training, and on how many truths it is judged."""

    runs: int = 64
    """Training runs of each level."""
    samples: int = 16_000
    """Windows that each training sees."""
    network: str = "small"
    """tiny, small or base."""
    bf16: bool = True
    """Train in bfloat16."""
    truths: int = 10
    """How many truths."""
    test_truths: bool = True
    """Test truths, seeds 0, 1, …, for tables; to choose something take validation truths, seeds 1000, 1001, …"""
    out: Path = Path(__file__).parent / "results" / "target_level.json"
    """JSON record."""
    reuse_any_code: bool = False
    """Use weights in the cache that other code trained too."""


def job(experiment: Experiment, level: str) -> jaxsrda.Job:
    """The training on runs of a level."""
    data = jaxsrda.DataConfig(prior="enkf-sr", level=level, runs=experiment.runs, extra_layouts=())
    model = jaxsrda.ModelConfig(network=experiment.network, priors=("enkf-sr",), target="regression")
    return jaxsrda.Job(
        (data,), model, jaxsrda.TrainConfig(samples=experiment.samples, bfloat16=experiment.bf16), cycling=0
    )


def main(experiment: Experiment) -> None:
    console = Console()
    weights = {
        level: common.trained("target_level", level, job(experiment, level), console, experiment.reuse_any_code)
        for level in NAMES
    }
    table = Table("trained on", "truth", "MAER", title="Level of the training runs")
    rows, seeds = [], common.truth_seeds(experiment)
    for scored in NAMES:
        truth = jaxsrda.simulate_truth(jaxsrda.jet(), seeds, scored)
        for level in NAMES:
            config = jaxsrda.DiffSRDAConfig(prior="enkf-sr", restart="open")
            row = common.scored(weights[level], config, truth, seeds, len(truth))
            kept = {name: row[name] for name in ("weights", "weights_name", "provenance")}
            rows.append({"trained": level, "truth": scored, "maer": row["scores"]["maer"], **kept})
            table.add_row(level, scored, common.interval(row, "maer"))
    write_json(experiment.out, stamped({"settings": common.settings_of(experiment), "rows": rows}))
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Experiment))
