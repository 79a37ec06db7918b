"""`jaxsrda info --plan`: options to an outline, and the plan as a table."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from jaxsrda.app.cli.common import console

if TYPE_CHECKING:
    from jaxsrda.app.cli.info import Info
    from jaxsrda.experiment.plan import Outline, Plan
    from jaxsrda.flow.testbed import Testbed

OPTIONS = ("method", "level", "grid", "members", "sensors", "steps", "truths", "cycles", "devices", "rates")
"""Options that are a plan's alone."""


def check_planning(info: Info) -> None:
    """ValueError for options of a plan where none is asked for, and for both a level and a grid."""
    defaults = {field.name: field.default for field in dataclasses.fields(info)}
    for name in OPTIONS:
        if not info.plan and getattr(info, name) != defaults[name]:
            raise ValueError(f"--{name}: has no effect without --plan; add --plan or leave it out")
    if info.level and info.grid is not None:
        raise ValueError("--grid: expected either a level or a grid, got both; leave one out")


def with_analyses(testbed: Testbed, level: str, grid: tuple[int, int] | None) -> Testbed:
    """The testbed with analyses at another level, or on nx × ny points with ν and steps that suit them."""
    from jaxsrda.flow.testbed import Level

    if level:
        return dataclasses.replace(testbed, analysis=testbed.level(level))
    if grid is None:
        return testbed
    own, (nx, ny) = testbed.analysis, grid
    finer = nx / own.nx
    planned = Level(f"{nx} × {ny}", nx, ny, own.viscosity / finer**4, max(1, round(own.steps * finer)))
    _ = planned.grid  # refuses odd sizes
    return dataclasses.replace(testbed, analysis=planned)


def outline_of(info: Info) -> Outline:
    """What the options ask for."""
    from jaxsrda.core.checks import check_choice
    from jaxsrda.experiment.plan import Outline, members_of
    from jaxsrda.experiment.registry import METHODS
    from jaxsrda.flow.testbed import testbed

    flow = with_analyses(testbed(info.testbed), info.level, info.grid)
    preset = METHODS[check_choice("method", info.method, METHODS)].config
    config = members_of(preset, info.members, info.steps)
    sizes = {"sensors": info.sensors, "truths": info.truths, "cycles": info.cycles, "devices": info.devices}
    return Outline(info.method, flow, config, **sizes)


def show_plan(info: Info) -> dict[str, Any]:
    """Make the plan of the options, print it, and return it for a record."""
    from jaxsrda.experiment.plan import plan
    from jaxsrda.experiment.rates import read_rates

    outline = outline_of(info)
    made = plan(outline, None if info.rates is None else read_rates(info.rates))
    source = "measured here just now" if info.rates is None else f"of {info.rates}"
    _print(made, source)
    return {
        "method": outline.method,
        "testbed": outline.testbed.name,
        "grid": outline.testbed.grid.shape,
        "members": outline.config.members,
        **{name: getattr(outline, name) for name in ("sensors", "truths", "cycles", "devices")},
        "memory_bytes": made.memory,
        "seconds": made.seconds,
        "flops": made.flops,
        "compile_seconds": made.compile,
        "rates": source,
    }


def _print(made: Plan, source: str) -> None:
    from rich.table import Table

    outline = made.outline
    nx, ny = outline.testbed.grid.shape
    title = (
        f"{outline.method} of {outline.config.members} members on {nx} × {ny} points, {outline.sensors} sensors, "
        f"{outline.truths} truths × {outline.cycles} cycles, devices: {outline.devices}"
    )
    shown = Table("part", "TFLOP", "seconds", title=title, title_justify="left")
    for name, seconds in made.seconds.items():
        shown.add_row(name, f"{made.flops[name] / 1e12:.3g}" if made.flops[name] else "", f"{seconds:.3g}")
    shown.add_row("all", f"{sum(made.flops.values()) / 1e12:.3g}", f"{made.total_seconds:.3g}", style="bold")
    console.print(shown)
    memory = "unknown" if made.memory is None else f"{made.memory / 1e9:.3g} GB"
    hours = f" ({made.total_seconds / 3600:.3g} h)" if made.total_seconds > 600 else ""
    console.print(
        f"time: {made.total_seconds:.3g} s{hours}, from rates {source}, on a device like this one; memory of a device: "
        f"{memory}, XLA's account of the program; compiling that took {made.compile:.0f} s here",
        highlight=False,
        markup=False,
    )
