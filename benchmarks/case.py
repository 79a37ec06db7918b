"""A case: one program of one size, and how the routine that times all of them runs it."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxsrda.core.costs import Compiled, Costs, compiled, seconds_of

Made = tuple[Callable[..., Any], tuple[Any, ...]]


@dataclasses.dataclass(frozen=True)
class Case:
    """A function of arrays, compiled and timed.

    name: unique in its subject; make() → the function and its arguments, made when its turn comes and dropped after it;
    size: what it is of (grid, members, sensors, …); unit, units: what a call does and how often, for the time of one;
    loops: how often the body of the loop that holds nearly all of its work runs, by which XLA's count of operations and
    bytes, which has it once, is multiplied (0: no single loop, so no count); growth: the entry of `size` that a table
    of growth has on its axis; turns: cases of one such name take turns; x64: in double precision; host: no JAX at all.
    """

    name: str
    make: Callable[[], Made]
    size: dict[str, int | str] = dataclasses.field(default_factory=dict)
    unit: str = "call"
    units: float = 1.0
    loops: int = 1
    growth: str = ""
    turns: str = ""
    x64: bool = False
    host: bool = False


@dataclasses.dataclass(frozen=True)
class Pace:
    """How often a program is run: at least `least` and at most `most` times, more while `budget` seconds last."""

    least: int = 3
    most: int = 30
    budget: float = 2.0


QUICK = Pace(least=2, most=10, budget=0.5)


def measured(cases: Sequence[Case], pace: Pace) -> list[dict[str, Any]]:
    """A row for each case; all of them take turns."""
    with jax.enable_x64(cases[0].x64):
        programs, calls = [], []
        for case in cases:
            function, arguments = case.make()
            program = Compiled(function, 0.0, 0.0, Costs()) if case.host else compiled(function, *arguments)
            programs.append(program)
            calls.append(lambda run=program.program, given=arguments: run(*given))
        times = seconds_of(calls, **dataclasses.asdict(pace))
    rows = [row(case, program, taken) for case, program, taken in zip(cases, programs, times)]
    del programs, calls
    gc.collect()
    return rows


def row(case: Case, program: Compiled, times: list[float]) -> dict[str, Any]:
    """What is kept of a case: seconds apart, XLA's memory, and its operations and bytes of the whole call."""
    least, costs, loops = min(times), program.costs, case.loops

    def whole(count: float | None) -> float | None:
        return None if count is None or not loops else count * loops

    return {
        "name": case.name,
        "size": case.size,
        "growth": case.growth,
        "lower_seconds": None if case.host else program.lower,
        "compile_seconds": None if case.host else program.compile,
        "least_seconds": least,
        "median_seconds": sorted(times)[len(times) // 2],
        "runs": len(times),
        "unit": case.unit,
        "seconds_per_unit": least / case.units,
        "memory_bytes": costs.memory,
        "temporary_bytes": costs.temporary,
        "flops": whole(costs.flops),
        "moved_bytes": whole(costs.moved),
    }


def grouped(cases: Sequence[Case]) -> list[list[Case]]:
    """Cases in the order of their turns: neighbours that share a name of turns together, any other alone."""
    groups: list[list[Case]] = []
    for case in cases:
        if groups and case.turns and groups[-1][0].turns == case.turns:
            groups[-1].append(case)
        else:
            groups.append([case])
    return groups
