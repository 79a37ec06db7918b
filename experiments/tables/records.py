"""The committed JSON records: where they lie, and how they are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Records = dict[str, Any]
"""Records by "folder/name", for example "experiments/mixup" or "released/diffsrda-small"."""

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""

RELEASED = "jaxsrda/diffsrda/released"
"""Folder of the released weights, their records and their model cards, below the repository."""

LEADERBOARD = "experiments/leaderboard"
"""Folder of the leaderboard, below the repository: a folder a protocol, a record a row."""

PROTOCOLS = ("jet-v1", "jet-small-v1")
"""Protocols of the leaderboard."""

FOLDERS = {
    "experiments": "experiments/results",
    "benchmarks": "benchmarks/results",
    "released": RELEASED,
    **{f"leaderboard/{protocol}": f"{LEADERBOARD}/{protocol}" for protocol in PROTOCOLS},
}
"""Folders of records by the name that they have in `Records`."""

EXPERIMENT = "python experiments/{}.py"
"""Command of an experiment."""

BENCHMARK = "python -m benchmarks.studies.{}"
"""Command of a benchmark with a record of its own."""

TUNING = "python benchmarks/tune_filters.py"
"""Command of the tuning of filters."""


RENAMED = {
    "visit": "on_policy",
    "visitor": "policy",
    "policy_weights": "policy",
    "others": "extra_layouts",
    "levels": "sigmas",
    "noise": "sigmas",
    "observation_std": "noise_std",
}
"""Keys of older records and today's names of the same; `observation_std` of a filter is `assumed_std`."""


def renewed(value: Any) -> Any:
    """A record, or a part of one, under today's names; what has them already stays as it is."""
    if isinstance(value, list):
        return [renewed(item) for item in value]
    if not isinstance(value, dict):
        return value
    names = RENAMED | ({"observation_std": "assumed_std"} if "localization" in value else {})
    # A key is a setting only where its value is one; rows and series may have such a name too.
    return {
        names.get(name, name) if name in names and setting(name, item) else name: renewed(item)
        for name, item in value.items()
    }


def setting(name: str, value: Any) -> bool:
    """Whether a value can be that of a setting with an old name."""
    if name == "others":
        return isinstance(value, list)
    return isinstance(value, int | float) if name == "observation_std" else isinstance(value, str)


LOGS = {"logs/accelerator": "benchmarks/results/accelerator/log.jsonl"}
"""Logs, read as lists of their lines."""


def load(root: Path = ROOT) -> Records:
    """Every record below a repository."""
    logs = {name: (root / file).read_text(encoding="utf-8") for name, file in LOGS.items() if (root / file).exists()}
    return {
        f"{name}/{path.stem}": json.loads(path.read_text(encoding="utf-8"))
        for name, folder in FOLDERS.items()
        for path in sorted((root / folder).glob("*.json"))
    } | {name: [json.loads(line) for line in text.splitlines()] for name, text in logs.items()}


def experiment(name: str, *options: str) -> str:
    """The command of an experiment with its options."""
    return " ".join([EXPERIMENT.format(name), *filter(None, options)])


def benchmark(name: str, *options: str) -> str:
    """The command of a benchmark with its options."""
    return " ".join([BENCHMARK.format(name), *filter(None, options)])


def training_options(settings: dict[str, Any]) -> str:
    """Options for the amount of training, as the settings of a record give them."""
    runs = settings["runs"]
    runs = " ".join(map(str, runs)) if isinstance(runs, list) else runs
    return f"--runs {runs} --samples {settings['samples']}" + ("" if settings["bf16"] else " --no-bf16")


def truth_level(data: dict[str, Any]) -> str:
    """The level of training runs; an empty name is that of the truths of the testbed."""
    return data["level"] or data["testbed"]["truth"]["name"]


def total_windows(record: dict[str, Any]) -> int:
    """Windows of a training and of all trainings before it."""
    return record["samples"] + (total_windows(record["parent"]) if record["parent"] else 0)
