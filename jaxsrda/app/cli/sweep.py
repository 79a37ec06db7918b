"""The `sweep` command."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from jaxsrda.app.cli.common import check_outputs, console, layout, progress_bar, say
from jaxsrda.app.cli.devices import OnDevices

GUIDING = ("guidance", "guide_on")
"""Options that decide which sensors an experiment may have."""


@dataclasses.dataclass
class Sweep(OnDevices):
    """Try settings of one method on validation truths: a grid, random draws, a list, or an adaptive search."""

    method: str = "enkf-sr"
    """One of the methods that `jaxsrda info` lists."""
    grid: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """An option and its values, such as additive 0.05 0.1; one value fixes it. Repeat it for more options."""
    random: tyro.conf.UseAppendAction[tuple[tuple[str, float, float], ...]] = ()
    """An option and a range to draw from, such as additive 0.01 0.3; uniform in the logarithm, linear for fractions."""
    samples: int | None = None
    """How many random settings."""
    random_seed: int = 0
    """Seed of random settings and of the search."""
    list: Path | None = None
    """A file of settings: CSV, a column an option, or JSON, a list of objects."""
    search: int | None = None
    """An adaptive search of this many settings over the ranges of --random; --grid gives choices. Needs Optuna."""
    storage: str | None = None
    """Where the search is kept and shared by processes: an Optuna journal file, or a database URL."""
    study: str = ""
    """Name of the search in the storage, by default one that the experiment determines."""
    prune: bool = True
    """Whether the search gives settings up whose first third of the cycles is worse than the median's."""
    testbed: str = "jet"
    """The flow: jet, jet-small, or your own as module:name."""
    truths: int = 4
    """How many validation truths to simulate."""
    seed_from: int = 1000
    """Seed of the first."""
    truth: Path | None = None
    """Your truth instead: vorticity frames (.npy, .npz, .nc, .zarr); several along a leading axis."""
    frames: int | None = None
    """Frames of each truth that are run, by default all."""
    layout: str = "lattice:8"
    """Sensors, as for assimilate."""
    operator: str = "vorticity"
    """What the sensors measure."""
    obs_noise: float = 0.1
    """Standard deviation of the observation noise."""
    guide_layout: str | None = None
    """Sensors that guide samples and are used for nothing else."""
    seed: int = 0
    """Seed of the noise and the members."""
    tuning: str = "own"
    """What settings change: own, paper, or a preset file of an earlier sweep."""
    joint: bool = False
    """Joint scores too."""
    by: str = "crps"
    """The score that settings are judged by."""
    at_once: int | None = None
    """Settings a compiled call, by default as many as fit the memory."""
    json: Path | None = None
    """Write the record here, after each call; a sweep that was killed goes on from it."""
    csv: Path | None = None
    """Write the table here."""
    preset: Path | None = None
    """Write the best setting here, for assimilate --tuning."""
    plot: Path | None = None
    """Write pictures into this folder."""

    def settings(self, choices: bool = True) -> Sequence[dict[str, Any]]:
        """The settings that the options describe; without choices, those of a list, or the preset alone."""
        from jaxsrda.experiment.space import combined, grid_settings, random_settings, read_settings

        parts = [] if self.list is None else [read_settings(self.list)]
        if choices and self.random:
            parts.append(random_settings(self.samples or 1, self.random_seed, **self.ranges()))
        if choices:
            parts += [grid_settings(**{name: values}) for name, values in self.choices().items()]
        return combined(*parts)

    def choices(self) -> dict[str, tuple[str, ...]]:
        """The options of --grid and their values."""
        return _once("grid", [(name, tuple(values)) for name, *values in self.grid])

    def ranges(self) -> dict[str, tuple[float, float]]:
        """The options of --random and their ranges."""
        return _once("random", [(name, (low, high)) for name, low, high in self.random])

    def check(self) -> None:
        """ValueError for options that do not go together, or outputs that cannot be written, before any work."""
        from jaxsrda.core.checks import check_positive
        from jaxsrda.core.files import check_writable

        check_outputs(self.json, self.plot)
        for path, suffix in ((self.csv, ".csv"), (self.preset, ".json")):
            if path is not None:
                check_writable(path, (suffix,))
        if self.preset is not None and self.json is not None and self.preset.resolve() == self.json.resolve():
            raise ValueError(f"--preset: {self.preset} is the record's file too; choose another")
        check_positive("truths", self.truths)
        if self.truth is not None and (self.truths, self.seed_from) != (Sweep.truths, Sweep.seed_from):
            raise ValueError("--truths, --seed-from: of no effect beside --truth; leave them out")
        check_positive("obs_noise", self.obs_noise)
        if self.random_seed != Sweep.random_seed and not self.random:
            raise ValueError("--random-seed: of no effect without --random; leave it out")
        if self.search is None:
            if self.random and self.samples is None:
                raise ValueError("--random: how many settings? Add --samples 64, or --search 100 for a search")
            if self.samples is not None and not self.random:
                raise ValueError("--samples: of no effect without --random, the ranges to draw from")
            if self.storage is not None or self.study or not self.prune:
                raise ValueError("--storage, --study, --no-prune: of no effect without --search")
            if not (self.grid or self.random or self.list):
                raise ValueError("sweep: expected settings; give --grid, --random, --list or --search")
        elif self.samples is not None or not self.random:
            raise ValueError("--search: expected ranges, --random additive 0.01 0.3, and no --samples")

    def experiment(self, first: dict[str, Any]) -> Any:
        """The experiment that settings change; first: options that it needs to be one, such as a guidance."""
        from jaxsrda.app.fields import read_fields
        from jaxsrda.experiment.experiment import from_options
        from jaxsrda.experiment.options import check_traced, option_kinds, option_value, with_options
        from jaxsrda.experiment.registry import method_preset
        from jaxsrda.flow.testbed import testbed

        flow = testbed(self.testbed)
        preset = method_preset(self.method, self.layout, self.tuning, flow.name)
        for name in self.ranges():
            check_traced(name, preset, self.method)
        kinds = option_kinds(preset)
        fixed = {name: option_value(name, first[name], kinds[name]) for name in GUIDING if name in first}
        placed, own = layout(self.layout, flow.grid)
        second, second_own = (None, None) if self.guide_layout is None else layout(self.guide_layout, flow.grid)
        if own is not None and self.obs_noise != type(self).obs_noise:
            raise ValueError(f"--obs-noise: has no effect, {self.layout} has the std of each sensor; leave it out")
        return from_options(
            self.method,
            truth=None if self.truth is None else read_fields(self.truth),
            testbed=flow,
            config=with_options(preset, {k: v for k, v in fixed.items() if k in kinds}, self.method),
            layout=placed,
            operator=self.operator,
            noise_std=self.obs_noise if own is None else own,
            guide_layout=second,
            guide_noise_std=self.obs_noise if second is not None and second_own is None else second_own,
            seed=self.seed,
            keep="scores",
            joint=self.joint,
        )

    def run(self) -> None:
        """Check everything, run, write files, print the table."""
        from jaxsrda.core.devices import chosen, leading
        from jaxsrda.experiment import sweep
        from jaxsrda.experiment.search import Search, require_optuna, run_search

        self.check()
        devices = "all" if self.shared is None else self.shared
        chosen(devices)
        if self.search is not None:
            require_optuna()
        settings = self.settings(choices=self.search is None)
        first = {**{name: values[0] for name, values in self.choices().items()}, **settings[0]}
        seeds = tuple(range(self.seed_from, self.seed_from + self.truths))
        planned = sweep.Sweep(self.experiment(first), settings, seeds, self.frames, self.by, self.at_once)
        search = None
        if self.search is not None:
            told = self.storage, self.study, self.random_seed, self.prune
            search = Search(planned, self.ranges(), self.choices(), self.search, *told)
        with progress_bar() as bar:
            task = bar.add_task("truths", total=1)

            def progress(what: str, done: int, total: int) -> None:
                bar.update(task, description=what, completed=done, total=total, refresh=True)

            if search is None:
                result = sweep.run_sweep(planned, self.json, progress, devices)
            else:
                result = run_search(search, self.json, progress, devices)
        say(*result.experiment.truth.notes)
        if leading():
            self.write(result)

    def write(self, result: Any) -> None:
        """Files first, then the table of the best."""
        from jaxsrda.app import sweep_report
        from jaxsrda.core.files import write_json
        from jaxsrda.core.progress import duration

        written = [] if self.json is None else [f"record: {self.json}"]
        if self.csv is not None:
            sweep_report.write_csv(self.csv, result)
            written.append(f"table: {self.csv}")
        if self.plot is not None:
            sweep_report.pictures(self.plot, result)
            written.append(f"pictures: {self.plot}")
        if self.preset is not None:
            write_json(self.preset, result.preset())
            written.append(
                f"preset: {self.preset}, for jaxsrda assimilate --method {self.method} --tuning {self.preset}"
            )
        console.print(sweep_report.headline(result), highlight=False)
        console.print(sweep_report.best_table(result))
        compiled, ran = (duration(result.seconds[part]) for part in ("compile", "run"))
        console.print(f"compiled in {compiled}, ran in {ran}")
        for line in written:
            console.print(line, soft_wrap=True)


def _once(option: str, given: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Options by name; ValueError for one that is given twice."""
    names = [name for name, _ in given]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"--{option}: {twice[0]} is given twice; give all its values at once")
    return dict(given)
