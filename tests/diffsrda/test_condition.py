"""What the network is told: kriging against linear algebra by hand, sensors on the grid, exact symmetries."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import TESTBED, quick_jit

from jaxsrda.core.records import described, from_json, key_of
from jaxsrda.diffsrda.condition import (
    Conditioning,
    Guess,
    Memory,
    Snapshot,
    at_sensors,
    channels,
    fill,
    krige,
    mirror,
    no_memory,
    remember,
    snapshot,
)
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.testbed import jet
from jaxsrda.observing.observations import Observations

GRID = ChannelGrid(16, 9)
DX, DY = GRID.spacing
RNG = np.random.default_rng(5)
UNITS = Conditioning()
PAPER = Conditioning.of(TESTBED, "paper")
OTHER = Conditioning(frames=3, past=1, kriging_length=0.5, kriging_std=0.8, field_scale=2.0, departure_scale=0.25)
"""Another cadence, another memory and other units."""

each_units = pytest.mark.parametrize("units", [UNITS, OTHER], ids=["five frames", "three frames"])

_kriged = quick_jit(krige, static_argnums=(0, 3))
taken = quick_jit(snapshot, static_argnums=(0, 4))


def kriged(grid, departures, observations, units=UNITS):
    return _kriged(grid, departures, observations, units)


on_grid = quick_jit(at_sensors, static_argnums=0)
filled = quick_jit(fill, static_argnums=0)


def sensors(positions, values=None, mask=None, variance=0.01, dtype="float64"):
    positions = np.atleast_2d(np.asarray(positions, float))
    count = len(positions)
    values = np.linspace(-1, 1, count) if values is None else values
    return Observations(
        jnp.asarray(values, dtype),
        jnp.asarray(positions, dtype),
        jnp.ones(count, bool) if mask is None else jnp.asarray(mask),
        jnp.full(count, variance, dtype),
    )


def scattered(count=7, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([2 * np.pi * rng.random(count), np.pi * rng.random(count)], -1)


def at_points(i, j):
    return np.stack([np.asarray(i) * DX, np.asarray(j) * DY], -1)


# Kriging


def by_hand(departures, positions, variance, units=UNITS):
    """Estimate and relative error variance at each grid point, one linear system at a time (nugget 1e-4 included)."""

    def covariance(a, b):
        across = abs(a[0] - b[0])
        apart = np.hypot(min(across, 2 * np.pi - across), a[1] - b[1])
        return units.kriging_std**2 * np.exp(-apart / units.kriging_length)

    between = np.array([[covariance(a, b) for b in positions] for a in positions])
    between += np.diag(variance + 1e-4 * units.kriging_std**2)
    estimate, error = np.empty(GRID.shape), np.empty(GRID.shape)
    for i, x in enumerate(GRID.x):
        for j, y in enumerate(GRID.y):
            to_point = np.array([covariance((x, y), b) for b in positions])
            weights = np.linalg.solve(between, to_point)
            estimate[i, j] = weights @ departures
            error[i, j] = 1 - weights @ to_point / units.kriging_std**2
    return estimate, error


@each_units
def test_kriging_solves_its_equations(units, dtype):
    positions, departures = scattered(), RNG.normal(size=7)
    variance = np.linspace(0.001, 0.3, 7)
    seen = sensors(positions, dtype=dtype)._replace(variance=jnp.asarray(variance, dtype))
    estimate, error = kriged(GRID, jnp.asarray(departures, dtype), seen, units)
    wanted, wanted_error = by_hand(departures, positions, variance, units)
    assert estimate.dtype == error.dtype == dtype
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(estimate, wanted, atol=tolerance)
    np.testing.assert_allclose(error, wanted_error, atol=tolerance)
    assert wanted_error.min() < 0.5 and abs(wanted).max() > 0.2  # there was something to compare


def test_kriging_interpolates_and_forgets():
    """Through a precise sensor at its grid point; nothing at all far away."""
    estimate, error = kriged(GRID, jnp.array([0.8]), sensors(at_points([3], [4]), variance=1e-10))
    np.testing.assert_allclose(estimate[3, 4], 0.8, rtol=2e-4)
    assert 0 <= error[3, 4] < 3e-4
    # Half of the channel away, in x through the periodic end too.
    np.testing.assert_allclose(estimate[11], 0, atol=1e-4)
    np.testing.assert_allclose(error[11], 1, atol=1e-8)
    np.testing.assert_allclose(estimate[3 + 2], estimate[3 - 2], atol=1e-15)
    np.testing.assert_allclose(estimate[3 + 6], estimate[3 - 6], atol=1e-15)  # −3 is 13
    assert 0.05 < error[4, 4] < error[5, 4] < 1


def test_an_uncertain_sensor_moves_less():
    """One sensor's weight at its own place is 1 / (1 + R/s²)."""
    for variance in (0.01, 0.25, 4.0):
        estimate, error = kriged(GRID, jnp.array([1.0]), sensors(at_points([3], [4]), variance=variance))
        weight = 1 / (1 + variance / UNITS.kriging_std**2 + 1e-4)
        np.testing.assert_allclose([estimate[3, 4], error[3, 4]], [weight, 1 - weight], rtol=1e-10)


def test_masked_sensors_have_no_effect():
    positions, mask = scattered(), np.array([True, False, True, True, False, True, False])
    departures = jnp.asarray(RNG.normal(size=7))
    some = sensors(positions, mask=mask)
    # Whatever stands in the silent slots: another place, no number, no variance.
    other = some._replace(
        positions=jnp.where(mask[:, None], some.positions, some.positions[0]),
        variance=jnp.where(mask, some.variance, 0.0),
    )
    nothing = jnp.where(mask, departures, jnp.nan)
    alone = jax.tree.map(lambda a: a[mask], some)
    for function, tolerance in ((kriged, 1e-13), (on_grid, 1e-15)):
        full = function(GRID, departures, some)
        np.testing.assert_array_equal(function(GRID, nothing, other), full)
        np.testing.assert_allclose(jnp.stack(function(GRID, departures[mask], alone)), jnp.stack(full), atol=tolerance)
        unmasked = function(GRID, departures, some._replace(mask=jnp.ones_like(some.mask)))
        assert abs(jnp.stack(unmasked) - jnp.stack(full)).max() > 0.1


@pytest.mark.parametrize("count", [0, 3])
def test_no_sensors_at_all(count, dtype):
    """No slots, or none that is on: nothing known anywhere."""
    silent = sensors(scattered(count).reshape(count, 2), mask=np.zeros(count, bool), dtype=dtype)
    departures = jnp.full(count, jnp.nan, dtype)
    estimate, error = kriged(GRID, departures, silent)
    np.testing.assert_array_equal(estimate, np.zeros(GRID.shape))
    np.testing.assert_array_equal(error, np.ones(GRID.shape))
    np.testing.assert_array_equal(on_grid(GRID, departures, silent), np.zeros((2, *GRID.shape)))


def test_sensors_at_one_place_share_it(dtype):
    """Two that agree weigh as one of half the variance; exact copies stay finite in either precision."""
    place = at_points([3, 3], [4, 4])
    pair = sensors(place, variance=0.1, dtype=dtype)
    single = sensors(place[:1], variance=0.05 - 0.5e-4 * UNITS.kriging_std**2, dtype=dtype)  # the nugget is halved too
    estimate, error = kriged(GRID, jnp.asarray([0.2, 0.6], dtype), pair)
    wanted, wanted_error = kriged(GRID, jnp.asarray([0.4], dtype), single)
    tolerance = 1e-12 if dtype == "float64" else 1e-6
    np.testing.assert_allclose(estimate, wanted, atol=tolerance)
    np.testing.assert_allclose(error, wanted_error, atol=tolerance)
    many = sensors(np.repeat(place[:1], 40, axis=0), variance=1e-12, dtype=dtype)
    for field in kriged(GRID, jnp.ones(40, dtype), many):
        assert jnp.isfinite(field).all()


# Observations filled in between sensors


def test_filling_passes_through_the_sensors(dtype):
    """Whatever their noise; far from all it is zero, and x is periodic."""
    i, j = np.array([0, 5, 10, 15, 3, 8]), np.array([2, 6, 1, 7, 4, 4])
    seen, values = sensors(at_points(i, j), variance=4.0, dtype=dtype), jnp.asarray(RNG.normal(size=6), dtype)
    field = filled(GRID, values, seen)
    assert field.dtype == dtype
    np.testing.assert_allclose(field[i, j], values, atol=1e-3)
    one = filled(GRID, jnp.ones(1, dtype), sensors(at_points([15], [4]), dtype=dtype))
    np.testing.assert_allclose(one[0, 4], one[14, 4], rtol=1e-5)  # 0 is 16
    assert 1 > one[0, 4] > one[1, 4] > 0.1 and abs(one[7]).max() < 0.01


def test_filling_is_smooth_between_sensors():
    """Eight points a wave on a lattice: two percent of its size are missing at most, and more in kriging."""
    grid = ChannelGrid(32, 17)
    i, j = (a.ravel() for a in np.meshgrid(np.arange(0, 32, 2), np.arange(1, 17, 2), indexing="ij"))
    wave = np.sin(2 * grid.x)[:, None] * np.sin(2 * grid.y)
    at = np.stack([i * grid.spacing[0], j * grid.spacing[1]], -1)
    field = filled(grid, jnp.asarray(wave[i, j]), sensors(at, values=wave[i, j]))
    inside = slice(3, -3)  # outside, near the walls, there are sensors on one side alone
    np.testing.assert_allclose(field[:, inside], wave[:, inside], atol=0.02)
    kriged_wave = kriged(grid, jnp.asarray(wave[i, j]), sensors(at))[0]
    assert abs(kriged_wave - wave)[:, inside].max() > 0.1


def test_filling_needs_a_sensor_that_is_on():
    mask = np.array([True, False, True, True, False, True, False])
    positions, values = scattered(), jnp.asarray(RNG.normal(size=7))
    some = sensors(positions, mask=mask)
    alone = jax.tree.map(lambda a: a[mask], some)
    field = filled(GRID, jnp.where(mask, values, jnp.nan), some)
    np.testing.assert_allclose(field, filled(GRID, values[mask], alone), atol=1e-12)
    for count in (0, 7):
        silent = sensors(positions[:count].reshape(count, 2), mask=np.zeros(count, bool))
        assert not filled(GRID, jnp.full(count, jnp.nan), silent).any()
    many = sensors(np.repeat(at_points([3], [4]), 40, axis=0), dtype="float32")  # at one place: their mean
    values = jnp.linspace(0, 1, 40, dtype="float32")
    np.testing.assert_allclose(filled(GRID, values, many)[3, 4], 0.5, atol=5e-3)


# Sensors on the grid


def test_departures_at_the_nearest_points():
    """Averaged where they fall together, with a flag that says so; x = 2π − a little is x = 0."""
    positions = np.concatenate(
        [
            at_points([2.3, 1.8, 2.0], [5.4, 4.6, 5.0]),  # all nearest to (2, 5)
            at_points([7, 15.7], [0, 8]),  # on a wall; beyond the last column, at the other wall
        ]
    )
    departures = jnp.array([1.0, 2.0, 6.0, -4.0, 0.25])
    value, there = on_grid(GRID, departures, sensors(positions))
    wanted, flag = np.zeros(GRID.shape), np.zeros(GRID.shape)
    wanted[2, 5], wanted[7, 0], wanted[0, 8] = 3, -4, 0.25
    flag[[2, 7, 0], [5, 0, 8]] = 1
    np.testing.assert_allclose(value, wanted, atol=1e-15)
    np.testing.assert_array_equal(there, flag)
    # A silent one counts neither in the sum nor in the number.
    value, there = on_grid(GRID, departures, sensors(positions, mask=[True, True, False, False, True]))
    np.testing.assert_allclose([value[2, 5], value[7, 0]], [1.5, 0])
    np.testing.assert_allclose([there[2, 5], there[7, 0]], [1, 0])


def test_snapshot_measures_from_the_prediction():
    seen = sensors(at_points([2, 9, 12], [3, 6, 2]), values=np.array([1.0, 2.0, jnp.nan]), mask=[True, True, False])
    now = taken(GRID, a_guess(), jnp.array([0.25, 5.0, 0.0]), seen, UNITS)
    value, there = now.sensors
    np.testing.assert_allclose([value[2, 3], value[9, 6], value[12, 2]], [0.75, -3, 0])
    assert there.sum() == 2
    estimate, error = kriged(GRID, jnp.array([0.75, -3, 0]), seen)
    np.testing.assert_allclose(now.departure, estimate, atol=1e-15)
    np.testing.assert_allclose(now.uncertainty, error, atol=1e-15)


# The condition


def a_guess(seed=1, dtype="float64", frames=UNITS.frames):
    rng = np.random.default_rng(seed)
    frames, spread, background = (rng.normal(size=(n, *GRID.shape)) for n in (frames, 2, 1))
    return Guess(*(jnp.asarray(a, dtype) for a in (frames, abs(spread), background[0])))


def a_memory(seed=2, dtype="float64", past=UNITS.past):
    rng = np.random.default_rng(seed)
    earlier = [jnp.asarray(rng.normal(size=(past, *GRID.shape)), dtype) for _ in range(3)]
    return Memory(*earlier, jnp.asarray(rng.normal(size=GRID.shape), dtype), jnp.ones((), dtype))


@functools.partial(quick_jit, static_argnums=4)
def condition(guess, memory, observations, predicted, units=UNITS):
    return channels(GRID, snapshot(GRID, guess, predicted, observations, units), memory, units)


PREDICTED = jnp.asarray(RNG.normal(size=6))
SEEN = sensors(at_points([0, 3, 3, 8, 15, 10], [1, 4, 7, 2, 6, 3]), mask=np.arange(6) != 4, variance=0.05)


@each_units
def test_channels_in_order(units, dtype):
    """Each thing that the network is told, found in its place and scale."""
    guess, memory = a_guess(dtype=dtype, frames=units.frames), a_memory(dtype=dtype, past=units.past)
    seen = jax.tree.map(lambda a: a if a.dtype == bool else a.astype(dtype), SEEN)
    told = condition(guess, memory, seen, PREDICTED.astype(dtype), units)
    assert told.shape == (*GRID.shape, units.channels) and told.dtype == dtype
    now = taken(GRID, guess, PREDICTED.astype(dtype), seen, units)
    planes = [
        *(frame / units.field_scale for frame in guess.frames),
        (guess.background - guess.frames[0]) / units.departure_scale,
        *(deviation / units.departure_scale for deviation in guess.spread),
        now.departure / units.departure_scale,
        now.uncertainty,
        now.sensors[0] / units.departure_scale,
        now.sensors[1],
        *(analysis / units.field_scale for analysis in memory.analyses),
        *(departure / units.departure_scale for departure in memory.departures),
        *memory.uncertainties,
        (memory.ahead - guess.frames[0]) / units.departure_scale,
        np.broadcast_to(np.cos(GRID.y), GRID.shape),
    ]
    assert len(planes) == units.channels == len(units.signs)
    assert set(units.signs) == {1.0, -1.0}
    # Without a forecast of its own there is nothing to say of it.
    silent = condition(guess, memory._replace(known=jnp.zeros((), dtype)), seen, PREDICTED.astype(dtype), units)
    assert not silent[..., units.ahead].any() and told[..., units.ahead].any()
    assert units.ahead == units.channels - 2
    for place, plane in enumerate(planes):
        np.testing.assert_allclose(told[..., place], plane, atol=2e-6, err_msg=f"channel {place}")


def test_shifts_in_x_pass_through():
    """All fields and sensors moved by grid points: so is the condition."""
    told = condition(a_guess(), a_memory(), SEEN, PREDICTED)
    for points in (1, 5):
        moved = jax.tree.map(lambda a, s=points: jnp.roll(a, s, axis=-2) if a.ndim else a, (a_guess(), a_memory()))
        x = (SEEN.positions[:, 0] + points * DX) % (2 * np.pi)
        seen = SEEN._replace(positions=SEEN.positions.at[:, 0].set(x))
        np.testing.assert_allclose(condition(*moved, seen, PREDICTED), jnp.roll(told, points, axis=0), atol=1e-12)


@each_units
def test_reflections_pass_through(units):
    """−ω(x, π − y) of all fields, sensors at π − y of −y: every channel answers by its sign."""
    guess, memory = a_guess(frames=units.frames), a_memory(past=units.past)
    told = condition(guess, memory, SEEN, PREDICTED, units)

    def odd(field):
        return -field[..., ::-1]

    def even(field):
        return field[..., ::-1]

    guess = Guess(odd(guess.frames), even(guess.spread), odd(guess.background))
    memory = Memory(
        odd(memory.analyses), odd(memory.departures), even(memory.uncertainties), odd(memory.ahead), memory.known
    )
    y = np.pi - SEEN.positions[:, 1]
    seen = SEEN._replace(values=-SEEN.values, positions=SEEN.positions.at[:, 1].set(y))
    mirrored = condition(guess, memory, seen, -PREDICTED, units)
    np.testing.assert_allclose(mirrored, jnp.asarray(units.signs) * told[:, ::-1], atol=1e-12)
    np.testing.assert_allclose(mirrored, mirror(told, units), atol=1e-12)
    np.testing.assert_array_equal(mirror(told[None], units)[0], mirror(told, units))
    # No sign is idle: with any of them turned round the two would differ.
    assert (abs(told).max((0, 1)) > 0.1).all()


# The paper's condition


def a_past(dtype="float64"):
    """The memory one time after `SEEN` and the guess number 1, with the start of that forecast."""
    start = a_guess(5).frames[0]
    then = snapshot(GRID, a_guess(1), PREDICTED, SEEN, PAPER)
    return remember(no_memory(GRID, dtype, PAPER.past), then, start, start), start


def test_the_papers_channels_in_order():
    """Forecast at t − 4, t, t + 4, observed maps at t − 4 and t, in units of half the range."""
    memory, start = a_past()
    guess, later = a_guess(7), SEEN._replace(values=SEEN.values[::-1] + 1)
    told = condition(guess, memory, later, PREDICTED, PAPER)
    assert told.shape == (*GRID.shape, PAPER.channels) == (*GRID.shape, 5) and PAPER.past == 1
    assert PAPER.field_scale == (TESTBED.vorticity_range[1] - TESTBED.vorticity_range[0]) / 2
    maps = [filled(GRID, seen.values, seen) for seen in (SEEN, later)]
    planes = [start, guess.frames[0], guess.frames[4], *maps]
    np.testing.assert_allclose(told, jnp.stack(planes, -1) / PAPER.field_scale, atol=1e-12)
    np.testing.assert_allclose(told[..., PAPER.first] * PAPER.field_scale, guess.frames[0], atol=1e-12)
    # What the network sees at a sensor is what that measured, whatever the guess is.
    i, j = (jnp.rint(SEEN.positions / jnp.asarray(GRID.spacing)).astype(int)[SEEN.mask]).T
    for channel, seen in ((3, SEEN), (4, later)):
        np.testing.assert_allclose(told[i, j, channel] * PAPER.field_scale, seen.values[SEEN.mask], atol=1e-3)
    other = condition(guess, memory, later, PREDICTED + 1, PAPER)
    np.testing.assert_array_equal(other, told)


def test_before_the_first_time_the_flow_stands_still():
    told = condition(a_guess(), no_memory(GRID, "float64", 1), SEEN, PREDICTED, PAPER)
    np.testing.assert_array_equal(told[..., 0], told[..., 1])
    np.testing.assert_array_equal(told[..., 3], told[..., 4])
    assert abs(told[..., 0] - told[..., 2]).max() > 0.01 and abs(told[..., 3]).max() > 0.01
    # A time without any sensor is a time: its map is zero.
    silent = SEEN._replace(mask=jnp.zeros_like(SEEN.mask))
    then = taken(GRID, a_guess(3), PREDICTED, silent, PAPER)
    memory = remember(no_memory(GRID, "float64", 1), then, a_guess(3).frames[0])
    told = condition(a_guess(), memory, SEEN, PREDICTED, PAPER)
    assert not told[..., 3].any() and told[..., 4].any() and abs(told[..., 0] - told[..., 1]).max() > 0.01


def test_the_papers_condition_is_mirrored_and_shifted_with_the_flow():
    memory, _ = a_past()
    told = condition(a_guess(), memory, SEEN, PREDICTED, PAPER)
    assert PAPER.signs == (-1.0,) * 5 and PAPER.ahead is None
    y, x = np.pi - SEEN.positions[:, 1], (SEEN.positions[:, 0] + 3 * DX) % (2 * np.pi)

    def moved(function, seen):
        guess = a_guess()
        guess = Guess(function(guess.frames), guess.spread, function(guess.background))
        past = memory._replace(analyses=function(memory.analyses), departures=function(memory.departures))
        return condition(guess, past, seen, PREDICTED, PAPER)

    seen = SEEN._replace(values=-SEEN.values, positions=SEEN.positions.at[:, 1].set(y))
    np.testing.assert_allclose(moved(lambda a: -a[..., ::-1], seen), mirror(told, PAPER), atol=1e-12)
    seen = SEEN._replace(positions=SEEN.positions.at[:, 0].set(x))
    np.testing.assert_allclose(moved(lambda a: jnp.roll(a, 3, axis=-2), seen), jnp.roll(told, 3, axis=0), atol=1e-12)


# Memory


def frame_ahead(guess):
    return 2 * guess.frames[-1]


@pytest.mark.parametrize("past", [UNITS.past, 1, 3])
def test_memory_moves_on(past, dtype):
    blank = no_memory(GRID, dtype, past)
    assert {a.dtype for a in blank} == {np.dtype(dtype)} and {a.shape for a in blank[:3]} == {(past, *GRID.shape)}
    assert not blank.known and not blank.ahead.any()
    assert not blank.analyses.any() and not blank.departures.any() and (blank.uncertainties == 1).all()
    memory, known = blank, [[a[0] for a in blank[:3]]] * past  # oldest first
    for seed in range(past + 1):
        guess = a_guess(seed, dtype)
        now = Snapshot(guess, *(frame + seed for frame in guess.frames[1:3]), guess.frames[3:])
        analysis = guess.frames[0] + 1
        memory = remember(memory, now, analysis, None if seed % 2 else frame_ahead(guess))
        known.append((analysis, now.departure, now.uncertainty))
        assert memory.known == 1 - seed % 2
        np.testing.assert_array_equal(memory.ahead, (1 - seed % 2) * frame_ahead(guess))
        for back in range(past):  # newest first
            for kept, wanted in zip(memory[:3], known[-1 - back][:3]):
                np.testing.assert_array_equal(kept[back], wanted)
    assert jax.tree.map(jnp.shape, memory) == jax.tree.map(jnp.shape, blank)


# Units


def test_the_conditioning_follows_the_testbed():
    """Frames of the cadence, and scales of the flow; the paper's testbed has the plain ones."""
    assert Conditioning.of(jet()) == Conditioning()
    scales = {"field_scale": 2.0, "error_scale": 0.25, "error_length": 0.5}
    units = Conditioning.of(dataclasses.replace(TESTBED, frames_per_cycle=2, **scales))
    assert units == Conditioning(3, 2, 0.5, 0.25, 2.0, 0.25)
    assert len({units, Conditioning(), OTHER}) == 3  # a key of caches
    assert Conditioning.of(TESTBED) != dataclasses.replace(PAPER, preset="full", past=2)  # scaled otherwise


def test_a_preset_that_is_the_default_is_not_said():
    """Caches and files from before there were presets stay valid."""
    before = {"frames", "past", "kriging_length", "kriging_std", "field_scale", "departure_scale"}
    assert set(described(UNITS)) == before and described(PAPER)["preset"] == "paper"
    assert "preset" not in key_of(UNITS) and key_of(PAPER) != key_of(dataclasses.replace(PAPER, preset="full"))
    for units in (UNITS, PAPER):
        assert from_json(Conditioning, json.dumps(described(units))) == units


@pytest.mark.parametrize("frames, past, count", [(5, 2, 20), (3, 2, 18), (2, 1, 14), (3, 1, 15)])
def test_channels_are_counted(frames, past, count):
    """Frames, seven of the guess and the sensors, three for each earlier time, the forecast ahead and cos y."""
    units = Conditioning(frames=frames, past=past)
    assert units.channels == count == frames + 7 + 3 * past + 2 and units.ahead == count - 2
    even = [place for place, sign in enumerate(units.signs) if sign > 0]
    at = frames + 1  # after the frames and the background
    spread, uncertainty, there, past_uncertainties = [at, at + 1], at + 3, at + 5, range(at + 6 + 2 * past, count - 2)
    assert even == [*spread, uncertainty, there, *past_uncertainties]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"frames": 1}, "conditioning: expected 2 frames and 1 earlier time or more"),
        ({"past": 0}, "conditioning: expected 2 frames and 1 earlier time or more"),
        ({"kriging_length": 0.0}, "kriging_length: expected a finite number above 0, got 0.0"),
        ({"kriging_std": -1.0}, "kriging_std: expected a finite number above 0"),
        ({"field_scale": np.inf}, "field_scale: expected a finite number above 0"),
        ({"departure_scale": 0}, "departure_scale: expected a finite number above 0"),
        ({"preset": "papre"}, "conditioning: expected one of full, paper; got 'papre'; did you mean 'paper'"),
        ({"preset": "paper"}, "past: conditioning paper holds one earlier time, expected 1, got 2; take Cond"),
    ],
)
def test_bad_units_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Conditioning(**changes)
