"""One cycle of each method with its preset, scores included, on one truth with lattice 8."""

from __future__ import annotations

import dataclasses
import functools

import jax

import jaxsrda
from benchmarks.case import Case, Made
from benchmarks.subjects import common

QUICK = {"enkf-hr": "jet-small", "enkf-lagrange": "jet-small", "diffsrda": "jet"}
"""Methods of a quick run, and the flow that they run on."""

QUICK_MEMBERS = 10


def cycle(method: str, flow: str, members: int | None) -> Made:
    """The first cycle: none of a method's steps depends on the numbers."""
    testbed = jaxsrda.jet() if flow == "jet" else jaxsrda.jet_small()
    setup, key = common.setup(testbed), jax.random.key(0)
    preset = jaxsrda.METHODS[method].config
    config = preset if members is None else dataclasses.replace(preset, members=members)
    assimilator = jaxsrda.make_assimilator(method, setup, config)
    frames, observations = jax.tree.map(lambda leaf: leaf[0], common.observed(testbed, 1, 1))

    def one(observations, frames, carry):
        return jaxsrda.run_cycles(assimilator, key, observations, frames, carry, testbed=testbed)

    return one, (observations, frames, jaxsrda.start(assimilator, key, testbed.grid, "float32"))


def cases(quick: bool) -> list[Case]:
    """Every method; a few with a few members if quick."""
    methods = QUICK if quick else dict.fromkeys(jaxsrda.METHODS, "jet")
    members = QUICK_MEMBERS if quick else None
    return [
        Case(
            f"{method} on {flow}",
            functools.partial(cycle, method, flow, members),
            {"method": method, "members": members or jaxsrda.METHODS[method].config.members, "flow": flow},
            "cycle",
            1,
            0,
        )
        for method, flow in methods.items()
    ]
