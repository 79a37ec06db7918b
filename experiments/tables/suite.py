"""The page's section on the cost suite."""

from __future__ import annotations

from typing import Any

from experiments.tables.origin import made_at
from experiments.tables.records import Records
from experiments.tables.text import bullets, prose, table

NAME = "benchmarks/suite"
"""The record of all subjects; those of single ones have the subject behind it, `benchmarks/suite_solver`."""

TITLES = {
    "solver": "Solver",
    "forecasts": "Forecasts of a cycle",
    "enkf": "Analyses at HR",
    "sampler": "Draws of the diffusion model",
    "training": "Training steps",
    "cycle": "One cycle of each method, scores included",
    "sweep": "Settings × truths in one call",
}
"""Headings of the subjects."""

OWN = ("jaxsrda", "jaxsrda, half")
"""Which of the solvers that were compared are ours."""


def suite(records: Records) -> str:
    """Everything that runs of the suite measured; nothing without a record of one."""
    runs = {name: record for name, record in records.items() if name == NAME or name.startswith(f"{NAME}_")}
    if not runs:
        return ""
    alone = {name.removeprefix(f"{NAME}_") for name in runs}
    counting = next(iter(runs.values()))["counting"]
    parts = [
        "## The suite",
        prose(
            "Times are the least of several runs, without compiling, float32 unless a case says otherwise; memory is "
            f"arguments, outputs and temporaries. {counting} The roof is what one matrix product and one triad from "
            "main memory reach in the same run; arrays that fit into caches may pass it. `python -m benchmarks compare "
            "before.json after.json` says what became slower or heavier."
        ),
    ]
    for name, record in runs.items():
        parts += one_run(name, record, alone if name == NAME else set())
    return "\n\n".join(parts)


def one_run(name: str, record: dict[str, Any], elsewhere: set[str]) -> list[str]:
    """A run's machine, picture and tables, but for subjects that have a record of their own."""
    file, subject = name.partition("/")[2], name.removeprefix(NAME).lstrip("_") or "all"
    command = f"python -m benchmarks {subject} {'--quick ' * record['quick']}--out benchmarks/results/{file}.json"
    roof, machine = record["roof"], record["machine"]
    parts = [
        prose(
            f"**`{command}`**: {record['seconds'] / 60:.0f} minutes on {machine['cpu']}, {machine['cores_used']} of "
            f"{machine['cores']} cores, JAX {machine['jax']}, load {machine['load']:.1f} before and "
            f"{machine['load_after']:.1f} after, {machine['date']}; roof {roof['matrix_flops_per_second'] / 1e9:.0f} "
            f"GFLOP/s and {roof['bytes_per_second'] / 1e9:.1f} GB/s. The record is [`results/{file}.json`]"
            f"(results/{file}.json)."
        ),
        made_at(row for rows in record["subjects"].values() for row in rows),
        f"![Time and memory against what grows](results/{file}.png)",
    ]
    for subject, rows in record["subjects"].items():
        if subject in elsewhere:
            continue
        plain = [row for row in rows if "peer" not in row["size"]]
        parts += [f"### {TITLES[subject]}", table(HEADS, map(cells, plain))]
        if subject == "solver":
            parts += compared(record)
    return parts


HEADS = ["case", "s to compile", "ms", "µs a unit", "unit", "MB", "GFLOP/s", "of the roof"]


def number(value: float | None, scale: float = 1.0) -> str:
    """Three digits without an exponent, or nothing."""
    if value is None:
        return ""
    scaled = value * scale
    return f"{scaled:.0f}" if scaled >= 100 else f"{scaled:.3g}"


def cells(row: dict[str, Any]) -> list[str]:
    """A row of a subject's table."""
    flops, share = row["flops"], row["share_of_roof"]
    return [
        row["name"],
        number(row["compile_seconds"]),
        number(row["least_seconds"], 1e3),
        number(row["seconds_per_unit"], 1e6),
        row["unit"],
        number(row["memory_bytes"], 1e-6),
        number(None if flops is None else flops / row["least_seconds"], 1e-9),
        "" if share is None else f"{share:.0%}",
    ]


def compared(record: dict[str, Any]) -> list[str]:
    """Other solvers, and the paper's scheme."""
    rows = [row for row in record["subjects"]["solver"] if "peer" in row["size"]]
    lines = []
    for row in rows:
        size = row["size"]
        where = {name: size[name] for name in ("grid", "members")} | {"to": size["peer"]}
        ratios = [
            next((r["ratio"] for r in record["ratios"]["peers"] if r["of"] == own and where.items() <= r.items()), None)
            for own in OWN
        ]
        median = 1e9 * row["median_seconds"] * row["seconds_per_unit"] / row["least_seconds"]
        shown = ["" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        square = f"{size['grid']} × {size['points'] // size['grid']}"
        lines.append(
            [size["peer"], square, size["members"], f"{median:.2f}", number(row["memory_bytes"], 1e-6), *shown]
        )
    heads = [
        "solver",
        "points",
        "members",
        "ns a point and tendency",
        "MB",
        "jaxsrda over it",
        "jaxsrda, half, over it",
    ]
    parts = ["### Other solvers of the vorticity equation"]
    if lines:
        parts += [
            prose(
                "In turns in one process, float32, medians. exponax and pyqg-jax solve it on a doubly periodic square; "
                "the channel has as many points and modes, or (half) the points of the half square that a flow odd "
                "about a line needs. A step of exponax and ours (ETDRK4) is four tendencies, one of pyqg-jax (AB3) is "
                "one; SciPy does the five FFTs of a tendency on one thread."
            ),
            table(heads, lines),
            bullets(
                *(
                    f"Of a flow that is odd about a line, {name}'s vorticity and ours differ by {off:.1e} (relative, "
                    "float32) after 0.2 time units: all solve the same equation."
                    for name, off in record["agreement"].items()
                )
            ),
        ]
    if record["left_out"]:
        parts.append(bullets(*record["left_out"]))
    scheme = [
        [steps, f"{record['errors'][steps]:.1e}", f"{ratio:.0f}"] for steps, ratio in record["ratios"]["paper"].items()
    ]
    timed = next(row["size"] for row in record["subjects"]["solver"] if row["size"].get("scheme") == "rk2")
    parts += [
        "### The paper's scheme",
        prose(
            f"HR runs of {timed['frames']} frames in turns: by ETDRK4, whose relative L1 error at t = 5 (float64) is "
            f"below 1e-5, and by the paper's scheme, RK2 of {timed['steps']} steps a frame."
        ),
        table(["ETDRK4 steps a frame", "error at t = 5", "time of the paper's scheme over that"], scheme),
    ]
    return parts
