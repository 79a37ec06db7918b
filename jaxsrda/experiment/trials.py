"""Settings that were run: their scores, which is best, the record that a sweep resumes from, and presets."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsrda.core.devices import leading
from jaxsrda.core.files import check_writable, write_json
from jaxsrda.core.provenance import same_code, stamped, this_run
from jaxsrda.core.records import described
from jaxsrda.experiment.experiment import Experiment
from jaxsrda.experiment.options import flat_options, with_options
from jaxsrda.experiment.run import settings as settings_of
from jaxsrda.experiment.space import Setting
from jaxsrda.scoring.aims import aim
from jaxsrda.scoring.joint import JOINT_SCORES
from jaxsrda.scoring.point import SCORES


@dataclasses.dataclass(frozen=True)
class Trial:
    """A setting that was run: its options, its scores by truth (NaN where the run was not finite), whether all were
    finite, and whether it was given up after its first cycles, and so has no scores."""

    parameters: Setting
    per_truth: dict[str, np.ndarray]
    finite: bool = True
    pruned: bool = False

    @property
    def mean(self) -> dict[str, float]:
        """Each score's mean over the truths; NaN if a run was not finite."""
        return {name: float(np.mean(values)) for name, values in self.per_truth.items()}

    def loss(self, by: str) -> float:
        """The mean of a score, the smaller, the better; infinite for a setting that cannot win."""
        value = self.mean.get(by, math.nan)
        return value if self.finite and not self.pruned and math.isfinite(value) else math.inf

    def row(self) -> dict[str, Any]:
        """The trial in terms of JSON."""
        scores = {"scores": self.mean, "per_truth": self.per_truth}
        return {"parameters": self.parameters, **scores, "finite": self.finite, "pruned": self.pruned}

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Trial:
        """The trial that a row of JSON holds."""
        per_truth = {name: np.array(values, float) for name, values in row["per_truth"].items()}
        told = row["parameters"].items()
        setting = {name: tuple(value) if isinstance(value, list) else value for name, value in told}
        return cls(setting, per_truth, row["finite"], row.get("pruned", False))


def check_by(by: str, joint: bool = False) -> str:
    """`by` if it is a score of which less is better, else ValueError."""
    known = [name for name in (*SCORES, *(JOINT_SCORES if joint else ())) if aim(name) == "least"]
    if by not in known:
        raise ValueError(f"by: expected a score of which less is better, {', '.join(known)}; got {by!r}")
    return by


def text_of(setting: Mapping[str, Any]) -> str:
    """Text that equal settings share, whatever their order."""
    return json.dumps(described(dict(setting)), sort_keys=True)


@dataclasses.dataclass(frozen=True)
class SweepResult:
    """What a sweep gives.

    experiment: what was run, with its truths.  by: the score that settings are judged by.  trials: of its settings in
    order, then others that its record holds.  seconds: compile and run, of this call.
    """

    experiment: Experiment
    by: str
    trials: tuple[Trial, ...]
    seconds: dict[str, float]

    def ranked(self) -> list[Trial]:
        """The trials that have scores, the best first."""
        return sorted((t for t in self.trials if math.isfinite(t.loss(self.by))), key=lambda t: t.loss(self.by))

    @property
    def best(self) -> Trial:
        """The best trial; ValueError if none has scores."""
        ranked = self.ranked()
        if not ranked:
            raise ValueError("sweep: no setting stayed finite; try less additive noise, inflation or strength")
        return ranked[0]

    def config(self, trial: Trial | None = None) -> Any:
        """The configuration of a trial, by default of the best."""
        chosen = self.best if trial is None else trial
        return with_options(self.experiment.config, chosen.parameters, str(self.experiment.method))

    def preset(self, trial: Trial | None = None) -> dict[str, Any]:
        """A trial, by default the best, as the content of a preset file, which `method_preset` reads."""
        chosen = self.best if trial is None else trial
        options = described(flat_options(self.config(chosen)))
        told = settings_of(self.experiment)
        return stamped(
            {
                "method": self.experiment.method,
                "options": options,
                "chosen": {"by": self.by, "scores": chosen.mean, "sensors": told["sensors"], "testbed": told["testbed"]}
                | {"truth_seeds": list(self.experiment.truth_seeds or ())},
            }
        )


@dataclasses.dataclass
class Record:
    """The trials of an experiment, and the JSON file that keeps them if there is one."""

    path: Path | None
    header: dict[str, Any]
    trials: dict[str, Trial]

    @classmethod
    def of(cls, path: str | Path | None, given: Experiment, by: str, key: str) -> Record:
        """The record in a file, or an empty one: trials that other code made are left out.

        Raises ValueError for a file that cannot be written or holds anything but trials of this experiment.
        """
        this_run()  # the code as it is now
        told = {"method": given.method, "config": settings_of(given), "truth_seeds": list(given.truth_seeds or ())}
        frames = None if given.truth is None else given.truth.shape[1]
        header = {**told, "frames": frames, "by": by, "key": key}
        if path is None:
            return cls(None, header, {})
        path, kept = Path(path).expanduser(), check_record(path) or {"key": key, "settings": []}
        if kept["key"] != key:
            raise ValueError(
                f"{path}: holds a sweep of another experiment ({kept.get('method')}, other truths, sensors, seed or "
                "configuration); choose another file, or remove it"
            )
        trials = [Trial.of_row(row) for row in kept["settings"]] if same_code(kept) else []
        return cls(path, header, {text_of(trial.parameters): trial for trial in trials})

    def holds(self, setting: Setting) -> bool:
        """Whether a setting was run, and not given up early."""
        trial = self.trials.get(text_of(setting))
        return trial is not None and not trial.pruned

    def add(self, trials: Sequence[Trial]) -> None:
        """Take trials in."""
        self.trials |= {text_of(trial.parameters): trial for trial in trials}

    def ordered(self, settings: Sequence[Setting]) -> tuple[Trial, ...]:
        """The trials of these settings that are there, then the others."""
        names = [text_of(setting) for setting in settings]
        return tuple(self.trials[name] for name in dict.fromkeys([*names, *self.trials]) if name in self.trials)

    def write(self, settings: Sequence[Setting]) -> None:
        """Write the file, atomically; of several processes one does."""
        if self.path is None or not leading():
            return
        trials = self.ordered(settings)
        ranked = sorted(trials, key=lambda trial: trial.loss(self.header["by"]))
        best = ranked[0].row() if ranked and math.isfinite(ranked[0].loss(self.header["by"])) else None
        write_json(self.path, stamped({**self.header, "settings": [trial.row() for trial in trials], "best": best}))


def check_record(path: str | Path | None) -> dict[str, Any] | None:
    """The content of a sweep's record, None if there is none; ValueError for a file that cannot be written or is no
    such record, before any work."""
    if path is None or not check_writable(path, (".json",)).exists():
        return None
    path = Path(path).expanduser()
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] is not None and isinstance(kept["settings"], list):
            return kept
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path}: expected the record of a sweep or nothing there, found something else; move it")
