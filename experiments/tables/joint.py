"""The section on joint scores, from the rows of the comparison of all methods that have them."""

from __future__ import annotations

from typing import Any

from experiments.tables.records import Records, experiment
from experiments.tables.text import bullets, interval, mean, paired, prose, table

COLUMNS = {
    "energy": "energy",
    "variogram": "variogram",
    "crps_block4": "CRPS 4²",
    "crps_block8": "CRPS 8²",
    "crps_block16": "CRPS 16²",
    "crps_gradient": "CRPS gradient",
    "crps_laplacian": "CRPS Laplacian",
    "crps_change": "CRPS change",
}
"""Joint scores, and their headings."""

CALIBRATED = {f"spread_skill_block{size}": f"spread–skill {size}²" for size in (4, 8, 16)}
"""Spread–skill ratios of block means."""

FIELD = "diffsrda/carried/gaussian"
"""The noise that samples have to beat."""

SAMPLES = ("diffsrda/carried", "diffsrda/carried/white")
"""What is compared with it: the same mean and scale map."""


def joint(records: Records) -> str:
    """Joint scores of the methods that have them."""
    rows = {name: row for name, row in records["experiments/reconstruction"].items() if "energy" in row["scores"]}
    return "\n\n".join(
        [
            "## Joint scores",
            prose(
                "Scores of single points cannot tell a sample from noise of the right size at each point. These are "
                "of whole fields: the energy score, the variogram score of order 0.5, and the CRPS of means over "
                "blocks, of the difference of neighbours along x, of ∇²ω and of the change since the analysis time. "
                "All are fair, and the smaller the better. The command is "
                f"`{experiment('reconstruction', '--methods', *rows, '--joint')}`. "
                f"The rows `{FIELD}` and `diffsrda/carried/white` have the mean and the scale map of "
                "`diffsrda/carried`, and noise in the place of its samples: a Gaussian field of the residuals' "
                "spectrum, and white noise."
            ),
            table(["method", *COLUMNS.values()], [[f"`{name}`", *values(row, COLUMNS)] for name, row in ordered(rows)]),
            prose("Spread–skill of the means over blocks, 1 if calibrated:"),
            table(
                ["method", *CALIBRATED.values()],
                [[f"`{name}`", *values(row, CALIBRATED, 2)] for name, row in ordered(rows)],
            ),
            bullets(*(against(rows, name) for name in SAMPLES if name in rows and FIELD in rows)),
        ]
    )


def ordered(rows: dict[str, Any]) -> list[tuple[str, Any]]:
    """Rows, the lowest energy score first."""
    return sorted(rows.items(), key=lambda item: mean(item[1], "energy"))


def values(row: dict[str, Any], names: dict[str, str], digits: int = 4) -> list[str]:
    """Means of scores."""
    return [f"{mean(row, name):.{digits}f}" for name in names]


def against(rows: dict[str, Any], name: str) -> str:
    """Paired ratios of a row to the Gaussian field."""
    cells = [f"{COLUMNS[score]} {interval(paired(rows[name], rows[FIELD], score))}" for score in COLUMNS]
    return f"`{name}` over `{FIELD}`, paired ratios: {', '.join(cells)}."
