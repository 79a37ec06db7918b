"""Observations keep what they hold through packing, stacking and padding; layouts stay in the channel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID
from hypothesis import given
from hypothesis import strategies as st

from jaxsrda.core import draws
from jaxsrda.observing.layouts import LAYOUTS, parse_layout
from jaxsrda.observing.observations import check_observations, extended, pack, padded, stack

NUMBERS = st.floats(-50, 50, width=32)


@st.composite
def one_time(draw):
    """Values, positions, variances and what is masked, of up to six sensors."""
    count = draw(st.integers(0, 6))
    xs = st.floats(0, 6.25, width=32)
    ys = st.floats(0, 3.125, width=32)
    values, masked = (draw(st.lists(each, min_size=count, max_size=count)) for each in (NUMBERS, st.booleans()))
    positions = draw(st.lists(st.tuples(xs, ys), min_size=count, max_size=count))
    variance = draw(st.lists(st.floats(2**-10, 4, width=32), min_size=count, max_size=count))
    return values, positions, variance, masked


def packed(one, capacity=None):
    values, positions, variance, masked = one
    values = np.ma.masked_array(np.array(values, float), np.array(masked, bool))
    return pack(values, np.array(positions, float).reshape(-1, 2), np.array(variance, float), capacity)


def heard(values, positions, variance, masked):
    """What is not masked, one row a sensor."""
    rows = [(v, *p, r) for v, p, r, hidden in zip(values, positions, variance, masked) if not hidden]
    return np.array(rows).reshape(-1, 4)


def rows(observations):
    """The same of packed observations."""
    mask = np.asarray(observations.mask)
    columns = [observations.values[:, None], observations.positions, observations.variance[:, None]]
    return np.concatenate([np.asarray(each) for each in columns], axis=1)[mask]


@given(one_time(), st.integers(0, 4))
def test_padding_adds_nothing_and_loses_nothing(one, spare):
    plain = packed(one)
    wide = padded(plain, plain.capacity + spare)
    assert wide.capacity == plain.capacity + spare
    for each in (plain, wide, packed(one, plain.capacity + spare)):
        np.testing.assert_array_equal(rows(each), heard(*one))
    assert np.isfinite(wide.values).all() and (np.asarray(wide.variance) > 0).all()


@given(st.lists(st.one_of(st.none(), one_time()), min_size=1, max_size=5), st.integers(0, 3))
def test_stacked_times_are_those_that_went_in(times, more):
    """However many sensors a time has, none at all included; silent times may follow."""
    stacked = check_observations(stack([None if one is None else packed(one) for one in times]))
    assert stacked.values.shape[0] == len(times)
    longer = extended(stacked, len(times) + more)
    assert len(longer.mask) == len(times) + more and not np.asarray(longer.mask[len(times) :]).any()
    for each in (stacked, longer):
        for number, one in enumerate(times):
            got = rows(jax.tree.map(lambda a, number=number: a[number], each))
            np.testing.assert_array_equal(got, heard(*one) if one is not None else np.empty((0, 4)))


@functools.cache
def placed(text):
    """A layout's sensors at a time, as one program, and its capacity."""
    layout = parse_layout(text, GRID)
    return jax.jit(layout.place), layout.capacity


TEXTS = [f"{kind}:3" for kind in LAYOUTS] + ["lattice:1", "track:2+dropout:0.5", "cluster:1+silent:0.5"]


@pytest.mark.parametrize("text", TEXTS)
@given(st.integers(0, 2**32 - 1), st.integers(0, 10**6))
def test_sensors_lie_inside_the_channel(text, seed, time):
    """Whatever the key and the time: on [0, 2π) × (0, π), where no wall is, and as many as the layout says."""
    place, capacity = placed(text)
    fixed, moving = jax.random.split(jax.random.key(seed))
    positions, mask = (np.asarray(a) for a in place(fixed, moving, jnp.int32(time)))
    assert positions.shape == (capacity, 2) and mask.shape == (capacity,) and mask.dtype == bool
    assert (positions[:, 0] >= 0).all() and (positions[:, 0] < 2 * np.pi).all()
    assert (positions[:, 1] > 0).all() and (positions[:, 1] < np.pi).all()
    if text.startswith(("lattice", "random")):
        points = positions[mask]
        assert len(np.unique(points, axis=0)) == len(points)  # no two at one place
        np.testing.assert_allclose(points / GRID.spacing, np.rint(points / GRID.spacing), atol=1e-9)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
@given(st.integers(0, 2**32 - 1))
def test_draws_take_keys_of_any_kind(impl, seed):
    """The same key gives the same numbers, in range; streams by name are apart."""
    key = jax.random.key(seed, impl=impl)
    normal, number = draws.normal(key, (4,), "float32"), draws.integers(key, (4,), 0, 5)
    np.testing.assert_array_equal(normal, draws.normal(key, (4,), "float32"))
    assert np.isfinite(normal).all() and ((number >= 0) & (number < 5)).all()
    other = draws.normal(draws.stream(key, "dropout"), (4,), "float32")
    assert (np.asarray(other) != np.asarray(normal)).any()
