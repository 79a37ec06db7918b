"""The page's section on the accelerator queue, from its log."""

from __future__ import annotations

from typing import Any

from experiments.tables.records import Records
from experiments.tables.text import prose, table

COMMAND = "python -m benchmarks.accelerator OUT 9.2 --runs 1216"

NAMES = {
    "small": "`small`, both priors",
    "one-pass": "`small`, one-pass denoiser, both priors",
    "paper-narrow": "`paper-narrow`, the paper's configuration",
    "base": "`base`, one carried forecast",
}
"""Jobs."""


def accelerator(records: Records) -> str:
    """What the queue did, how fast, and what came of it."""
    log = records["logs/accelerator"]
    lines = [job_row(log, name) for name in NAMES]
    filters = [line for line in log if line["kind"] == "scores" and "," not in line["of"]]
    truths = found(log, "truths", "runs_per_second")
    rows = [*(score_row(line) for line in log if line["kind"] == "scores" and "," in line["of"])]
    rows += [score_row(line) for line in filters]
    return "\n\n".join(
        [
            "## On an accelerator",
            prose(
                f"The whole queue on one {found(log, 'device', 'name')['name']}, {log[-1]['at'] / 60:.1f} minutes from "
                f"start to end with programs compiled before: `{COMMAND}`. Fine truths took "
                f"{truths['seconds']:.0f} s for {truths['runs']} runs side by side. Windows a second are those of the "
                "time spent in training steps; the share of data is that of truths cycled by the prior with the "
                "model's mean in the loop. The jobs' shares of the time have been changed since."
            ),
            table(["job", "windows trained on", "windows a second", "minutes", "share of data"], lines),
            prose(
                "Scores of the trained weights in their cycle, and of two filters, on the ten test truths of the "
                "tables, all on the same device; spread–skill here is the mean over frames of the ratio in each."
            ),
            table(["weights, prior", "MAER", "CRPS", "spread–skill", "s for ten truths"], rows),
            prose(
                "The error of the model's analyses in its own cycling on training truths (lattice 8, noise 0.1 to "
                "0.5), against the windows that it had seen:"
            ),
            curve(log),
            prose(
                "Of the weights `base` alone came back (`experiments/weights/carried-base.npz`, in eight bits); those "
                "of the other jobs were lost to a limit on returned files, after their scores had been logged. The "
                "queue packs its results since then. The paper's configuration saw fewer windows than the 200,000 "
                "that were meant, and its cycle does not hold: one bare forecast that restarts from a sample drifts "
                "off, which more training may mend."
            ),
        ]
    )


def found(log: list[dict[str, Any]], kind: str, key: str = "", **where: Any) -> dict[str, Any]:
    """The last line of a kind that has a key and these values."""
    return next(
        line
        for line in reversed(log)
        if line["kind"] == kind and (not key or key in line) and all(line.get(k) == v for k, v in where.items())
    )


def job_row(log: list[dict[str, Any]], name: str) -> list[str]:
    """A job's windows, rate and time."""
    line = found(log, "done", job=name)
    seconds = line["seconds"]
    return [
        NAMES[name],
        f"{line['samples']:,}",
        f"{line['windows_per_second']:,.0f}",
        f"{seconds['all'] / 60:.1f}",
        f"{seconds['data'] / seconds['all']:.0%}",
    ]


def score_row(line: dict[str, Any]) -> list[str]:
    """Scores of one cycle."""
    scores = [f"{line[name]:.3f}" for name in ("maer", "crps", "spread_skill")]
    return [f"`{line['of'].replace(', ', '`, `')}`", *scores, f"{line['run']:.1f}"]


def curve(log: list[dict[str, Any]]) -> str:
    """Errors against windows, by job and prior."""
    rows, seen = [], dict.fromkeys(NAMES, 0)
    for line in log:
        if line["kind"] == "curve":
            seen[line["job"]] = line["samples"]
        if line["kind"] == "refill" and "maer" in line:
            job = line["job"]
            cells = [f"{line[name]:.4f}" for name in ("guess_maer", "maer")]
            rows.append([f"`{job}`, `{line['maker']}`", f"{seen[job]:,}", *cells])
    rows.sort(key=lambda row: row[0])
    return table(["weights, prior", "windows", "guess, MAER", "analysis, MAER"], rows)
