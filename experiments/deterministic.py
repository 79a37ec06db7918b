"""What diffusion adds to deterministic super-resolution: networks trained alike, then cycled on the same truths.

    python experiments/deterministic.py            # hours on 2 cores; resumes

Trained from scratch on the same windows (prior dual, those that the released model's own cycling visits), in the same
order, with the same seed, learning rate and number of windows seen:

    4dsrda      the convolution + transformer network of the predecessors, L1            (no spread)
    regression  the U-Net of the diffusion model, its mean alone, L1                     (no spread)
    direct      diffusion around the prior's first guess
    residual    diffusion around the regression's mean, in one network with it

Expected: residual no worse than regression in MAER and far better in CRPS and in the energy of small scales.
Obtained: results/deterministic.json and .png beside this file.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import common
import tyro
from rich.console import Console
from rich.table import Table

import jaxsrda

KINDS: dict[str, tuple[str, str, float]] = {
    "regression": ("small", "regression", 1.3),
    "residual": ("small", "residual", 1.3),
    "4dsrda": ("4dsrda-small", "regression", 1.3),
    "direct": ("small", "direct", 1.0),
}
"""Name → network, target, and standard deviation of what is diffused."""


@dataclasses.dataclass
class Experiment:
    """How much training, and on how many truths it is judged."""

    runs: int = 192
    """Training runs."""
    samples: int = 16_000
    """Windows that each training sees."""
    policy: str = "diffsrda-small"
    """Weights whose cycling gives the windows."""
    bf16: bool = True
    """Train in bfloat16."""
    truths: int = 10
    """How many truths."""
    test_truths: bool = True
    """Test truths, seeds 0, 1, …, for tables; to choose something take validation truths, seeds 1000, 1001, …"""
    kinds: tuple[str, ...] = tuple(KINDS)
    """Which to train and score."""
    out: Path = Path(__file__).parent / "results" / "deterministic.json"
    """JSON record; the picture lies beside it."""
    reuse_any_code: bool = False
    """Keep rows in the record that other code made too; they keep their own provenance."""


def job(experiment: Experiment, kind: str) -> jaxsrda.Job:
    """The training of one kind."""
    network, target, sigma_data = KINDS[kind]
    return jaxsrda.Job(
        (jaxsrda.DataConfig(prior="dual", runs=experiment.runs),),
        jaxsrda.ModelConfig(network=network, target=target, sigma_data=sigma_data),
        jaxsrda.TrainConfig(samples=experiment.samples, noises=1, bfloat16=experiment.bf16),
        policy=experiment.policy,
        cycling=0,
    )


def main(experiment: Experiment) -> None:
    console = Console(width=160)  # the table is wide
    rows = common.kept(experiment)
    seeds = common.truth_seeds(experiment)
    truth = jaxsrda.simulate_truth(jaxsrda.jet(), seeds)
    for kind in (kind for kind in experiment.kinds if kind not in rows):
        path = common.trained("deterministic", kind, job(experiment, kind), console, experiment.reuse_any_code)
        rows[kind] = common.scored(path, jaxsrda.DiffSRDAConfig(prior="dual"), truth, seeds)
    columns = ("maer", "mssim_loss", "crps", "spread_skill", "energy_distance_members")
    table = Table("network", "parameters", *columns, f"energy at k ≥ {common.SMALL_SCALES}", title="Trained alike")
    for kind, row in rows.items():
        row["small_scales"] = common.small_scales(row["statistics"])
        cells = [common.interval(row, name) for name in columns]
        table.add_row(kind, f"{row['parameters'] / 1e6:.1f} M", *cells, f"{row['small_scales']:.2f}")
    console.print(table)
    if "regression" in rows:
        for kind in (kind for kind in rows if kind != "regression"):
            console.print(f"{kind} over regression: MAER {common.over(rows[kind], rows['regression'])}")
    common.write(experiment, rows, ("maer", "crps", "spread_skill", "mssim_loss"))


if __name__ == "__main__":
    main(tyro.cli(Experiment))
