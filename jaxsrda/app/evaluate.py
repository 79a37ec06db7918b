"""Score analyses that are in a file, the package's own or anyone's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from jaxsrda.app.fields import read_fields, variable_names
from jaxsrda.experiment.evaluate import evaluate
from jaxsrda.experiment.result import Result
from jaxsrda.experiment.truth import read_truth
from jaxsrda.flow.testbed import Testbed, jet


def evaluate_file(path: Path, truth_path: Path | None = None, testbed: Testbed | None = None) -> Result:
    """Scores of the analyses in `path` from the second time on, against a truth (by default the file's omega_truth).

    With members (`omega` with a member axis) every score is computed; from omega_mean and omega_std those that need no
    members; from omega_mean, or an `omega` without members, those that need no spread.  Raises ValueError for missing
    variables or analyses that do not match the truth (`evaluate`).
    """
    testbed = jet() if testbed is None else testbed
    names = variable_names(path)
    truth = read_fields(path, "omega_truth") if truth_path is None else read_fields(truth_path)
    truth = read_truth(truth, testbed)
    wanted = ["omega_mean", "omega_std", "omega", "omega_background"]
    parts = [name if name in names else "" for name in wanted]
    if not parts[0]:
        parts[2] = "omega"  # needed then
    result = evaluate(testbed, truth, *(read_fields(path, name) if name else None for name in parts))
    config = {"file": str(path), "truth": str(truth_path or path)} | result.config
    return dataclasses.replace(result, method=Path(path).stem, config=config)
