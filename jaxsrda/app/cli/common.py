"""What the commands share: the console, progress bars, outputs checked beforehand, testbeds and layouts by name."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from jaxsrda.flow.grid import ChannelGrid
    from jaxsrda.observing.layouts import Layout


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the command line, whose code for it is its own."""
        raise BrokenPipeError


console = _Console(stderr=False)


def progress_bar() -> Progress:
    """A bar with a description, a count and the time left."""
    columns = (TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def say(*notes: str) -> None:
    """Print notes on the user's files, one a line."""
    for note in notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)


def check_outputs(record: Path | None, pictures: Path | None = None) -> None:
    """ValueError for a record or a folder of pictures that cannot be written, before any work."""
    from jaxsrda.core.files import check_writable

    if record is not None:
        check_writable(record, (".json",))
    if pictures is None:
        return
    try:
        import cmocean  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ValueError(f'--plot: needs {error.name}, which is not installed: pip install "jaxsrda[plot]"') from None
    if pictures.exists() and not pictures.is_dir():
        raise ValueError(f"--plot: expected a folder, got the file {pictures}")


def parts_of(output: Path) -> Path:
    """The folder beside an output for what is finished of it, until the output is written."""
    return output.with_name(f".{output.name}.parts")


def command_of(name: str, options: Any) -> str:
    """The command line that gives `options`, a command's dataclass: what differs from the defaults."""
    words = ["jaxsrda", name]
    for field in dataclasses.fields(options):
        value, flag = getattr(options, field.name), field.name.replace("_", "-")
        if field.default is dataclasses.MISSING or "Positional" in str(field.type):
            words += [str(value)] if value != field.default else []
        elif value == field.default:
            continue
        elif isinstance(value, tuple) and value and isinstance(value[0], tuple):  # an option that may be repeated
            for each in value:
                words += [f"--{flag}", *map(str, each)]
        elif isinstance(field.default, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)


def origin(name: str, options: Any) -> dict[str, Any]:
    """What a record says of where it comes from: the command and the provenance of this run."""
    from jaxsrda.core.provenance import this_run

    return {"command": command_of(name, options), "provenance": this_run()}


def layout(text: str, grid: ChannelGrid) -> tuple[Layout, tuple[float, ...] | None]:
    """A named layout, or sensors where a file puts them; and the std of each sensor's noise, if the file has it."""
    from jaxsrda.app.sensor_files import SENSOR_SUFFIXES, layout_from_file
    from jaxsrda.observing.layouts import parse_layout

    path = Path(text)
    if path.suffix.lower() in SENSOR_SUFFIXES or path.is_file():
        return layout_from_file(path, say)
    return parse_layout(text, grid), None
