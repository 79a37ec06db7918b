"""Sensor layouts: counts, spacing, what moves and what stays, and names that do not parse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import quick_jit

from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.observing import layouts
from jaxsrda.observing.layouts import parse_layout

GRID = ChannelGrid(128, 65)
named = functools.cache(lambda text: parse_layout(text, GRID))


@functools.cache
def placer(layout, _):
    return quick_jit(jax.vmap(layout.place, in_axes=(None, 0, 0)))


def places(text, times=20, seed=0):
    """Positions (times, p, 2) and masks (times, p) of a layout."""
    layout = named(text) if isinstance(text, str) else text
    fixed, moving = jax.random.split(jax.random.key(seed))
    keys = jax.random.split(moving, times)
    positions, mask = placer(layout, jax.config.jax_enable_x64)(fixed, keys, jnp.arange(times))
    assert positions.shape == (times, layout.capacity, 2) and mask.shape == (times, layout.capacity)
    return np.asarray(positions), np.asarray(mask)


def indices(positions):
    """Grid indices of positions that must be on grid points."""
    index = positions / np.array(GRID.spacing)
    np.testing.assert_allclose(index, np.rint(index), atol=1e-4)
    return np.rint(index).astype(int)


# Lattices


def test_the_lattice_of_the_paper_has_128_sensors_at_every_time():
    positions, mask = places("lattice:8", times=200)
    assert mask.shape == (200, 128) and mask.all()
    index = indices(positions)
    assert index[..., 1].min() >= 1 and index[..., 1].max() <= 63  # never on a wall
    offsets = set()
    for points in index:
        i, j = np.unique(points[:, 0]), np.unique(points[:, 1])
        assert set(map(tuple, points)) == {(a, b) for a in i for b in j}
        assert len(i) == 16 and len(j) == 8 and set(np.diff(i)) == set(np.diff(j)) == {8}
        offsets.add((i[0], j[0]))
    assert {i for i, _ in offsets} == set(range(8)) and {j for _, j in offsets} == set(range(1, 8))
    assert len(offsets) > 40  # drawn apart in x and y


@pytest.mark.parametrize("interval", [1, 4, 6, 8, 12])
@pytest.mark.parametrize("kind", ["lattice", "lattice-fixed"])
def test_lattices_are_all_the_points_of_one_residue(kind, interval):
    positions, mask = places(f"{kind}:{interval}", times=30)
    index, offsets = indices(positions), []
    for points, on in zip(index, mask):
        i, j = points[on][0] % interval
        expected = {(a, b) for a in range(128) for b in range(1, 64) if a % interval == i and b % interval == j}
        assert set(map(tuple, points[on])) == expected and on.sum() == len(expected)
        offsets.append((i, j))
    assert (len(set(offsets)) == 1) == (kind == "lattice-fixed" or interval == 1)
    assert np.all((positions >= 0) & (positions < [2 * np.pi, np.pi]))  # spare slots are inside, too


def test_fixed_lattices_differ_between_truths():
    offsets = {tuple(indices(places("lattice-fixed:8", 1, seed)[0])[0, 0]) for seed in range(8)}
    assert len(offsets) > 4


# Points


def test_random_points_are_distinct_and_inside():
    for kind in ("random-fixed", "random-moving"):
        positions, mask = places(f"{kind}:2000", times=3)
        index = indices(positions)
        assert mask.all()
        assert index[..., 0].min() == 0 and index[..., 0].max() == 127
        assert index[..., 1].min() == 1 and index[..., 1].max() == 63
        for points in index:
            assert len(set(map(tuple, points))) == 2000
        assert np.array_equal(index[0], index[1]) == (kind == "random-fixed")
    everywhere, _ = places("random-moving:8064", times=1)
    assert len(set(map(tuple, indices(everywhere)[0]))) == 128 * 63
    assert not np.array_equal(places("random-fixed:16", 1, 0)[0], places("random-fixed:16", 1, 1)[0])


def test_a_layout_without_sensors():
    positions, mask = places("random-fixed:0", times=2)
    assert positions.shape == (2, 0, 2) and mask.shape == (2, 0)


def test_tracks_cross_the_channel_at_a_slant():
    positions, mask = places("track:4", times=50)
    assert positions.shape == (50, 128, 2) and mask.all()
    x, y = np.moveaxis(positions.reshape(50, 4, 32, 2), -1, 0)
    assert x.min() >= 0 and x.max() < 2 * np.pi
    np.testing.assert_allclose(np.diff(y), np.pi / 32, rtol=1e-4)  # from wall to wall
    assert 0 < y.min() < np.pi / 32 and np.pi * 31 / 32 < y.max() < np.pi
    step = (np.diff(x) + np.pi) % (2 * np.pi) - np.pi
    slant = np.arctan2(step, np.pi / 32)
    np.testing.assert_allclose(slant, slant[..., :1] * np.ones(31), atol=1e-3)
    assert np.all((abs(slant) > np.pi / 6 - 1e-3) & (abs(slant) < np.pi / 3 + 1e-3))
    assert 0.3 < (slant > 0).mean() < 0.7
    assert len(np.unique(x[:, :, 0].round(5))) > 190  # new at each time


def test_clusters_stay_and_stay_inside():
    dy = GRID.spacing[1]
    spread = []
    for seed in range(20):
        positions, mask = places("cluster:4", times=2, seed=seed)
        assert mask.all()
        np.testing.assert_array_equal(positions[0], positions[1])
        x, y = positions[0, :, 0], positions[0, :, 1]
        assert x.min() >= 0 and x.max() < 2 * np.pi and y.min() >= dy - 1e-6 and y.max() <= np.pi - dy + 1e-6
        angle = np.exp(1j * x.reshape(4, 32))
        spread.append(np.angle(angle / angle.mean(1, keepdims=True)).std())
    np.testing.assert_allclose(np.mean(spread), 0.2, rtol=0.05)


def test_own_positions():
    own = layouts.at_positions(np.array([[0.1, 0.2], [6.0, 3.0]]))
    positions, mask = places(own, times=3)
    np.testing.assert_allclose(positions, [[[0.1, 0.2], [6.0, 3.0]]] * 3, rtol=1e-6)
    assert mask.all()
    with pytest.raises(ValueError, match="layout positions: expected 2 dimensions"):
        layouts.at_positions(np.zeros(2))
    for outside in ([7.0, 1.0], [1.0, 3.2], [-0.1, 1.0], [np.nan, 1.0]):
        with pytest.raises(ValueError, match=r"positions: expected .*"):
            layouts.at_positions(np.array([[1.0, 1.0], outside]))


# Dropout


def test_dropout_silences_the_fraction_and_moves_nothing():
    base, _ = places("random-fixed:128", times=50)
    positions, mask = places("random-fixed:128+dropout:0.3", times=50)
    np.testing.assert_array_equal(positions, base)
    assert abs(mask.mean() - 0.7) < 4 * np.sqrt(0.21 / mask.size)
    assert abs(np.corrcoef(mask[0], mask[1])[0, 1]) < 0.35  # drawn anew at each time
    assert places("random-fixed:9+dropout:0", 5)[1].all() and not places("random-fixed:9+dropout:1", 5)[1].any()
    twelve, spare = places("lattice:12+dropout:0.2", times=30)[1], ~places("lattice:12", times=30)[1]
    assert spare.any() and not (twelve & spare).any()  # spare slots stay off


def test_silent_times_are_silent_altogether():
    mask = places("random-fixed:16+silent:0.4", times=60)[1]
    heard = mask.any(axis=1)
    assert (mask.all(axis=1) == heard).all() and 0.4 < heard.mean() < 0.8
    assert not places("random-fixed:9+silent:1", 5)[1].any() and places("random-fixed:9+silent:0", 5)[1].all()


@pytest.mark.parametrize("text", ["lattice:6+dropout:0.5", "random-moving:8", "track:4", "cluster:4"])
def test_the_precision_moves_no_sensor(text):
    wide, wide_mask = places(text, times=5)
    with jax.enable_x64(False):
        narrow, narrow_mask = places(text, times=5)
    assert wide.dtype == "float64" and narrow.dtype == "float32"
    np.testing.assert_allclose(narrow, wide, atol=2e-6)
    np.testing.assert_array_equal(narrow_mask, wide_mask)


@pytest.mark.parametrize("text", ["lattice:6+dropout:0.5", "track:4"])
def test_the_order_of_evaluation_does_not_matter(text):
    together = places(text, times=5)
    fixed, moving = jax.random.split(jax.random.key(0))
    keys, place = jax.random.split(moving, 5), quick_jit(named(text).place)
    for time in (2, 0, 4, 1):
        positions, mask = place(fixed, keys[time], time)
        np.testing.assert_allclose(positions, together[0][time], rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(mask, together[1][time])


# Names


def test_names_come_back():
    for text in ("lattice:8", "lattice-fixed:4", "random-fixed:128", "track:4+dropout:0.5", "cluster:3"):
        assert parse_layout(text, GRID).name == text


@pytest.mark.parametrize(
    "text, message",
    [
        ("latice:8", r"layout: expected one of lattice, .*got 'latice'; did you mean 'lattice'\?"),
        ("", "layout: expected one of"),
        ("lattice", r"layout 'lattice': expected name:number such as lattice:8, got ''"),
        ("lattice:eight", "expected name:number such as lattice:8, got 'eight'"),
        ("lattice:8.5", "expected name:number such as lattice:8, got '8.5'"),
        ("lattice:8+dropout", "expected name:number .*got ''"),
        (
            "lattice:8+dropouts:0.5",
            r"layout modifier: expected one of dropout, silent; got 'dropouts'; did you mean 'dropout'\?",
        ),
        ("lattice:8+", "layout modifier: expected one of dropout, silent; got ''"),
        ("lattice:8+dropout:1.5", "dropout: expected a probability from 0 to 1, got 1.5"),
        ("lattice:8+silent:-1", "silent: expected a probability from 0 to 1, got -1.0"),
        ("lattice:8+dropout:nan", "dropout: expected a probability from 0 to 1, got nan"),
        ("lattice:0", "lattice: expected an interval from 1 to 63, got 0"),
        ("lattice-fixed:64", "lattice: expected an interval from 1 to 63, got 64"),
        ("random-fixed:-1", "random layout: expected 0 to 8064 sensors, got -1"),
        ("random-moving:8065", "random layout: expected 0 to 8064 sensors, got 8065"),
        ("track:0", "track: expected at least 1 track, got 0"),
        ("cluster:0", "cluster: expected at least 1 cluster, got 0"),
    ],
)
def test_bad_names_raise(text, message):
    with pytest.raises(ValueError, match=message):
        parse_layout(text, GRID)
