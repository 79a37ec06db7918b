"""Forecast models: the way between their states and the analysis grid, and that a forecast is the level's run."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import COARSE, FINE, GRID, TESTBED, quick_jit, states

from jaxsrda.flow.forecasts import over_leading, recentre, spectral, to_amplitudes, to_fields
from jaxsrda.flow.grid import regrid, regrid_hat, to_physical, to_spectral
from jaxsrda.flow.simulate import integrate

LEVELS = pytest.mark.parametrize("level", [COARSE, FINE], ids=["lr", "hr"])
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def states_of(level, dtype="float64"):
    return jax.vmap(lambda a: regrid_hat(GRID, level.grid, a))(states(dtype))


@functools.cache
def fields():
    """Fields with modes that no level keeps."""
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, *GRID.shape)))


@LEVELS
def test_a_state_comes_back_from_the_analysis_grid(level, dtype):
    model, given = spectral(TESTBED, level), states_of(level, dtype)
    up = model.to_analysis_grid(given)
    assert model.grid == level.grid and up.shape == (4, *GRID.shape) and up.dtype == dtype
    np.testing.assert_allclose(model.from_analysis_grid(up), given, atol=TOLERANCE[dtype])
    # Up and down again is a projection: of what a level holds nothing is lost.
    once = model.to_analysis_grid(model.from_analysis_grid(fields().astype(dtype)))
    twice = model.to_analysis_grid(model.from_analysis_grid(once))
    assert abs(once - fields().astype(dtype)).max() > 0.1
    np.testing.assert_allclose(twice, once, atol=TOLERANCE[dtype])


@LEVELS
@pytest.mark.parametrize("upsampling", ["spectral", "bicubic"])
def test_the_ways_are_linear_and_take_leading_axes(level, upsampling):
    model = spectral(TESTBED, level, upsampling)
    a, b = states_of(level)[:2]
    for way, x, y in ((model.to_analysis_grid, a, b), (model.from_analysis_grid, *fields()[0, :2])):
        np.testing.assert_allclose(way(2 * x - 3 * y), 2 * way(x) - 3 * way(y), atol=1e-11)
    together = model.from_analysis_grid(fields())
    assert together.shape == (2, 3, *level.grid.spectral_shape)
    np.testing.assert_allclose(together[1, 2], model.from_analysis_grid(fields()[1, 2]), atol=1e-12)
    np.testing.assert_allclose(together[1, 2], regrid_hat(GRID, level.grid, to_spectral(GRID, fields()[1, 2])))
    both = model.to_analysis_grid(together)
    np.testing.assert_allclose(both[1, 2], model.to_analysis_grid(together[1, 2]), atol=1e-12)


def test_upsampling():
    given, own = states_of(COARSE), COARSE.grid
    exact, cubic = (spectral(TESTBED, COARSE, name).to_analysis_grid(given) for name in ("spectral", "bicubic"))
    for field, a, b in zip(jax.vmap(lambda s: to_physical(own, s))(given), exact, cubic):
        np.testing.assert_allclose(a, regrid(own, GRID, field), atol=1e-12)
        np.testing.assert_allclose(b, regrid(own, GRID, field, "bicubic"), atol=1e-12)
    assert abs(exact - cubic).max() > 1e-2
    # Without another grid there is no way up to choose.
    same = [spectral(TESTBED, FINE, name).to_analysis_grid(states()) for name in ("spectral", "bicubic")]
    np.testing.assert_array_equal(*same)
    with pytest.raises(ValueError, match=r"upsampling: expected one of .*got 'cubic'"):
        spectral(TESTBED, COARSE, "cubic")


@pytest.mark.parametrize("every", [4, 2])
def test_a_forecast_is_the_levels_run(every):
    flow = dataclasses.replace(TESTBED, frames_per_cycle=every)
    given = states_of(COARSE)[:2]
    ahead = quick_jit(spectral(flow, COARSE).forecast)(given)
    assert ahead.frames.shape == (2, every, *COARSE.grid.spectral_shape) and ahead.speeds.rate.shape == (every + 1,)
    run = quick_jit(jax.vmap(lambda state: integrate(flow, COARSE, state, every + 1)))(given)
    np.testing.assert_allclose(ahead.frames, run.omega_hat[:, :every], atol=1e-10)
    np.testing.assert_allclose(ahead.ahead, run.omega_hat[:, every], atol=1e-10)
    np.testing.assert_allclose(ahead.speeds.speed, run.speeds.speed.max(0), rtol=1e-9)
    np.testing.assert_array_equal(ahead.frames[:, 0], given)


def test_first_members_are_first_states_of_the_testbed(dtype):
    model = spectral(TESTBED, COARSE)
    members = quick_jit(lambda key: model.initial(key, 3, dtype))(jax.random.key(5))
    assert members.shape == (3, *COARSE.grid.spectral_shape) and members.dtype == dtype
    for key, member in zip(jax.random.split(jax.random.key(5), 3), members):
        np.testing.assert_allclose(member, TESTBED.start(key, COARSE.grid, dtype), atol=1e-5)
    assert abs(members[0] - members[1]).max() > 1e-4


def test_helpers_of_forecasts():
    given = states().reshape(2, 2, *GRID.spectral_shape)
    up = to_fields(GRID, given)
    np.testing.assert_allclose(up[1, 0], to_physical(GRID, given[1, 0]), atol=1e-12)
    np.testing.assert_allclose(to_amplitudes(GRID, up), given, atol=1e-12)
    np.testing.assert_allclose(to_fields(GRID, given[0, 0]), up[0, 0], atol=1e-12)  # no leading axis is one of length 1
    assert over_leading(lambda f: f[:2, :3], up).shape == (2, 2, 2, 3)
    moved = recentre(given, jnp.asarray(0.5))
    np.testing.assert_allclose(moved.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(moved[0] - moved[1], (given[0] - given[1]) / 2, atol=1e-12)
