"""Two hundred kills of each: jobs that are killed with -9 at random moments and started again end as undisturbed ones.

    python tests/kills.py                          # jobs that the record has already are not done again
    python tests/kills.py train --kills 20

Each job is a command of the package on the small testbed.  It is killed at a moment drawn uniformly from the time that
it takes undisturbed, started again by the same command, and so on until it ends; its result is compared bit by bit with
that of a run that nobody disturbed, and the job begins anew until there were as many kills as asked for.  What is kept
on the way is kept far more often than usual, so that many kills fall into the writing of it.
Expected: every job ends as the undisturbed one does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from jaxsrda.core.files import read_npz, write_json
from jaxsrda.core.provenance import same_code, this_run

SMALL = ("--testbed", "jet-small")
MOST_LIVES = 60
"""Times that a job is started before it is given up as one that does not go on."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A command that writes a file, `arguments` of it, and `result`, what of the file must be the same to the bit."""

    arguments: Callable[[Path], list[str]]
    output: str
    result: Callable[[Path], Any]


def arrays_of(path: Path) -> dict[str, bytes]:
    """The bytes of the arrays of an .npz file."""
    return {name: array.tobytes() for name, array in read_npz(path).items()}


def dataset_of(path: Path) -> dict[str, bytes]:
    """The bytes of the variables of a dataset, and the scores beside it."""
    import xarray

    with xarray.open_dataset(path, engine="h5netcdf") as opened:
        variables = {str(name): np.asarray(variable).tobytes() for name, variable in opened.variables.items()}
    scores = json.loads(path.with_suffix(".json").read_text())
    return variables | {name: json.dumps(scores[name]).encode() for name in ("scores", "series", "statistics")}


def weights_of(path: Path) -> dict[str, Any]:
    """The digest of weights, their losses at the end and the curve of the training."""
    record = json.loads(path.with_suffix(".json").read_text())
    return {name: record[name] for name in ("sha256", "validation", "curve", "samples", "windows")}


def settings_of(path: Path) -> dict[str, Any]:
    """The settings of a sweep and their scores."""
    record = json.loads(path.read_text())
    return {name: record[name] for name in ("settings", "best")}


JOBS = {
    "simulate": Job(
        lambda out: ["simulate", *SMALL, "--level", "lr", "--frames", "100", "--out", str(out)], "run.npz", arrays_of
    ),
    "train": Job(
        lambda out: [
            *("train", *SMALL, "--prior", "lr", "--starts", "perturbed", "--network", "tiny", "--runs", "16"),
            *("--extra-layouts", "lattice:8", "--level", "hr", "--samples", "480", "--cycling", "0", "--out", str(out)),
        ],
        "weights.npz",
        weights_of,
    ),
    "sweep": Job(
        lambda out: [
            *("sweep", *SMALL, "--method", "enkf-sr", "--truths", "1", "--frames", "8", "--at-once", "1", "--grid"),
            *("additive", *(f"{0.01 * i:.2f}" for i in range(1, 13)), "--json", str(out)),
        ],
        "sweep.json",
        settings_of,
    ),
    "assimilate": Job(
        lambda out: [
            *("assimilate", *SMALL, "--method", "enkf-sr", "--members", "6", "--truths", "24", "--cycles", "3"),
            *("--truth-level", "hr", "--out", str(out), "--json", str(out.with_suffix(".json"))),
        ],
        "analyses.nc",
        dataset_of,
    ),
}


@dataclasses.dataclass
class Kills:
    """Which jobs, how many kills of each."""

    jobs: tyro.conf.Positional[tuple[str, ...]] = tuple(JOBS)
    """Of simulate, train, sweep and assimilate."""
    kills: int = 200
    """Of each job."""
    seed: int = 0
    """Of the moments."""
    folder: Path = Path("kills")
    """For the jobs' files and a cache of their own; an earlier one's cache is used again."""
    out: Path = Path(__file__).parent / "data" / "kills.json"
    """The record."""


def prepare() -> None:
    """Load what jobs load, without touching a device: each life of a job is a fork of this process."""
    import flax.nnx  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import optax  # noqa: F401
    import orbax.checkpoint  # noqa: F401
    import xarray  # noqa: F401

    from jaxsrda.app import plotting, report, sweep_report  # noqa: F401
    from jaxsrda.app.cli import main  # noqa: F401
    from jaxsrda.experiment import parts, sweep
    from jaxsrda.flow import simulate
    from jaxsrda.training import job, stream_run  # noqa: F401

    for module in (simulate, parts, stream_run):
        module.SAVE_EVERY = 0.1
    assert sweep.run_sweep


def life(arguments: list[str], log: Path) -> int:
    """Start a command in a fork of this process; returns its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        from jaxsrda.app.cli.main import main

        code = main(arguments)
        sys.stdout.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def ended(child: int, after: float | None = None) -> int | None:
    """The exit code of a process, or None for one that was still at work after some seconds and was killed."""
    until = None if after is None else time.monotonic() + after
    while True:
        done, status = os.waitpid(child, 0 if until is None else os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if until is not None and time.monotonic() >= until:
            os.kill(child, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            return None if code == -signal.SIGKILL else code
        time.sleep(0.002)


def undisturbed(name: str, folder: Path) -> tuple[Any, float]:
    """The result of a job that nobody disturbs, and the seconds that it takes once its programs are in the cache."""
    job, took, results = JOBS[name], 0.0, []
    for part in ("first", "second"):
        room = emptied(folder / f"{name}-{part}")
        began = time.monotonic()
        code = ended(life(job.arguments(room / job.output), room / "log.txt"))
        took = time.monotonic() - began
        if code:
            raise RuntimeError(f"{name}: {(room / 'log.txt').read_text()[-2000:]}")
        results.append(job.result(room / job.output))
    assert results[0] == results[1], f"{name}: two undisturbed runs differ"
    return results[1], took


def emptied(folder: Path) -> Path:
    """A folder without anything in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def tried(name: str, kills: int, seed: int, folder: Path, console: Console) -> dict[str, Any]:
    """Kill a job so many times; the row of the record."""
    job, moments, began = JOBS[name], random.Random(f"{seed} {name}"), time.monotonic()
    wanted, span = undisturbed(name, folder)
    row: dict[str, Any] = {"job": name, "kills": 0, "ended": 0, "same": 0, "while_going_on": 0, "most_in_one_job": 0}
    while row["kills"] < kills:
        room, lives = emptied(folder / name), 0
        while True:
            left = row["kills"] + lives < kills
            kept = any(each.suffix in (".parts", ".train", ".json") for each in room.iterdir())
            child = life(job.arguments(room / job.output), room / "log.txt")
            code = ended(child, moments.uniform(0, span) if left else None)
            if code is not None:
                break
            lives += 1
            row["while_going_on"] += kept
            if lives > MOST_LIVES:
                raise RuntimeError(f"{name}: does not go on after {lives} kills, see {room}")
        row["kills"] += lives
        row["ended"] += 1
        row["most_in_one_job"] = max(row["most_in_one_job"], lives)
        if code:
            raise RuntimeError(f"{name}: ended with {code}: {(room / 'log.txt').read_text()[-2000:]}")
        same = job.result(room / job.output) == wanted
        row["same"] += same
        left_over = sorted(each.name for each in room.iterdir() if each.name.endswith(".parts"))
        console.print(f"{name}: {row['kills']} kills, {row['ended']} ended, {row['same']} as if undisturbed")
        if not same or left_over:
            raise RuntimeError(f"{name}: {'parts are left over' if left_over else 'ends differently'}, see {room}")
    return row | {"seed": seed, "undisturbed_seconds": span, "seconds": time.monotonic() - began}


def main(options: Kills) -> None:
    """Kill jobs, and write a row of each."""
    console = Console()
    if unknown := sorted(set(options.jobs) - set(JOBS)):
        raise ValueError(f"jobs: expected some of {', '.join(JOBS)}, got {unknown[0]}")
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["JAXSRDA_CACHE"] = str(folder / "cache")
    prepare()
    rows = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    for name in options.jobs:
        told = {"job": name, "seed": options.seed}
        rest = [row for row in rows if {key: row[key] for key in told} != told]
        if any(row not in rest and row["kills"] >= options.kills and same_code(row) for row in rows):
            continue
        row = tried(name, options.kills, options.seed, folder, console)
        rows = [*rest, row | in_a_fork(this_run)]
        write_json(options.out, {"rows": rows})
    table = Table("job", "kills", "while going on", "most in one job", "jobs ended", "as undisturbed")
    for row in rows:
        columns = ("kills", "while_going_on", "most_in_one_job", "ended", "same")
        table.add_row(row["job"], *(str(row[column]) for column in columns))
    console.print(table)


def in_a_fork(function: Callable[[], Any]) -> Any:
    """What a function returns, called in a fork: this process must not touch a device."""
    reader, writer = os.pipe()
    if not (child := os.fork()):
        with contextlib.suppress(BaseException):
            os.write(writer, json.dumps(function()).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return {"provenance": json.loads(text)}


if __name__ == "__main__":
    main(tyro.cli(Kills, description=__doc__))
