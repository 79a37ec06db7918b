"""Analyses at HR as sensors and members grow."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jaxsrda
from benchmarks.case import Case, Made
from jaxsrda.filters.analysis import ANALYSES

MEMBERS, SENSORS = 40, 128
"""Of the growth with the other."""


def analysis(name: str, members: int, sensors: int) -> Made:
    """One analysis of random fields and observations: what it costs does not depend on the numbers."""
    grid, rng = jaxsrda.jet().grid, np.random.default_rng(0)
    places = rng.uniform((0, 0.01), (2 * np.pi, np.pi - 0.01), (sensors, 2))
    observations = jaxsrda.pack(rng.normal(size=sensors), places, 0.01)
    preset = {"enkf": "enkf-hr", "etkf": "etkf-hr", "letkf": "letkf-hr", "ensf": "ensf-sr"}[name]
    params = jaxsrda.filter_params(jaxsrda.FILTERS[preset], "float32")
    ensemble = jnp.asarray(rng.normal(size=(members, *grid.shape)), jnp.float32)
    predicted = jnp.asarray(rng.normal(size=(members, sensors)), jnp.float32)

    def analyse(key, ensemble, predicted, observations):
        return ANALYSES[name](key, grid, ensemble, predicted, observations, params)

    return analyse, (jax.random.key(0), ensemble, predicted, observations)


def cases(quick: bool) -> list[Case]:
    """Growth with the sensors, then with the members."""
    sensors = (16, 128, 1024) if quick else (16, 128, 1024, 4096, 8192)
    members = (10, 100) if quick else (10, 100, 1000)
    sizes = [(name, MEMBERS, count, "sensors") for name in ("enkf", "letkf") for count in sensors]
    sizes += [(name, count, SENSORS, "members") for name in ("enkf", "etkf") for count in members]
    sizes += [] if quick else [("letkf", count, SENSORS, "members") for count in members]
    sizes += [] if quick else [("ensf", 100, SENSORS, "members")]
    return [
        Case(
            f"{name}, members {count}, sensors {places}",
            functools.partial(analysis, name, count, places),
            {"members": count, "sensors": places, "analysis": name},
            "analysis",
            1,
            1 if name in ("enkf", "etkf") and places <= 1008 else 0,
            growth=axis,
        )
        for name, count, places, axis in sizes
    ]
