"""How long truths of one seed agree if only the rounding differs: single precision against double.

    python experiments/truth_agreement.py

Obtained: results/truth_agreement.json.  Machines that round differently differ no less; the protocols of the benchmark
fix seeds, not bits.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import tyro

import jaxsrda
from jaxsrda.core.files import read_npz, write_json
from jaxsrda.core.provenance import stamped, this_run

DOUBLE = """
import sys
import numpy as np
import jaxsrda
np.savez(sys.argv[1], omega=jaxsrda.simulate_truth(jaxsrda.jet(), [int(seed) for seed in sys.argv[2:]]))
"""


@dataclasses.dataclass
class Experiment:
    """Which truths."""

    truths: int = 2
    """How many test truths, seeds 0, 1, …"""
    out: Path = Path(__file__).parent / "results" / "truth_agreement.json"
    """JSON record."""


def main(experiment: Experiment) -> None:
    this_run()  # the code as it is now
    testbed, seeds = jaxsrda.jet(), range(experiment.truths)
    single = jaxsrda.simulate_truth(testbed, seeds)
    file = experiment.out.with_suffix(".npz")
    command = [sys.executable, "-c", DOUBLE, str(file), *map(str, seeds)]
    subprocess.run(command, env=os.environ | {"JAX_ENABLE_X64": "1"}, check=True)
    double = read_npz(file)["omega"]
    file.unlink()
    # MAER of one truth against the other, at whole time units.
    apart = np.abs(single - double).sum((2, 3)) / np.abs(double).sum((2, 3))
    every = testbed.frames_per_cycle
    times = (testbed.frame * np.arange(0, testbed.frames, every)).tolist()
    record = {"testbed": testbed.name, "seeds": list(seeds), "times": times, "difference": apart[:, ::every].tolist()}
    write_json(experiment.out, stamped(record))
    print({time: f"{value:.1e}" for time, value in zip(times, apart[:, ::every].max(0))})


if __name__ == "__main__":
    main(tyro.cli(Experiment))
