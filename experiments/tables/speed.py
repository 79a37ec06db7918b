"""The page on benchmarks."""

from __future__ import annotations

from typing import Any

from experiments.tables.accelerator import accelerator
from experiments.tables.origin import noted
from experiments.tables.records import Records, benchmark
from experiments.tables.suite import suite
from experiments.tables.text import bullets, page, prose, table
from experiments.tables.tuning import tuning

DIRECT, THROUGH = ("lifted", "diffpir", "blend", "oi"), ("mmps", "pigdm", "sda", "dps")
"""Methods of guidance that use the estimate alone, and those that differentiate the network."""

NAMES = "`jaxsrda benchmark` scores methods; `python -m benchmarks`, in the checkout, times code: the cost suite."
"""What is which, in the first sentence of the page."""

SCHEMES = {"etdrk4": "ETDRK4", "rk2": "RK2"}
"""Names of the schemes."""

OWN_STEPS, PAPER_STEPS, ERROR_TIME = 25, 2000, 5
"""Keys of the record of the solver: steps a frame of both schemes, and the time at which errors are taken."""

COVARIANCE_EVERY = 6
"""Wavenumbers between two columns of the table of the residual spectrum."""


def cycle_command(*methods: str, options: str = "", out: str = "") -> str:
    """The command of a timing of cycles."""
    if not methods:
        return benchmark("cycle")
    rest = f"--cycles 4 --out benchmarks/results/{out}.json"
    return benchmark("cycle", f"--methods {' '.join(methods)}", options, rest)


CYCLES = {
    "cycle": cycle_command(),
    "cycle_diffsrda": cycle_command("enkf-hr", "enkf-dual", "diffsrda", out="cycle_diffsrda"),
    "cycle_lagrange": cycle_command("enkf-hr", "enkf-lagrange", "letkf-lagrange", out="cycle_lagrange"),
    "cycle_carried": cycle_command(
        "enkf-hr",
        "diffsrda",
        options="--prior carried --sampler gaussian --weights experiments/weights/carried-base.npz",
        out="cycle_carried",
    ),
    "cycle_cnn": cycle_command("cnn", "diffsrda", out="cycle_cnn"),
    "cycle_student": cycle_command(
        "diffsrda", options="--weights diffsrda-small-student --steps 1", out="cycle_student"
    ),
    "cycle_latent": cycle_command("latent-diffsrda", "diffsrda", out="cycle_latent"),
}
"""Command by record."""

OUT = {
    name: benchmark(name, f"--out benchmarks/results/{name}.json") for name in ("solver", "transforms", "convolution")
}
"""Commands that take the name of their record."""


def machine(record: dict[str, Any]) -> str:
    """The machine of a record."""
    of = record["machine"]
    return f"{of['cores']}-core {of['cpu']}, JAX {of['jax']}, load {of['load']:.1f}, {of['date']}"


def accuracy(record: dict[str, Any], scheme: str, steps: int, dtype: str) -> float:
    """Relative L1 error of a scheme."""
    wanted = {"scheme": scheme, "steps_per_frame": steps, "dtype": dtype}
    return next(row[f"error_t{ERROR_TIME}"] for row in record["work_precision"] if wanted.items() <= row.items())


def sentence(record: str) -> str:
    """Where a record lies."""
    return f"The record is [`results/{record}.json`](results/{record}.json)."


def speed(records: Records) -> str:
    """The table of the main costs."""
    solver, guidance = records["benchmarks/solver"], records["benchmarks/guidance_diffsrda-small"]
    full, slope, analysis = solver["full_run"], solver["tendency"], solver["enkf"]
    training = {row["bfloat16"]: row["samples_per_s"] for row in records["benchmarks/convolution"]["training"]}
    memory = (analysis["temporary_bytes"] + analysis["argument_bytes"]) / 1e6
    run, guide = OUT["solver"], benchmark("guidance")
    rows = [
        [
            f"HR run of the length of a truth, ETDRK4, {OWN_STEPS} steps a frame",
            f"{full['seconds'][f'etdrk4_{OWN_STEPS}']:.2f} s",
            run,
        ],
        [
            f"the same by the paper's scheme in this code, RK2, {PAPER_STEPS} steps a frame",
            f"{full['seconds'][f'rk2_{PAPER_STEPS}']:.1f} s, {full[f'ratio_{OWN_STEPS}']:.0f} times as long",
            run,
        ],
        [
            f"relative L1 error of both at t = {ERROR_TIME}, float64",
            f"{accuracy(solver, 'etdrk4', OWN_STEPS, 'float64'):.1e} and "
            f"{accuracy(solver, 'rk2', PAPER_STEPS, 'float64'):.1e}",
            run,
        ],
        [
            f"tendency in an ensemble of {slope['members']} HR members",
            f"{slope['tendency_us']:.0f} µs a member, {slope['ratio']:.2f} of SciPy's five FFTs of the doubled channel",
            run,
        ],
        [
            f"EnKF analysis, {analysis['members']} members, {analysis['observations']} sensors, HR",
            f"{analysis['milliseconds']:.1f} ms, {memory:.0f} MB; no state × state matrix",
            run,
        ],
        *(
            [
                f"guidance by `{guidance['settings']['layout']}`: time of a draw over that without guidance, {kind}",
                ", ".join(f"`{name}` {guidance['rows'][name]['ratio']:.1f}" for name in names),
                guide,
            ]
            for kind, names in (("on the estimate", DIRECT), ("through the network", THROUGH))
        ),
        [
            "training step of the released network, windows a second",
            f"{training[False]:.0f} in float32, {training[True]:.0f} in bfloat16",
            OUT["convolution"],
        ],
    ]
    machines = (record["machine"] for name, record in records.items() if name.startswith("benchmarks/"))
    devices = sorted({device for of in machines for device in of["devices"]})
    small = accuracy(solver, "etdrk4", OWN_STEPS, "float32"), accuracy(solver, "rk2", PAPER_STEPS, "float32")
    return "\n\n".join(
        [
            "## Speed",
            prose(
                "CPU, float32 unless the row says otherwise, without compile time. The records are "
                f"`solver` ({machine(solver)}), `guidance_diffsrda-small` ({machine(guidance)}) and `convolution` "
                f"({machine(records['benchmarks/convolution'])})."
            ),
            noted(
                table(["what", "measured", "command"], [[what, value, f"`{run}`"] for what, value, run in rows]),
                [full, slope, analysis, *guidance["rows"].values(), *records["benchmarks/convolution"]["training"]],
            ),
            prose(
                f"In float32, rounding grows chaotically to a relative error of {small[0]:.0e} at t = "
                f"{ERROR_TIME}, and to "
                f"{small[1]:.1e} with the many small steps of the paper's scheme. All records on this page are from "
                f"{' and '.join(devices)}."
            ),
        ]
    )


def cycles(records: Records) -> str:
    """The tables of whole cycles."""
    lines = []
    for name, run in CYCLES.items():
        for method, row in records[f"benchmarks/{name}"]["methods"].items():
            label = f"`{method}`" + (", one-step student" if name == "cycle_student" else "")
            seconds = f"{row['cycle_seconds']:.2f}"
            cells = [row["members"], seconds, f"{row['temporary_mb']:.0f}", f"{row['compile_seconds']:.1f}"]
            lines.append([label, *cells, f"[`{name}`](results/{name}.json)", f"`{run}`"])
    seconds = {name: records[f"benchmarks/{name}"]["methods"] for name in CYCLES}
    over = records["benchmarks/cycle_diffsrda"]["enkf_hr_over"]
    latent = seconds["cycle_latent"]
    heads = ["method", "members", "seconds a cycle", "MB", "s to compile", "record", "command"]
    machines = "; ".join(f"`{name}` {machine(records[f'benchmarks/{name}'])}" for name in CYCLES)
    return "\n\n".join(
        [
            "## One cycle, scores included",
            prose(
                f"Only rows of one record compare, since the load differs between records: {machines}. Members of "
                "`diffsrda` and `cnn` are also those of their prior."
            ),
            noted(table(heads, lines), [row for methods in seconds.values() for row in methods.values()]),
            bullets(
                f"`enkf-hr` takes {over['diffsrda']:.1f} times as long as `diffsrda` and {over['enkf-dual']:.0f} times "
                "as long as `enkf-dual` in the same process.",
                f"`latent-diffsrda` takes "
                f"{latent['latent-diffsrda']['cycle_seconds'] / latent['diffsrda']['cycle_seconds']:.1f} times as long "
                "as `diffsrda`.",
            ),
        ]
    )


def work_precision(records: Records) -> str:
    """Errors and times of the time steppers."""
    rows = records["benchmarks/solver"]["work_precision"]
    lines = [
        [
            *(SCHEMES[row["scheme"]], row["steps_per_frame"], row["dtype"]),
            f"{row[f'error_t{ERROR_TIME}']:.1e}",
            f"{row['run_seconds']:.2f}",
        ]
        for row in rows
    ]
    return "\n\n".join(
        [
            "## Work and precision of the time steppers",
            prose(f"Runs to t = {ERROR_TIME} at HR. The command is `{OUT['solver']}`. {sentence('solver')}"),
            noted(table(["scheme", "steps a frame", "type", "relative L1 error", "seconds"], lines), rows),
        ]
    )


def convolution(records: Records) -> str:
    """Own matrix product against XLA's convolution."""
    record = records["benchmarks/convolution"]
    rates: dict[tuple, dict[str, float]] = {}
    for row in record["convolutions"]:
        cell = rates.setdefault((tuple(row["size"]), row["dtype"]), {})
        cell |= {f"{row['by']} {kind}": row[f"{kind}_gflops"] for kind in ("forward", "with_gradients")}
    columns = ("xla forward", "own forward", "xla with_gradients", "own with_gradients")
    lines = [
        [" × ".join(map(str, size)), dtype, *(f"{cell[column]:.0f}" for column in columns)]
        for (size, dtype), cell in rates.items()
    ]
    heads = ["batch × nodes × channels", "type", "XLA", "own", "XLA, with gradients", "own, with gradients"]
    half = [cell for (_, dtype), cell in rates.items() if dtype == "bfloat16"]
    span = {
        by: f"{min(cell[f'{by} with_gradients'] for cell in half):.0f} to "
        f"{max(cell[f'{by} with_gradients'] for cell in half):.0f}"
        for by in ("own", "xla")
    }
    return "\n\n".join(
        [
            "## Convolutions",
            prose(
                f"GFLOP/s of XLA's convolution and of one matrix product (own), {machine(record)}. The command is "
                f"`{OUT['convolution']}`. {sentence('convolution')}"
            ),
            noted(table(heads, lines), record["convolutions"]),
            prose(
                f"In bfloat16 with gradients the matrix product reaches {span['own']} GFLOP/s, XLA's convolution "
                f"{span['xla']}."
            ),
        ]
    )


def transforms(records: Records) -> str:
    """Matrix products against FFTs."""
    record = records["benchmarks/transforms"]
    kinds = ("matrices", "doubled", "half_length")
    lines = [
        [
            f"`{row['level']}`",
            row["batch"],
            row["basis"],
            *(microseconds(row["microseconds"][kind]) for kind in kinds),
            *(microseconds(row["microseconds_least"][kind]) for kind in kinds),
        ]
        for row in record["transforms"]
    ]
    heads = ["level", "batch", "basis"]
    columns = [f"{name}, {kind}" for kind in ("median", "least") for name in ("matrices", "doubled", "half-length")]
    return "\n\n".join(
        [
            "## Transforms",
            prose(
                "Microseconds of one inverse and one forward transform of a field: products with the truncated basis "
                "matrices, FFTs of the doubled channel, and half-length FFTs. The machine was busy "
                f"({machine(record)}). The command is `{OUT['transforms']}`. {sentence('transforms')}"
            ),
            noted(table([*heads, *columns], lines), record["transforms"]),
            prose(
                "The matrices win at the levels `lr`, `hr` and `fine`; the FFTs win at `uhr`, by a factor of up to "
                f"{uhr_factor(record):.1f} in the medians."
            ),
        ]
    )


def microseconds(value: float) -> str:
    """A time in three digits or more, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def uhr_factor(record: dict[str, Any]) -> float:
    """Largest time of the matrices over the fastest variant at level uhr."""
    rows = [row["microseconds"] for row in record["transforms"] if row["level"] == "uhr"]
    return max(row["matrices"] / min(row.values()) for row in rows)


def residual_covariance(records: Records) -> str:
    """Correlations of what a model samples."""
    record = records["benchmarks/residual_covariance"]
    settings, count = record["settings"], len(record["variance"])
    frames = [f"frame {i}" for i in range(count)]
    lines = [
        [name, *(f"{value:.2f}" for value in row), f"{variance:.2f}"]
        for name, row, variance in zip(frames, record["between"], record["variance"])
    ]
    picked = range(1, len(record["spectrum"]), COVARIANCE_EVERY)
    return "\n\n".join(
        [
            "## Covariance of the residual",
            prose(
                f"Guidance by `oi` uses the covariance of what the model samples, (truth − mean) / scale. The table "
                f"has correlations between the frames and the variance of each, from {settings['windows']} validation "
                f"windows of {settings['runs']} runs with prior `{settings['prior']}` and weights "
                f"`{record['weights']}` ({machine(record)}). The command is `{benchmark('residual_covariance')}`. "
                f"{sentence('residual_covariance')}"
            ),
            noted(table(["", *frames, "variance"], lines), [record]),
            prose("The next table has the variance of the orthonormal Fourier × sine coefficients by wavenumber."),
            table(["wavenumber", *picked], [["variance", *(f"{record['spectrum'][k]:.3g}" for k in picked)]]),
        ]
    )


def benchmarks_page(records: Records) -> str:
    """The page."""
    sections = (suite, speed, cycles, accelerator, work_precision, tuning, convolution, transforms, residual_covariance)
    return page(
        "# Benchmarks",
        prose(
            f"{NAMES} The numbers here are times. Run the commands at the root of the repository. Scores of the "
            "methods are in [`experiments/README.md`](../experiments/README.md)."
        ),
        *(section(records) for section in sections),
    )
