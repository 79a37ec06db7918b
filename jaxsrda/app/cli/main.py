"""Parse the command line and run a command."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import tyro

from jaxsrda.app.cli.assimilate import Assimilate
from jaxsrda.app.cli.benchmark import Benchmark
from jaxsrda.app.cli.cache import Cache
from jaxsrda.app.cli.common import console
from jaxsrda.app.cli.devices import OnDevices, leave
from jaxsrda.app.cli.evaluate import Evaluate
from jaxsrda.app.cli.faults import remedy
from jaxsrda.app.cli.info import Info
from jaxsrda.app.cli.report import Report
from jaxsrda.app.cli.simulate import Simulate
from jaxsrda.app.cli.sweep import Sweep
from jaxsrda.app.cli.train import Train
from jaxsrda.core.cache import keep_programs

DESCRIPTION = """High-resolution ensemble analyses of a chaotic ocean jet: simulate, train, assimilate, evaluate, sweep,
benchmark, report, info, cache.

Exit codes: 0 done, 2 bad input, options or resources (one line, no traceback), 130 interrupted.
"""

Command = (
    Annotated[Simulate, tyro.conf.subcommand("simulate")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Assimilate, tyro.conf.subcommand("assimilate")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Sweep, tyro.conf.subcommand("sweep")]
    | Annotated[Benchmark, tyro.conf.subcommand("benchmark")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Cache, tyro.conf.subcommand("cache")]
)

RENAMED = {
    "train": {
        "--visit": "--policy",
        "--visitor": "--policy",
        "--on-policy": "--policy",
        "--policy-weights": "--policy",
        "--open-loop": "--policy",
        "--no-open-loop": "--policy",
        "--repeats": "--data-share",
        "--others": "--extra-layouts",
        "--levels": "--sigmas",
    }
}
"""Options that had another name before, by command."""


def refuse_old(arguments: list[str]) -> None:
    """ValueError for an option that had another name before, saying the new one."""
    new_names = RENAMED.get(arguments[0], {}) if arguments else {}
    for argument in arguments:
        name = argument.split("=")[0]
        if name in new_names:
            raise ValueError(f"{name}: is now {new_names[name]}; use that name")


def number_of(command: Any) -> int:
    """The number of this process among several, which have met by then; only the first one prints."""
    if not isinstance(command, OnDevices):
        return 0
    command.join()
    if not command.several:
        return 0
    import jax

    console.quiet = jax.process_index() > 0
    return jax.process_index()


def _nothing(*_: object, **__: object) -> None:
    """A warning that another process says."""


def _line(message: Warning | str, *_: object, **__: object) -> None:
    """A warning on one line, without the place in the source."""
    print(f"jaxsrda: {' '.join(str(message).split())}", file=sys.stderr)


def _leave_out_half_opened(say: Callable[[Any], Any], found: Any) -> None:
    """Say nothing of files that h5netcdf could not open and Orbax not write, and cannot close: the error names them."""
    half_opened = getattr(found.object, "__module__", "").startswith("h5netcdf")
    if not half_opened and "Event loop is closed" not in str(found.exc_value):
        say(found)


def _bear_any_text() -> None:
    """A terminal that does not know a sign shows another one."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def _no_more_output() -> None:
    """Let what is still printed go nowhere: nobody reads it any more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse(arguments: list[str] | None) -> Any:
    """The command with its options; ValueError, in one line, for arguments that mean none."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(Command, prog="jaxsrda", args=arguments, description=DESCRIPTION)  # type: ignore[arg-type]
    except SystemExit as end:
        if not end.code:  # help was asked for
            raise
        raise ValueError(one_line(said.getvalue())) from None


def one_line(box: str) -> str:
    """What the parser says in a box of several lines, in one; its help is named in the end."""
    frame = "[\u2500-\u257f]+|[-+]{3,}|^[|]|[|]$"  # of lines, or of signs where the terminal has no lines
    lines = (re.sub(frame, " ", line.strip()).strip() for line in box.splitlines()[1:])
    text = re.split("For full helptext", " ".join(" ".join(lines).split()))[0].strip()
    return f"{text or 'arguments that cannot be read'}; see --help"


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments (by default the process's), run, and return the exit code."""
    _bear_any_text()
    if not isinstance(sys.unraisablehook, functools.partial):
        sys.unraisablehook = functools.partial(_leave_out_half_opened, sys.unraisablehook)
    number, several = 0, False
    try:
        refuse_old(sys.argv[1:] if arguments is None else arguments)
        command = parse(arguments)
        number, several = number_of(command), getattr(command, "several", False)
        keep_programs()
        with warnings.catch_warnings():
            warnings.showwarning = _nothing if number else _line
            command.run()  # type: ignore[union-attr]
            sys.stdout.flush()
    except KeyboardInterrupt as stop:
        line = f"interrupted; {str(stop) or 'files that were written stay'}"
        if several:  # as for other errors
            leave(f"process {number}: {line}", 130, met=True)
        print(f"jaxsrda: {line}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has enough; files were written before
        _no_more_output()
        return 0
    except Exception as error:
        line = remedy(error)
        if several:  # the others cannot go on without this one, and it must not wait for them
            leave(f"process {number}: {line or traceback.format_exc()}", 2 if line else 1, met=True)
        if line is None:
            raise
        print(f"jaxsrda: {line}", file=sys.stderr)
        return 2
    return 0
