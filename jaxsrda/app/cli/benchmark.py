"""The `benchmark` command."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from jaxsrda.app.cli.common import command_of, console, progress_bar


@dataclasses.dataclass
class Benchmark:
    """Score a method, yours or ours, on the tasks of a protocol; the row goes into OUT/PROTOCOL/NAME.json."""

    method: tyro.conf.Positional[str] = ""
    """package.module:attribute of a function Setup → Assimilator, an Assimilator or a Method; one of the methods that
    `jaxsrda info` lists; or a folder of analyses, one file a task (lattice-8.nc), or one such file."""
    protocol: str = "jet-v1"
    """jet-v1, or jet-small-v1, which takes minutes."""
    tasks: tuple[str, ...] = ()
    """Which tasks, by default all of the protocol (of a folder, those that it has)."""
    truths: int | None = None
    """How many truths, the first ones; rows of fewer than all are ranked with no others."""
    name: str | None = None
    """Name of the row, by default the method's own."""
    out: Path = Path("leaderboard")
    """Folder of the rows; a run that was killed goes on from there."""
    reference: str = "enkf-lagrange"
    """Method that runs on the same truths, on this machine, for ratios of scores and of cost: enkf-lagrange, enkf-hr
    or none."""
    set: tyro.conf.UseAppendAction[tuple[tuple[str, str], ...]] = ()
    """An option of a method of ours and its value, such as members 40; repeat it for more."""
    note: str = ""
    """What the table says of the method, in a few words."""
    at_once: int = 1
    """Truths side by side."""
    reuse_any_code: bool = False
    """Keep scores in the row's file that other code made."""
    export: Path | None = None
    """Instead of scoring, write the observations and the climatology into this folder, for other programs."""

    def run(self) -> None:
        """Check everything, score task by task, print the table."""
        from jaxsrda.benchmark import Selection, entrant, protocol_called, run_benchmark, score_analyses
        from jaxsrda.experiment.registry import METHODS

        protocol = protocol_called(self.protocol)
        plan = Selection(protocol, self.tasks, self.truths, self.reference, self.at_once, self.reuse_any_code)
        if self.export is not None:
            return self._export(plan)
        if not self.method:
            raise ValueError("benchmark: expected a method; give package.module:attribute, a name, or analyses")
        if self.method not in METHODS and (
            Path(self.method).exists() or re.search(r"\.(npy|npz|nc|zarr)$", self.method)
        ):
            from jaxsrda.app.benchmark_files import given_analyses

            if self.set:
                raise ValueError("--set: of no effect on analyses that are made; leave it out")
            given, tasks = given_analyses(self.method, self.tasks, protocol, self.name)
            plan = dataclasses.replace(plan, tasks=tasks)
            name: str = given.name
            score: Callable[..., Any] = lambda *where: score_analyses(given, plan, *where)  # noqa: E731
        else:
            options = dict(self.set)
            if len(options) < len(self.set):
                raise ValueError("--set: an option is given twice; give it once")
            method = entrant(self.method, self.name, options)
            name = method.name
            settings = {field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)[1:]}
            score = lambda *where: run_benchmark(method, protocol, *where, **settings)  # noqa: E731
        path = self._path(name)
        command = command_of("benchmark", dataclasses.replace(self, reuse_any_code=False))  # of no effect on scores
        with progress_bar() as bar:
            task = bar.add_task("truths", total=1)

            def progress(what: str, done: int, total: int) -> None:
                bar.update(task, description=what, completed=done, total=total, refresh=True)

            row = score(path, progress, {"command": command, "note": self.note})
        self._print(row, path)

    def _path(self, name: str) -> Path:
        """The row's file; ValueError for a name or a folder that none can have."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", name):
            raise ValueError(f"--name: expected letters, digits, and . _ + - between them, got {name!r}")
        folder = self.out / self.protocol
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"--out: expected a folder that can be made, {folder} cannot ({error})") from None
        return folder / f"{name}.json"

    def _export(self, plan: Any) -> None:
        from jaxsrda.app.benchmark_files import export

        if self.method:
            raise ValueError("--export: writes files for other programs and scores nothing; leave the method out")
        with progress_bar() as bar:
            task = bar.add_task("truths", total=1)

            def progress(what: str, done: int, total: int) -> None:
                bar.update(task, description=what, completed=done, total=total, refresh=True)

            written = export(self.export, plan.protocol, plan.tasks, plan.truths, progress)  # type: ignore[arg-type]
        for path in written:
            console.print(f"written: {path}", soft_wrap=True)

    def _print(self, row: Any, path: Path) -> None:
        from rich.table import Table

        from jaxsrda.app.report import shown

        reference = self.reference if self.reference != "none" else ""
        heads = ["task", "truths", "MAER", "CRPS", "spread–skill", "energy score"]
        table = Table(*heads, *([f"MAER / {reference}'s"] if reference else []))
        for name, entry in row.data["tasks"].items():
            cells = [entry["scores"].get(score) for score in ("maer", "crps", "spread_skill", "energy")]
            cells += [row.ratio(name)] if reference else []
            table.add_row(name, str(len(entry["seeds"])), *(shown(cell and tuple(cell.values())) for cell in cells))
        console.print(table)
        cost = row.data["cost"]
        if cost:
            beside = "" if cost["ratio"] is None else f", {cost['ratio']:.3g} of {cost['reference']}'s"
            console.print(f"a cycle of {cost['task']}: {cost['cycle_seconds']:.3g} s{beside}", highlight=False)
        console.print(f"row: {path}", soft_wrap=True)
