"""Three hundred time units: whether methods stay finite and how their errors drift while the flow strengthens.

    python experiments/soak.py                # half an hour on 2 cores; resumes

The jet keeps strengthening until about t = 300, twelve times the length of the tables' truths: vorticity and speeds
double.  Levels take three times as many steps a frame as usual here, which the faster flow needs.  Networks meet
vorticity outside what they were trained on.
Expected: no method diverges, and errors relative to the size of the truth grow slowly or not at all.
Obtained: results/soak.json and .png beside this file.  No filter diverges.  The error of enkf-lagrange grows with its
settings of the first 24 units; with four substeps and an inflation that follows the departures (`…/following`, chosen
on validation truth 1000) it does not.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from pathlib import Path

import common
import numpy as np
import tyro
from reconstruction import CARRIED
from rich.console import Console
from rich.table import Table

import jaxsrda
from jaxsrda.app import plotting
from jaxsrda.core.files import write_json
from jaxsrda.core.provenance import same_code, stamped, this_run

METHODS: dict[str, tuple[str, dict]] = {
    "enkf-lagrange": ("enkf-lagrange", {}),
    "enkf-lagrange/following": ("enkf-lagrange", {"substeps": 4, "adaptive": 0.1}),
    "enkf-sr": ("enkf-sr", {}),
    "diffsrda": ("diffsrda", {}),
    "diffsrda/carried/gaussian": ("diffsrda", CARRIED | {"sampler": "gaussian"}),
}
"""Name → method and changes to its configuration."""

SCORES = ("maer", "crps", "spread_skill")

FASTER = 3
"""Steps a frame over the usual ones."""


@dataclasses.dataclass
class Experiment:
    """How long, how many truths, which methods."""

    methods: tuple[str, ...] = tuple(METHODS)
    """Which to run."""
    length: float = 300.0
    """Time units."""
    truths: int = 2
    """How many truths."""
    test_truths: bool = True
    """Test truths, seeds 0, 1, …; else validation truths, seeds 1000, 1001, …"""
    block: float = 25.0
    """Time units that a row of the table averages over."""
    climatology_runs: int = 8
    """Runs of the climatology."""
    out: Path = Path(__file__).parent / "results" / "soak.json"
    """JSON record; the picture lies beside it."""
    reuse_any_code: bool = False
    """Keep rows in the record that other code made too; they keep their own provenance."""


def long_jet(length: float) -> jaxsrda.Testbed:
    """The jet for so many time units, with shorter steps.

    Its truths are runs on the analysis grid with the ν of the fine level, which resolves them (ν k⁴ is 33 at the last
    wavenumber) and is an eighth of the work.
    """
    flow = jaxsrda.jet()

    def shorter(level: jaxsrda.Level) -> jaxsrda.Level:
        return dataclasses.replace(level, steps=FASTER * level.steps)

    return dataclasses.replace(
        flow,
        name="jet-long",
        frames=int(length / flow.frame),
        forecast=shorter(flow.forecast),
        analysis=shorter(flow.analysis),
        truth=dataclasses.replace(shorter(flow.analysis), name="thin", viscosity=flow.truth.viscosity),
        finer=(),
    )


def run(experiment: Experiment, name: str, testbed: jaxsrda.Testbed, truth: np.ndarray) -> dict:
    """The row of a method: means of its scores in blocks of time, (truths, blocks)."""
    method, changes = METHODS[name]
    config = dataclasses.replace(jaxsrda.METHODS[method].config, **changes)
    climatology = jaxsrda.default_climatology(testbed, experiment.climatology_runs)
    began = time.perf_counter()
    options = {"config": config, "testbed": testbed, "climatology": climatology, "keep": "scores"}
    try:
        result = jaxsrda.assimilate(method, truth, truth_seeds=common.truth_seeds(experiment), **options)
    except jaxsrda.DivergedError as error:
        return stamped({"finite": False, "error": str(error)})
    blocks = {score: in_blocks(experiment, testbed, result.series[score]) for score in SCORES}
    return stamped({"finite": True, "blocks": blocks, "seconds": time.perf_counter() - began})


def in_blocks(experiment: Experiment, testbed: jaxsrda.Testbed, series: np.ndarray) -> list[list[float]]:
    """Means (truths, blocks) of scores (truths, frames) that begin at the second assimilation time."""
    times = testbed.frame * (testbed.frames_per_cycle + np.arange(series.shape[1]))
    edges = np.arange(0, experiment.length + 1e-9, experiment.block)
    inside = [(times >= low) & (times < high) for low, high in itertools.pairwise(edges)]
    return [[float(row[some].mean()) for some in inside] for row in series]


def main(experiment: Experiment) -> None:
    this_run()  # the code as it is now
    console = Console(width=140)
    settings = common.plain(common.settings_of(experiment) | {"methods": None})
    record = json.loads(experiment.out.read_text()) if experiment.out.exists() else {}
    rows = record.get("rows", {}) if record.get("settings") == settings else {}
    rows = {name: row for name, row in rows.items() if same_code(row, experiment.reuse_any_code)}
    testbed = long_jet(experiment.length)
    truth = jaxsrda.simulate_truth(testbed, common.truth_seeds(experiment))
    edges = np.arange(0, experiment.length + 1e-9, experiment.block)
    per = int(experiment.block / testbed.frame)
    largest = [[float(np.abs(part).max()) for part in np.split(each, range(per, len(each), per))] for each in truth]
    table = Table("method", *(f"{low:g}–{high:g}" for low, high in itertools.pairwise(edges)), title="MAER by time")
    for name in experiment.methods:
        if name not in rows:
            rows[name] = run(experiment, name, testbed, truth)
            write_json(experiment.out, stamped({"settings": settings, "rows": rows, "largest": largest}))
        row = rows[name]
        cells = [f"{value:.3f}" for value in np.mean(row["blocks"]["maer"], 0)] if row["finite"] else [row["error"]]
        table.add_row(name, *cells)
    table.add_row("largest |ω| of the truths", *(f"{value:.0f}" for value in np.max(largest, 0)))
    console.print(table)
    middles = (edges[:-1] + edges[1:]) / 2
    series = {
        name: {score: np.mean(row["blocks"][score], 0) for score in SCORES}
        for name, row in rows.items()
        if row["finite"]
    }
    plotting.plot_series(experiment.out.with_suffix(".png"), middles, series, SCORES)


if __name__ == "__main__":
    main(tyro.cli(Experiment))
