"""A run of the suite for the eye: a table in the terminal, and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

COLUMNS = ("case", "compile, s", "least, ms", "median, ms", "a unit, µs", "unit", "memory, MB", "GFLOP/s", "of roof")

ACROSS = 4
"""Columns of the picture."""

console = Console() if Console().is_terminal else Console(width=160)
"""Where tables go; wide where nobody looks on."""


def number(value: float | None, scale: float = 1.0) -> str:
    """Three digits, or nothing."""
    return "" if value is None else f"{value * scale:.3g}"


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table."""
    flops = None if row["flops"] is None else row["flops"] / row["least_seconds"]
    share = row["share_of_roof"]
    return [
        row["name"],
        number(row["compile_seconds"]),
        number(row["least_seconds"], 1e3),
        number(row["median_seconds"], 1e3),
        number(row["seconds_per_unit"], 1e6),
        row["unit"],
        number(row["memory_bytes"], 1e-6),
        number(flops, 1e-9),
        "" if share is None else f"{share:.0%}",
    ]


def table(record: dict[str, Any]) -> None:
    """Print the tables of all subjects, what was left out, and the ratios."""
    roof = record["roof"]
    for name, rows in record["subjects"].items():
        shown = Table(*COLUMNS, title=name, title_justify="left")
        for row in rows:
            shown.add_row(*cells(row))
        console.print(shown)
    rates = f"{roof['matrix_flops_per_second'] / 1e9:.0f} GFLOP/s, {roof['bytes_per_second'] / 1e9:.1f} GB/s"
    console.print(f"roof: {rates} (one matrix product, one triad).", record["counting"], highlight=False)
    for line in record["left_out"]:
        console.print(line, markup=False)
    for name, off in record.get("agreement", {}).items():
        console.print(f"{name}'s solution of one flow and ours differ by {off:.1e}")
    for row in record.get("ratios", {}).get("peers", ()):
        where = f"{row['grid']} × {row['grid']} points, members {row['members']}"
        console.print(f"{row['of']}, time a point and tendency over {row['to']}'s, {where}: {row['ratio']:.2f}")
    for steps, ratio in record.get("ratios", {}).get("paper", {}).items():
        error = record["errors"][steps]
        console.print(f"the paper's scheme over ETDRK4 of {steps} steps a frame (error {error:.1e}): {ratio:.0f}")


def picture(record: dict[str, Any], path: Path) -> None:
    """Time of a unit and memory against what grows, a column for each axis of growth."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    lines: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    for name, rows in record["subjects"].items():
        for row in (row for row in rows if row["growth"]):
            axis = row["growth"]
            kept = [str(value) for key, value in row["size"].items() if key not in (axis, "points")]
            lines.setdefault((name, axis), {}).setdefault(", ".join(kept), []).append(row)
    if not lines:
        return
    across = min(len(lines), ACROSS)
    down = 2 * -(-len(lines) // across)
    figure, axes = plt.subplots(down, across, figsize=(3.4 * across, 2.5 * down), squeeze=False, layout="constrained")
    for each in axes.flat:
        each.set_axis_off()
    for place, ((name, axis), some) in enumerate(lines.items()):
        pair = [axes[2 * (place // across) + row, place % across] for row in (0, 1)]
        unit = next(iter(some.values()))[0]["unit"]
        for label, rows in some.items():
            x = [row["size"][axis] for row in rows]
            for on, key, scale in zip(pair, ("seconds_per_unit", "memory_bytes"), (1.0, 1e-6)):
                on.loglog(x, [row[key] * scale for row in rows], "o-", label=label)
        for on, what in zip(pair, (f"{name}: seconds a {unit}", f"{name}: memory, MB")):
            on.set_axis_on()
            on.set_title(what, fontsize=8)
            on.tick_params(which="both", labelsize=7)
        pair[1].set_xlabel(axis, fontsize=8)
        if len(some) > 1:
            pair[0].legend(fontsize=7)
    figure.savefig(path, dpi=130)
    plt.close(figure)
