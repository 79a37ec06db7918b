"""Parse the command line and run a command."""

from __future__ import annotations

import sys
from typing import Annotated

import tyro

from jaxsrda.app.cli.assimilate import Assimilate
from jaxsrda.app.cli.evaluate import Evaluate
from jaxsrda.app.cli.info import Info
from jaxsrda.app.cli.report import Report
from jaxsrda.app.cli.simulate import Simulate
from jaxsrda.app.cli.train import Train

DESCRIPTION = """High-resolution ensemble analyses of a chaotic ocean jet: simulate, train, assimilate, evaluate,
report, info.

Exit codes: 0 done, 2 bad input or options (one line, no traceback), 130 interrupted.
"""

Command = (
    Annotated[Simulate, tyro.conf.subcommand("simulate")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Assimilate, tyro.conf.subcommand("assimilate")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Info, tyro.conf.subcommand("info")]
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


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments (by default the process's), run, and return the exit code."""
    try:
        refuse_old(sys.argv[1:] if arguments is None else arguments)
        command = tyro.cli(Command, prog="jaxsrda", args=arguments, description=DESCRIPTION)  # type: ignore[arg-type]
        command.run()  # type: ignore[union-attr]
    except (ValueError, TypeError, OSError) as error:
        print(f"jaxsrda: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jaxsrda: interrupted", file=sys.stderr)
        return 130
    return 0
