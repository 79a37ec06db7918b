"""Settings × truths of an EnKF of LR members in one compiled call, as truths and settings grow."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp

import jaxsrda
from benchmarks.case import Case, Made
from benchmarks.subjects import common

METHOD, MEMBERS, CYCLES = "enkf-sr", 20, 4


def sweep(settings: int, truths: int) -> Made:
    """A sweep over additive noise."""
    testbed = jaxsrda.jet_small()
    setup = common.setup(testbed)
    config = dataclasses.replace(jaxsrda.FILTERS[METHOD], members=MEMBERS)
    one = jaxsrda.filter_params(config, "float32")
    params = jax.tree.map(lambda value: jnp.repeat(value[None], settings, axis=0), one)
    params = params._replace(additive=jnp.linspace(0.02, 0.1, settings, dtype=jnp.float32))
    frames, observations = common.observed(testbed, truths, CYCLES)

    def make(params: jaxsrda.FilterParams) -> jaxsrda.Assimilator:
        return jaxsrda.make_assimilator(METHOD, setup, config, params)

    def run(params, observations, frames):
        return jaxsrda.sweep(make, params, jax.random.key(0), observations, frames, testbed=testbed)

    return run, (params, observations, frames)


def cases(quick: bool) -> list[Case]:
    """Growth with the truths, then with the settings."""
    sizes = [(2, truths, "truths") for truths in ((1, 4) if quick else (1, 4, 16, 64))]
    sizes += [] if quick else [(settings, 4, "settings") for settings in (1, 8, 64)]
    return [
        Case(
            f"{METHOD} on jet-small, settings {settings}, truths {truths}",
            functools.partial(sweep, settings, truths),
            {"settings": settings, "truths": truths, "members": MEMBERS, "cycles": CYCLES},
            "cycle of a truth and setting",
            settings * truths * CYCLES,
            0,
            growth=axis,
        )
        for settings, truths, axis in sizes
    ]
