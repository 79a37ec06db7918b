"""Methods that were tuned, or trained, with one layout of sensors, on others: denser, sparser, irregular, silent.

    python experiments/layouts.py                       # ten test truths, all layouts
    python experiments/layouts.py --layouts lattice:4 lattice:12 --truths 3

Obtained: results/layouts.json.  A row that is in the record already, with the same settings and from the same source,
is not run again.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import reconstruction
import tyro
from rich.console import Console

import jaxsrda
from jaxsrda.core.files import write_json
from jaxsrda.core.provenance import same_code, this_run
from jaxsrda.core.records import described

LAYOUTS = (
    "lattice:4",
    "lattice:6",
    "lattice:8",
    "lattice:12",
    "lattice:16",
    "random-moving:128",
    "random-moving:32",
    "track:4",
    "lattice:8+dropout:0.3+silent:0.3",
)

KEPT = ("method", "settings", "weights", "truths", "test_truths", "scores", "per_truth", "seconds", "provenance")
"""What a row keeps of the comparison's."""


@dataclasses.dataclass
class Experiment:
    """Which methods, with which sensors, on how many truths."""

    methods: tuple[str, ...] = ("enkf-lagrange", "diffsrda/carried/gaussian", "oi-lagrange", "diffsrda", "enkf-sr")
    """Methods and variants of `reconstruction.py`, with the preset of the layout if there is one."""
    layouts: tuple[str, ...] = LAYOUTS
    """Sensors."""
    truths: int = 10
    """How many truths."""
    test_truths: bool = True
    """Test truths, seeds 0, 1, …, for tables; to choose something take validation truths, seeds 1000, 1001, …"""
    out: Path = Path(__file__).parent / "results" / "layouts.json"
    """JSON record."""
    reuse_any_code: bool = False
    """Keep rows in the record that other code made too; they keep their own provenance."""


def main(experiment: Experiment) -> None:
    console = Console()
    this_run()  # the code as it is now
    records = json.loads(experiment.out.read_text()) if experiment.out.exists() else {}
    numbers = {"truths": experiment.truths, "test_truths": experiment.test_truths}
    truth = None
    for layout in experiment.layouts:
        for method in experiment.methods:
            one = reconstruction.Experiment(methods=(method,), layout=layout, **numbers)
            wanted = numbers | {"settings": reconstruction.portable(described(reconstruction.tuned(one, method)[1]))}
            found = records.get(layout, {}).get(method, {})
            if all(found.get(k) == v for k, v in wanted.items()) and same_code(found, experiment.reuse_any_code):
                continue
            if truth is None:
                seeds = reconstruction.common.truth_seeds(one)
                truth = jaxsrda.simulate_truth(jaxsrda.jet(), seeds)
            row, _ = reconstruction.run(one, method, truth)
            records.setdefault(layout, {})[method] = {name: row[name] for name in KEPT}
            write_json(experiment.out, records)
            scores = ", ".join(f"{name} {row['scores'][name]['mean']:.3f}" for name in ("maer", "crps", "spread_skill"))
            console.print(f"{layout}, {method}: {scores}, {row['seconds']['run_per_truth']:.1f} s a truth")


if __name__ == "__main__":
    main(tyro.cli(Experiment))
