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

console = Console(stderr=False)


def progress_bar() -> Progress:
    """A bar with a description, a count and the time left."""
    columns = (TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


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


def command_of(name: str, options: Any) -> str:
    """The command line that gives `options`, a command's dataclass: what differs from the defaults."""
    words = ["jaxsrda", name]
    for field in dataclasses.fields(options):
        value, flag = getattr(options, field.name), field.name.replace("_", "-")
        if field.default is dataclasses.MISSING:
            words.append(str(value))  # positional
        elif value == field.default:
            continue
        elif isinstance(field.default, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)


def origin(name: str, options: Any) -> dict[str, Any]:
    """What a record says of where it comes from: the command and the provenance of this run."""
    from jaxsrda.core.provenance import this_run

    return {"command": command_of(name, options), "provenance": this_run()}


def layout(text: str, grid: ChannelGrid) -> Layout:
    """A named layout, or sensors at the positions that a file holds."""
    import numpy as np

    from jaxsrda.observing.layouts import at_positions, check_positions, parse_layout

    path = Path(text)
    if path.suffix not in (".npy", ".csv"):
        return parse_layout(text, grid)
    try:
        positions = np.load(path) if path.suffix == ".npy" else np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise ValueError(f"layout {text}: expected a file of positions x, y, could not read it: {error}") from None
    placed = at_positions(positions, path.name)
    check_positions(np.asarray(positions, float))
    return placed
