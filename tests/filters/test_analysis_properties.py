"""What an analysis may not depend on: the order of sensors, what masked ones hold, and how often one is counted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID, parameters, states
from hypothesis import given
from hypothesis import strategies as st

from jaxsrda.filters.analysis import ANALYSES
from jaxsrda.flow.grid import to_physical
from jaxsrda.observing.observations import Observations
from jaxsrda.observing.operators import vorticity

SLOTS = 8
"""One shape for all examples, so that each analysis is compiled once."""

WITHOUT_DRAWS = ("etkf", "letkf")
"""Analyses that draw no noise for each slot."""


@functools.cache
def analysed(name):
    """(values, positions, mask, variance) → the analysis of four members, as one program."""

    @jax.jit
    def run(*observations):
        seen, ensemble = Observations(*observations), jax.vmap(lambda a: to_physical(GRID, a))(states())
        predicted = jax.vmap(lambda omega: vorticity(GRID, omega, seen.positions))(ensemble)
        return ANALYSES[name](jax.random.key(0), GRID, ensemble, predicted, seen, parameters(localization=1.0))

    return lambda *observations: np.asarray(run(*(jnp.asarray(a) for a in observations)))


@st.composite
def sensors(draw, some_masked=True):
    """Values, positions, mask and variance of as many slots as there are."""

    def many(each):
        return np.array(draw(st.lists(each, min_size=SLOTS, max_size=SLOTS)))

    at = np.stack([many(st.floats(0, 6.28)), many(st.floats(0.2, 2.9))], -1)
    mask = many(st.booleans()) if some_masked else np.ones(SLOTS, bool)
    return many(st.floats(-8, 8)), at, mask, many(st.floats(0.05, 2))


def close(a, b):
    np.testing.assert_allclose(a, b, atol=1e-6 * max(1, np.abs(a).max()))


@pytest.mark.parametrize("name", WITHOUT_DRAWS)
@given(sensors(), st.permutations(range(SLOTS)))
def test_the_order_of_sensors_is_of_no_consequence(name, given_, order):
    order = list(order)
    close(analysed(name)(*given_), analysed(name)(*(each[order] for each in given_)))


@pytest.mark.parametrize("name", ["enkf", "etkf", "letkf"])
@given(sensors(), st.sampled_from((0.0, 1e30, -1e30, np.inf, np.nan)), st.floats(1e-6, 1e6))
def test_masked_sensors_may_hold_anything(name, given_, value, variance):
    values, positions, mask, own = given_
    plain = analysed(name)(np.where(mask, values, 0), np.where(mask[:, None], positions, 1.0), mask, own)
    other = analysed(name)(
        np.where(mask, values, value),
        np.where(mask[:, None], positions, 2.0),
        mask,
        np.where(mask, own, variance),
    )
    assert np.isfinite(other).all()
    close(plain, other)


@pytest.mark.parametrize("name", WITHOUT_DRAWS)
@given(sensors(some_masked=False), st.integers(1, SLOTS // 2), st.sampled_from((2, 4)))
def test_a_sensor_counted_twice_with_twice_the_variance_is_one(name, given_, count, times):
    """Of as many slots as there are, some hold one sensor each, or some hold the same sensor several times."""
    values, positions, _, variance = given_
    count = min(count, SLOTS // times)
    alone = np.arange(SLOTS) < count
    where = np.arange(SLOTS) % count
    repeated = np.arange(SLOTS) < count * times
    once = analysed(name)(values, positions, alone, variance)
    close(once, analysed(name)(values[where], positions[where], repeated, times * variance[where]))


@pytest.mark.parametrize("name", ["enkf", "etkf", "letkf"])
def test_no_sensor_at_all_changes_nothing(name):
    silent = np.zeros(SLOTS), np.ones((SLOTS, 2)), np.zeros(SLOTS, bool), np.ones(SLOTS)
    ensemble = np.asarray(jax.vmap(lambda a: to_physical(GRID, a))(states()))
    close(analysed(name)(*silent), ensemble)
