"""The page's section on the benchmark suite."""

from __future__ import annotations

from typing import Any

from experiments.tables.origin import made_at
from experiments.tables.records import Records
from experiments.tables.text import bullets, prose, table

NAME = "benchmarks/suite"

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
    """Everything that a run of the suite measured; nothing without a record of one."""
    record = records.get(NAME)
    if record is None:
        return ""
    command = f"python -m benchmarks all {'--quick ' * record['quick']}--out benchmarks/results/suite.json"
    roof, machine = record["roof"], record["machine"]
    parts = [
        "## The suite",
        prose(
            f"All of it is one run of `{command}`, {record['seconds'] / 60:.0f} minutes, the record is "
            "[`results/suite.json`](results/suite.json). `--quick` takes small sizes; one subject alone has its name "
            "in the place of `all`; `python -m benchmarks compare before.json after.json` says what became slower or "
            f"heavier. The machine: {machine['cpu']}, {machine['cores_used']} of {machine['cores']} cores, JAX "
            f"{machine['jax']}, load {machine['load']:.1f} before and {machine['load_after']:.1f} after, "
            f"{machine['date']}."
        ),
        prose(
            f"Times are the least of several runs, without compiling. {record['counting']} The roof is "
            f"{roof['matrix_flops_per_second'] / 1e9:.0f} GFLOP/s of one matrix product and "
            f"{roof['bytes_per_second'] / 1e9:.1f} GB/s of one triad from main memory, both measured in the run; "
            "arrays that fit into caches may pass it."
        ),
        made_at(row for rows in record["subjects"].values() for row in rows),
        "![Time and memory against what grows](results/suite.png)",
    ]
    if "ratios" in record:
        parts += compared(record)
    for name, rows in record["subjects"].items():
        rows = [row for row in rows if "peer" not in row["size"]]
        parts += [f"### {TITLES[name]}", table(HEADS, map(cells, rows))]
    return "\n\n".join(parts)


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
