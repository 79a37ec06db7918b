"""`python -m benchmarks SUBJECT|all|compare`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from rich.table import Table

from benchmarks import __doc__ as about
from benchmarks.compare import check_same_machine, compared
from benchmarks.show import console, number, picture, table

NAMES = ("solver", "forecasts", "enkf", "sampler", "training", "cycle", "sweep")
"""Subjects, known without loading them; a test holds them to `benchmarks.subjects.SUBJECTS`."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = made.add_subparsers(dest="command", required=True)
    for name in (*NAMES, "all"):
        one = commands.add_parser(name, help=f"measure {'everything' if name == 'all' else name}")
        one.add_argument("--quick", action="store_true", help="small sizes: all in less than 5 minutes on 2 cores")
        one.add_argument("--out", type=Path, help="JSON file to write; a picture goes beside it")
    other = commands.add_parser("compare", help="what became slower or heavier; exit code 1 if anything did")
    other.add_argument("before", type=Path)
    other.add_argument("after", type=Path)
    other.add_argument("--threshold", type=float, default=1.1, help="factor that counts as a change")
    other.add_argument("--any-machine", action="store_true", help="compare records of different machines too")
    return made


def read(path: Path) -> dict:
    """A record of the suite; ValueError for anything else."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a record of `python -m benchmarks`, could not read it ({error})") from None
    if not isinstance(record, dict) or not {"subjects", "machine"} <= set(record):
        raise ValueError(f"{path}: expected a record of `python -m benchmarks`, got another JSON file")
    return record


def measure(given: argparse.Namespace) -> int:
    """Run subjects; print and write."""
    from benchmarks.suite import run
    from jaxsrda.core.files import check_writable, write_json

    if given.out is not None:
        check_writable(given.out, (".json",))
    began = time.perf_counter()
    names = NAMES if given.command == "all" else (given.command,)
    record = run(names, given.quick, lambda subject, row: console.print(f"{subject}: {row['name']}", style="dim"))
    record["seconds"] = time.perf_counter() - began
    if given.out is not None:
        write_json(given.out, record)
        picture(record, given.out.with_suffix(".png"))
    table(record)
    console.print(f"{record['seconds']:.0f} s in all")
    return 0


def compare(given: argparse.Namespace) -> int:
    """Say what changed; 1 if anything became worse."""
    before, after = read(given.before), read(given.after)
    if not given.any_machine:
        check_same_machine(before, after)
    changes, alone = compared(before, after, given.threshold)
    shown = Table("case", "what", "after over before", "verdict")
    for change in changes:
        if change["verdict"] != "same":
            what = change["measure"].partition("_")[2]
            shown.add_row(change["case"], what, number(change["ratio"]), change["verdict"])
    if shown.row_count:
        console.print(shown)
    worse = sum(change["verdict"] in ("slower", "heavier") for change in changes)
    console.print(f"{len(changes)} numbers compared, {worse} worse by more than a factor {given.threshold:g}")
    if alone:
        console.print(f"in one record alone: {'; '.join(alone)}", markup=False)
    return int(worse > 0)


def main(arguments: list[str] | None = None) -> int:
    """Parse and run; 0 done, 1 something became worse, 2 bad input."""
    given = parser().parse_args(arguments)
    try:
        return compare(given) if given.command == "compare" else measure(given)
    except ValueError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
