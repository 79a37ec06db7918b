"""What the experiments that train networks share: train once and keep the weights, then score in the real cycle."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

import jaxsrda
from jaxsrda.app import plotting, report
from jaxsrda.core.cache import cache_dir, content_hash
from jaxsrda.core.files import write_json
from jaxsrda.core.provenance import same_code, stamped, this_run
from jaxsrda.core.records import key_of

SMALL_SCALES = 20
"""Wavenumbers from here on count as small scales."""

VALIDATION = 1000
"""First seed of the validation truths, on which choices are made; test truths, from 0 on, are for tables alone."""

RENAMED = {"visitor": "policy", "policy_weights": "policy", "noise": "sigmas"}
"""Settings of older records under today's names."""

NO_SETTINGS = ("out", "reuse_any_code", "most")
"""Options that change nothing in a row: where the record lies, what is kept of it, how many rows there are."""


def trained(family: str, name: str, job: jaxsrda.Job, console: Console, any_code: bool = False) -> Path:
    """The weights of a job, trained unless the same source (or any, with `any_code`) has put them in the cache.

    A killed training goes on.
    """
    folder = cache_dir() / family
    folder.mkdir(parents=True, exist_ok=True)
    # Weights in the job by what they are, not by where they lie.
    used = {
        field: source if source in ("", "own", "none") else jaxsrda.load_model(source)[1]["sha256"]
        for field, source in (("init", job.init), ("policy", job.policy))
    }
    stem = f"{name}-{content_hash(key_of(dataclasses.replace(job, **used)))}"
    weights = folder / f"{stem}-{this_run()['source']}.npz"
    if weights.exists():
        return weights
    if any_code and (others := sorted(folder.glob(f"{stem}*.npz"), key=lambda path: path.stat().st_mtime)):
        return others[-1]
    said = [0]

    def announce(line: dict[str, Any]) -> None:
        if line["kind"] in ("curve", "autoencoder") and abs(line["samples"] - said[0]) > job.training.samples // 10:
            said[0] = line["samples"]
            losses = ", ".join(f"{k} {line[k]:.3f}" for k in ("regression", "diffusion", "relative_l1") if k in line)
            console.print(f"{name}: {line['samples']} samples, {losses}")

    jaxsrda.train(job, weights, report=announce)
    return weights


def parameters(model: jaxsrda.Model) -> int:
    """How many numbers were trained, those of an autoencoder too."""
    trees = [model.params] if model.space is None else [model.params, model.space]
    return sum(leaf.size for tree in trees for leaf in jax.tree.leaves(tree))


def truth_seeds(experiment: Any) -> range:
    """The seeds of an experiment's truths: test truths for tables, validation truths for choices."""
    first = 0 if experiment.test_truths else VALIDATION
    return range(first, first + experiment.truths)


def scored(
    weights: str | Path, config: jaxsrda.DiffSRDAConfig, truth: np.ndarray, seeds: range, at_once: int = 5
) -> dict:
    """Scores of weights in their own cycle over truths of these seeds, `at_once` of them side by side.

    A model without samples, a regression, is run with sampler mean.
    """
    model, header = jaxsrda.load_model(weights)
    if model.config.target == "regression":
        config = dataclasses.replace(config, sampler="mean")
    parts = []
    for first in range(0, len(truth), at_once):
        side = slice(first, first + at_once)
        parts.append(jaxsrda.assimilate("diffsrda", truth[side], config=config, model=model, truth_seeds=seeds[side]))
    per_truth = {name: np.concatenate([part.per_truth[name] for part in parts]) for name in parts[0].scores}
    statistics = report.mean_statistics([s for part in parts for s in part.statistics])
    row = {
        "parameters": parameters(model),
        "weights": header["sha256"],
        "weights_name": Path(weights).stem,  # those that an experiment trained end with the hash of their source
        "samples": header["samples"],
        "training_seconds": header["seconds"].get("all", header["seconds"]["training"]),
        "held_out": header["validation"][next(iter(header["validation"]["chosen"]))],
        "scores": report.scores_record({k: jaxsrda.bootstrap_interval(v) for k, v in per_truth.items()}),
        "per_truth": {name: per_truth[name].tolist() for name in ("maer", "crps", "spread_skill")},
        "series": {k: np.concatenate([p.series[k] for p in parts]).mean(0) for k in parts[0].series},
        "statistics": {name: statistics[name] for name in ("shell", "energy_truth", "energy_members")},
    }
    return stamped(row)


def small_scales(statistics: dict) -> float:
    """Energy of the members over the truth's, in wavenumbers from SMALL_SCALES on."""
    tail = np.asarray(statistics["shell"]) >= SMALL_SCALES
    members, truth = (np.asarray(statistics[f"energy_{name}"])[tail] for name in ("members", "truth"))
    return float(np.sum(members) / np.sum(truth))


def interval(row: dict, score: str) -> str:
    """A score's mean and interval as text."""
    return "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**row["scores"][score])


def over(row: dict, base: dict, score: str = "maer") -> str:
    """A score over that of another row, paired over the truths, as text."""
    ratio = np.array(row["per_truth"][score]) / np.array(base["per_truth"][score])
    return "{:.3f} [{:.3f}, {:.3f}]".format(*map(float, jaxsrda.bootstrap_interval(ratio)))


def kept(experiment: Any, path: Path | None = None, older: dict | None = None, **more: Any) -> dict[str, dict]:
    """The rows of a record that need not be made again: those of the same settings and the same source.

    path: the record, by default `out`; older: what settings were before they had a name, where that is not today's
    default; more: settings that differ from the experiment's fields.  With the experiment's `reuse_any_code` the
    source does not count, and a row keeps the provenance that it has.
    """
    this_run()  # the code as it is when the work begins
    path = path or experiment.out
    if not path.exists():
        return {}
    record = json.loads(path.read_text())
    # Options that came later have their defaults in older records.
    found = {RENAMED.get(name, name): value for name, value in record.get("settings", {}).items()}
    found = plain(settings_of(type(experiment)()) | (older or {})) | found
    if found != plain(settings_of(experiment) | more):
        return {}
    return {name: row for name, row in record["rows"].items() if same_code(row, experiment.reuse_any_code)}


def settings_of(experiment: Any) -> dict[str, Any]:
    """All fields that a row depends on."""
    return {name: value for name, value in dataclasses.asdict(experiment).items() if name not in NO_SETTINGS}


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back."""
    return json.loads(json.dumps(settings))


def write(experiment: Any, rows: dict[str, dict], scores: tuple[str, ...], **more: Any) -> None:
    """The record of an experiment at its `out`, and beside it the picture of scores against time."""
    write_json(experiment.out, stamped({"settings": settings_of(experiment), "rows": rows} | more))
    series = {name: {key: np.asarray(row["series"][key]) for key in scores} for name, row in rows.items()}
    frames = max(len(line) for lines in series.values() for line in lines.values())
    testbed = jaxsrda.jet()
    times = testbed.frame * (testbed.frames_per_cycle + np.arange(frames))
    plotting.plot_series(experiment.out.with_suffix(".png"), times, series, scores)
