"""The section on long runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.tables.origin import noted
from experiments.tables.records import Records, experiment
from experiments.tables.text import prose, table


def soak(records: Records) -> str:
    """MAER and spread–skill of methods in blocks of time, beside the truths' largest vorticity."""
    record = records["experiments/soak"]
    settings, rows = record["settings"], record["rows"]
    block, largest = settings["block"], np.max(record["largest"], 0)
    times = [f"{block * i:g}–{block * (i + 1):g}" for i in range(len(largest))]
    lines = [line for name, row in rows.items() for line in scores(name, row)]
    lines.append(["largest vorticity of the truths", *(f"{value:.0f}" for value in largest)])
    return "\n\n".join(
        [
            "## Long runs",
            prose(
                f"{settings['length']:g} time units of {settings['truths']} test truths, with the settings of the "
                f"tables above, while the jet strengthens. {drift(rows, block)} Truths are "
                "runs on the analysis grid with the ν of the fine level, and all levels take "
                "three times their usual steps. `enkf-lagrange/following` takes four substeps a frame and an inflation "
                "that follows the departures (`adaptive` 0.1), chosen on validation truth 1000. The command is "
                f"`{experiment('soak')}`; methods that are missing here have not been run."
            ),
            noted(table(["method, score", *times], lines), list(rows.values())),
            "![MAER, CRPS and spread–skill against time over 300 time units](results/soak.png)",
        ]
    )


def drift(rows: dict[str, Any], block: float) -> str:
    """Where the carried ensemble loses its lead, and how small its spread becomes."""
    carried, coarse = (rows.get(name, {"finite": False}) for name in ("enkf-lagrange", "enkf-sr"))
    if not (carried["finite"] and coarse["finite"]):
        return ""
    behind = np.mean(carried["blocks"]["maer"], 0) > np.mean(coarse["blocks"]["maer"], 0)
    least = np.mean(carried["blocks"]["spread_skill"], 0).min()
    words = f"Neither filter diverges. The spread–skill of `enkf-lagrange` falls to {least:.2f} in the faster flow"
    if behind.any():
        words += f", and from t = {block * np.argmax(behind):g} on it errs more than `enkf-sr`"
    words += "."
    following = rows.get("enkf-lagrange/following", {"finite": False})
    if following["finite"]:
        late = {score: np.mean(following["blocks"][score], 0)[1:] for score in ("maer", "spread_skill")}
        words += (
            f" With four substeps and an adaptive inflation (`enkf-lagrange/following`) the MAER stays below "
            f"{np.ceil(late['maer'].max() * 1000) / 1000:.3f} from t = {block:g} to the end, and the spread–skill "
            f"between {late['spread_skill'].min():.2f} and {late['spread_skill'].max():.2f}."
        )
    return words


def scores(name: str, row: dict[str, Any]) -> list[list[str]]:
    """Two lines of a method."""
    if not row["finite"]:
        return [[f"`{name}`", row["error"]]]
    shown = {"maer": "MAER", "spread_skill": "spread–skill"}
    means = {score: np.mean(row["blocks"][score], 0) for score in shown}
    return [[f"`{name}`, {words}", *(f"{value:.3f}" for value in means[score])] for score, words in shown.items()]
