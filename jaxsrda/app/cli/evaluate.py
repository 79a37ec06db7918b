"""The `evaluate` command."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tyro

from jaxsrda.app.cli.common import check_outputs, console, origin, say


@dataclasses.dataclass
class Evaluate:
    """Score analyses, from a file that `assimilate` wrote or one of your own, against a truth."""

    file: tyro.conf.Positional[Path]
    """Analyses: omega (members, or one field) or omega_mean and, if there is a spread, omega_std."""
    truth: Path | None = None
    """True vorticity frames; by default omega_truth of the file."""
    testbed: str = "jet"
    """The flow: jet, jet-small, or your own as module:name."""
    json: Path | None = None
    """Write scores and series here."""
    plot: Path | None = None
    """Write pictures into this folder."""

    def run(self) -> None:
        """Read, score, write files, print the table."""
        from jaxsrda.app import report
        from jaxsrda.app.evaluate import evaluate_file
        from jaxsrda.core.files import write_json
        from jaxsrda.flow.testbed import testbed

        check_outputs(self.json, self.plot)
        result = evaluate_file(self.file, self.truth, testbed(self.testbed))
        written = []
        if self.json is not None:
            write_json(self.json, report.record(result) | origin("evaluate", self))
            written.append(f"scores: {self.json}")
        if self.plot is not None:
            report.pictures(self.plot, result)
            written.append(f"pictures: {self.plot}")
        say(*result.config["notes"])
        console.print(report.score_table({result.method: result.scores}))
        for line in written:
            console.print(line)
