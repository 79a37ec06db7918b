"""Score analyses that are in a file, the package's own or anyone's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from jaxsrda.app.datasets import read_fields, variable_names
from jaxsrda.experiment.evaluate import evaluate
from jaxsrda.experiment.result import Result
from jaxsrda.experiment.truth import prepare_truth
from jaxsrda.flow.testbed import Testbed, jet


def evaluate_file(path: Path, truth_path: Path | None = None, testbed: Testbed | None = None) -> Result:
    """Scores of the analyses in `path` from the second time on, against a truth (by default the file's omega_truth).

    With members (`omega`, a member axis before time) every score is computed; from omega_mean and
    omega_std those that need no members.  Raises ValueError for missing variables or frames that do not match.
    """
    testbed = jet() if testbed is None else testbed
    names = variable_names(path)
    truth = read_fields(path, "omega_truth") if truth_path is None else read_fields(truth_path)
    truth = prepare_truth(truth, testbed, str(truth_path or path))
    members = background = None
    if "omega_mean" in names:
        mean, std = (_with_truths(read_fields(path, name), 4) for name in ("omega_mean", "omega_std"))
    if "omega" in names or "omega_mean" not in names:
        members = _with_truths(read_fields(path, "omega", (4, 5)), 5)
        mean, std = members.mean(1), members.std(1, ddof=1) if members.shape[1] > 1 else 0 * members[:, 0]
    if "omega_background" in names:
        background = _with_truths(read_fields(path, "omega_background"), 4)
    try:
        result = evaluate(testbed, truth, mean, std, members, background)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    config = {"file": str(path), "truth": str(truth_path or path)}
    return dataclasses.replace(result, method=Path(path).stem, config=config)


def _with_truths(array: np.ndarray, ndim: int) -> np.ndarray:
    return array if array.ndim == ndim else array[None]
