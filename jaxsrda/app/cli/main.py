"""The command line: simulate, assimilate, evaluate, info.

Exit codes: 0 done, 2 bad input or options (one line, no traceback), 130 interrupted.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jaxsrda.app.cli.train import Train

console = Console(stderr=False)


@dataclasses.dataclass
class Simulate:
    """Run the solver at one level and write the vorticity, omega(time, x, y)."""

    out: Path
    """Output file: NetCDF (.nc), Zarr (.zarr), or numpy (.npz)."""
    level: str = "hr"
    """lr (32 × 17), hr (128 × 65), fine (256 × 129) or uhr (1024 × 513)."""
    frames: int = 96
    """Frames to write, one each 0.25 time units; the start counts as one."""
    seed: int = 0
    """Seed of the initial perturbation."""
    initial: Path | None = None
    """Start from this vorticity field (nx × ny, at the level's grid) instead."""
    scheme: str = "etdrk4"
    """etdrk4, or rk2 (the paper's)."""
    steps: int | None = None
    """Time steps a frame; by default the level's own."""
    json: Path | None = None
    """Write a record of the run here."""

    def run(self) -> None:
        from jaxsrda.app import datasets
        from jaxsrda.core import files
        from jaxsrda.core.progress import duration
        from jaxsrda.flow.simulate import Run, estimate_seconds, simulate_resumable
        from jaxsrda.flow.testbed import FRAME, level, level_grid

        run = Run(level(self.level), self.frames, self.scheme, self.steps, self.seed)
        files.check_writable(self.out, (*datasets.DATASET_SUFFIXES, ".npz"))
        _check_outputs(self.json)
        initial = None if self.initial is None else datasets.read_fields(self.initial, ndims=(2, 3))
        if initial is not None and initial.ndim == 3:
            initial = initial[-1]  # the last frame of a run: go on from there
        grid = level_grid(run.level)
        steps = run.steps_a_frame * (run.frames - 1)
        console.print(
            f"{run.level.name}: {grid.nx} × {grid.ny}, {run.frames} frames, {steps} {run.scheme} steps of "
            f"{FRAME / run.steps_a_frame:.3g}: about {duration(estimate_seconds(run))}"
        )
        began = time.perf_counter()
        with _bar() as bar:
            task = bar.add_task("frames", total=run.frames)
            parts = self.out.with_name(f".{self.out.name}.parts")
            omega = simulate_resumable(
                run, parts, initial, lambda done, _: bar.update(task, completed=done, refresh=True)
            )
        seconds = time.perf_counter() - began
        if self.out.suffix == ".npz":
            files.write_npz(self.out, omega=omega)
        else:
            attrs = {"config": dataclasses.asdict(run)}
            times = [FRAME * i for i in range(run.frames)]
            datasets.write_dataset(self.out, datasets.fields_dataset(omega, times, grid, attrs))
        if self.json is not None:
            files.write_json(
                self.json, {"config": dataclasses.asdict(run), "seconds": {"run": seconds}, "finite": True}
            )
        console.print(f"{self.out}: omega {omega.shape}, |omega| ≤ {abs(omega).max():.3g}, {duration(seconds)}")


@dataclasses.dataclass
class Assimilate:
    """Run the twin experiment with one method: truth, observations, cycles, scores, pictures."""

    method: str = "diffsrda"
    """One of the methods that `jaxsrda info` lists."""
    truth: Path | None = None
    """Your truth: HR, fine or UHR vorticity frames (.npy, .npz, .nc, .zarr); several along a leading axis. By default
    one is simulated."""
    truth_level: str = "fine"
    """Level of a simulated truth: hr, fine or uhr (kept in the cache and used again)."""
    truths: int = 1
    """How many truths to simulate, from seeds seed, seed + 1, …"""
    layout: str = "lattice:8"
    """Sensors: lattice:8, lattice-fixed:8, random-fixed:128, random-moving:128, track:4, cluster:4, with +dropout:0.5
    behind it; or a .npy or .csv file of positions x, y."""
    operator: str = "vorticity"
    """What the sensors measure."""
    obs_noise: float = 0.1
    """Standard deviation of the observation noise."""
    withhold: float = 0.0
    """Fraction of the sensors kept from the method and used to verify it."""
    seed: int = 0
    """Seed of the truth, the noise and the members."""
    tuning: str = "own"
    """own, or paper (its EnKF-HR on lattices 4, 6, 8, 12)."""
    members: int | None = None
    """Ensemble size; by default, and for every option below, the method's preset."""
    controls: int | None = None
    """HR control forecasts of enkf-dual."""
    localization: float | None = None
    """Gaspari–Cohn half-width (weight zero beyond twice that)."""
    inflation: float | None = None
    """Multiplicative inflation."""
    additive: float | None = None
    """Climatological anomalies added after each analysis, as a fraction."""
    rtps: float | None = None
    """Relaxation to prior spread, 0 to 1."""
    rtpp: float | None = None
    """Relaxation to prior perturbations, 0 to 1."""
    representativeness: float | None = None
    """Variance added to R for what the model's grid cannot hold."""
    prior: str | None = None
    """Where the first guess of diffsrda, latent-diffsrda and cnn comes from: dual, enkf-sr or lr."""
    restart: str | None = None
    """What diffsrda's forecasts go on from: each (its own sample), mean, first, or open (the prior's analysis)."""
    steps: int | None = None
    """Steps of diffsrda's sampler."""
    sampler: str | None = None
    """dpmpp-2m, dpmpp-2m-sde, heun, ddim, or mean (one step, no spread)."""
    eta: float | None = None
    """Randomness of ddim, 0 to 1."""
    centred: bool | None = None
    """Whether the samples' mean is made the model's own estimate of it."""
    guidance: str | None = None
    """What moves samples to observations: none, projected, blend, lifted, diffpir, oi, mmps, pigdm, sda or dps."""
    strength: float | None = None
    """Strength of the guidance, by default the method's own."""
    iterations: int | None = None
    """Conjugate-gradient iterations of lifted, diffpir, oi, mmps or pigdm."""
    guide_on: str | None = None
    """Sensors that guide: new (those of guide-layout) or all (those of layout again, too)."""
    blur: tuple[float, float] | None = None
    """Widths of blend's blur at the first and the last step, in grid points."""
    hard_steps: int | None = None
    """How many of the last steps blend replaces the estimate at the sensors altogether."""
    guide_layout: str | None = None
    """Sensors that guide samples and are used for nothing else."""
    guide_operator: str | None = None
    """What they measure, by default the same as the others."""
    guide_noise: float | None = None
    """Standard deviation of their noise, by default that of the others."""
    guides_assimilated: bool = False
    """Whether any method assimilates them like the others instead."""
    weights: str | None = None
    """A released name or a file that `train` wrote; by default the released ones for the method and the prior."""
    out: Path | None = None
    """Write the analyses here: NetCDF (.nc) or Zarr (.zarr)."""
    save_members: bool = False
    """Write every member too."""
    json: Path | None = None
    """Write scores and series here."""
    plot: Path | None = None
    """Write pictures into this folder."""
    animate: bool = False
    """An animation (GIF) among them."""

    def run(self) -> None:
        from jaxsrda.app import datasets, report
        from jaxsrda.core import files
        from jaxsrda.core.checks import check_choice, check_fraction, check_positive
        from jaxsrda.core.progress import duration
        from jaxsrda.diffsrda.config import DiffSRDAConfig
        from jaxsrda.experiment import checks as sensing
        from jaxsrda.experiment import run as run_module
        from jaxsrda.experiment import truth as truth_module
        from jaxsrda.experiment.registry import METHODS, configured_model, method_preset
        from jaxsrda.flow.testbed import level
        from jaxsrda.observing.operators import operator

        check_choice("method", self.method, METHODS)
        check_positive("obs_noise", self.obs_noise)
        measure = operator(self.operator)
        check_fraction("withhold", self.withhold)
        config = _tuned(self, method_preset(self.method, self.layout, self.tuning))
        if self.out is not None:
            files.check_writable(self.out, datasets.DATASET_SUFFIXES)
        _check_outputs(self.json, self.plot)
        check_positive("truths", self.truths)
        layout = _layout(self.layout)
        guides = None if self.guide_layout is None else _layout(self.guide_layout)
        new = {"guide_operator": self.guide_operator, "guide_noise": self.guide_noise}
        sensing.check_guidance(self.method, config, guides, None, self.guides_assimilated, **new)
        if self.guide_operator is not None:
            operator(self.guide_operator)  # known, before the truth is simulated
        model = configured_model(config) if isinstance(config, DiffSRDAConfig) else None
        with _bar() as bar:
            task = bar.add_task("truth", total=1)

            def progress(what: str, done: int, total: int) -> None:
                bar.update(task, description=what, completed=done, total=total, refresh=True)

            if self.truth is not None:
                seeds, truth = None, datasets.read_fields(self.truth)
            else:
                seeds = list(range(self.seed, self.seed + self.truths))
                truth = truth_module.simulate_truth(level(self.truth_level), seeds, progress=progress)
            result = run_module.assimilate(
                self.method,
                truth,
                layout=layout,
                measure=measure,
                observation_std=self.obs_noise,
                guide_layout=guides,
                guide_measure=self.guide_operator,
                guide_std=self.guide_noise,
                guides_assimilated=self.guides_assimilated,
                withhold=self.withhold,
                config=config,
                model=model,
                seed=self.seed,
                truth_seeds=seeds,
                keep_members=self.save_members,
                progress=progress,
            )
        truths = f"{len(result.mean)} truth" + "s" * (len(result.mean) > 1)
        alone = isinstance(config, DiffSRDAConfig) and config.sampler == "mean"
        members = f"one field on a prior of {config.members}" if alone else f"{config.members} members"
        guided = f"{' and' if self.guides_assimilated else ', guided by'} {guides.name}" if guides is not None else ""
        console.print(f"{self.method}, {members}, {result.config['layout']}{guided}, {truths}", highlight=False)
        console.print(report.score_table({self.method: result.scores}))
        compiled, ran = (duration(result.seconds[part]) for part in ("compile", "run"))
        console.print(f"compiled in {compiled}, ran in {ran}")
        if self.out is not None:
            datasets.write_dataset(self.out, report.dataset(result))
            console.print(f"analyses: {self.out}")
        if self.json is not None:
            files.write_json(self.json, report.record(result))
            console.print(f"scores: {self.json}")
        if self.plot is not None:
            report.pictures(self.plot, result, animate=self.animate)
            console.print(f"pictures: {self.plot}")


@dataclasses.dataclass
class Evaluate:
    """Score analyses, from a file that `assimilate` wrote or one of your own, against a truth."""

    file: tyro.conf.Positional[Path]
    """Analyses: omega (members) or omega_mean and omega_std, in NetCDF or Zarr."""
    truth: Path | None = None
    """True vorticity frames; by default omega_truth of the file."""
    json: Path | None = None
    """Write scores and series here."""
    plot: Path | None = None
    """Write pictures into this folder."""

    def run(self) -> None:
        from jaxsrda.app import report
        from jaxsrda.core import files
        from jaxsrda.experiment import evaluate

        _check_outputs(self.json, self.plot)
        result = evaluate.evaluate_file(self.file, self.truth)
        console.print(report.score_table({result.method: result.scores}))
        if self.json is not None:
            files.write_json(self.json, report.record(result))
            console.print(f"scores: {self.json}")
        if self.plot is not None:
            report.pictures(self.plot, result)
            console.print(f"pictures: {self.plot}")


@dataclasses.dataclass
class Info:
    """Show methods, levels, layouts, operators, versions and devices."""

    json: Path | None = None
    """Write the same here."""

    def run(self) -> None:
        import importlib.metadata

        import jax
        from rich.table import Table

        from jaxsrda.core import cache, files
        from jaxsrda.diffsrda.config import GUIDANCE
        from jaxsrda.diffsrda.weights import released
        from jaxsrda.experiment.registry import CONFIGS, METHODS
        from jaxsrda.filters.config import FILTERS
        from jaxsrda.flow.testbed import LEVELS
        from jaxsrda.observing.layouts import LAYOUTS
        from jaxsrda.observing.operators import OPERATORS

        _check_outputs(self.json)
        versions = {name: importlib.metadata.version(name) for name in ("jaxsrda", "jax", "numpy")}
        devices = [str(device) for device in jax.devices()]
        console.print(", ".join(f"{name} {version}" for name, version in versions.items()), "on", ", ".join(devices))
        console.print(f"cache: {cache.cache_dir()}")
        table = Table("level", "grid", "viscosity", "steps a frame", title="Levels", title_justify="left")
        for item in LEVELS.values():
            table.add_row(item.name, f"{item.nx} × {item.ny}", f"{item.viscosity:g}", str(item.steps))
        console.print(table)
        table = Table(
            "method", "members", "localization", "additive", "representativeness", title="Methods", title_justify="left"
        )
        for name, preset in FILTERS.items():
            numbers = (preset.localization, preset.additive, preset.representativeness)
            table.add_row(name, str(preset.members), *(f"{number:g}" for number in numbers))
        for name in (name for name in CONFIGS if name not in FILTERS):
            table.add_row(name, str(CONFIGS[name].members), "", "", "")
        console.print(table)
        console.print("guidance:", ", ".join(GUIDANCE))
        console.print("released weights:", ", ".join(released()) or "none")
        console.print("layouts:", ", ".join(f"{name}:N" for name in LAYOUTS), "(+dropout:P, +silent:P)")
        console.print("operators:", ", ".join(OPERATORS))
        if self.json is not None:
            methods = {name: dataclasses.asdict(CONFIGS[name]) for name in METHODS}
            levels = {name: dataclasses.asdict(item) for name, item in LEVELS.items()}
            payload = {"versions": versions, "devices": devices, "levels": levels, "methods": methods}
            files.write_json(self.json, payload | {"layouts": list(LAYOUTS), "operators": list(OPERATORS)})


Command = (
    Annotated[Simulate, tyro.conf.subcommand("simulate")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Assimilate, tyro.conf.subcommand("assimilate")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Info, tyro.conf.subcommand("info")]
)


TUNING = ("members", "controls", "localization", "inflation", "additive", "rtps", "rtpp", "representativeness")
SAMPLING = ("prior", "restart", "steps", "sampler", "eta", "centred", "weights")
GUIDING = ("guidance", "strength", "iterations", "guide_on", "blur", "hard_steps")


def _tuned(options: Assimilate, preset):
    """The preset with the options that were given; ValueError for one that the method does not have."""
    told = {name: getattr(options, name) for name in (*TUNING, *SAMPLING, *GUIDING)}
    given = {name: value for name, value in told.items() if value is not None}
    known = {field.name for field in dataclasses.fields(preset)}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"--{unknown[0]}: not an option of {options.method}, whose options are {sorted(known)}")
    if "prior" in given:  # the restart that suits it, not the preset's prior
        given = {"restart": ""} | given
    return dataclasses.replace(preset, **given)


def _layout(text: str):
    """A named layout, or sensors at the positions that a file holds."""
    import numpy as np

    from jaxsrda.flow.testbed import LEVELS, level_grid
    from jaxsrda.observing.layouts import at_positions, parse_layout
    from jaxsrda.observing.observations import check_positions

    path = Path(text)
    if path.suffix not in (".npy", ".csv"):
        return parse_layout(text, level_grid(LEVELS["hr"]))
    try:
        positions = np.load(path) if path.suffix == ".npy" else np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise ValueError(f"layout {text}: expected a file of positions x, y, could not read it: {error}") from None
    layout = at_positions(positions, path.name)
    check_positions(np.asarray(positions, float))
    return layout


def _check_outputs(record: Path | None, pictures: Path | None = None) -> None:
    from jaxsrda.core import files

    if record is not None:
        files.check_writable(record, (".json",))
    if pictures is None:
        return
    try:
        import cmocean  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ValueError(f'--plot: needs {error.name}, which is not installed: pip install "jaxsrda[plot]"') from None
    if pictures.exists() and not pictures.is_dir():
        raise ValueError(f"--plot: expected a folder, got the file {pictures}")


def _bar() -> Progress:
    columns = (TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments (by default the process's), run, and return the exit code."""
    command = tyro.cli(Command, prog="jaxsrda", args=arguments, description=__doc__)  # type: ignore[arg-type]
    try:
        command.run()  # type: ignore[union-attr]
    except (ValueError, TypeError, OSError) as error:
        print(f"jaxsrda: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jaxsrda: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
