"""Forecasts of one cycle as members grow: at HR, at LR, and HR fields carried by LR forecasts."""

from __future__ import annotations

import functools

import jaxsrda
from benchmarks.case import Case, Made
from benchmarks.subjects import common


def forecast(kind: str, members: int) -> Made:
    """A cycle's forecast of a model."""
    testbed = jaxsrda.jet()
    level = testbed.forecast if kind == "LR" else testbed.analysis
    model = jaxsrda.lagrangian(testbed) if kind == "carried" else jaxsrda.spectral(testbed, level)
    return model.forecast, (common.states(testbed, members, level),)


def cases(quick: bool) -> list[Case]:
    """Growth with the members."""
    sizes = {"HR": (1, 10, 100, 1000), "LR": (1, 10, 100, 1000), "carried": (1, 10, 100, 1000)}
    if quick:
        sizes = {"HR": (1, 10), "LR": (1, 30), "carried": (1, 10)}
    return [
        Case(
            f"forecast of a cycle, {kind}, members {members}",
            functools.partial(forecast, kind, members),
            {"members": members, "model": kind},
            "member",
            members,
            0,
            growth="members",
        )
        for kind, counts in sizes.items()
        for members in counts
    ]
