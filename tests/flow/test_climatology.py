"""Climatology: the moments of its draws, its symmetry, its times, and where its runs come from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import FINE, GRID, TESTBED, quick_jit, states

from jaxsrda.flow import climatology
from jaxsrda.flow.climatology import from_runs, simulate_climatology, training_key
from jaxsrda.flow.grid import ChannelGrid, reflect_hat, regrid_hat, shift_hat
from jaxsrda.flow.jet import truth_key
from jaxsrda.flow.simulate import integrate

COARSE = ChannelGrid(16, 9)


def runs(dtype="float64"):
    return states(dtype).reshape(2, 2, *GRID.spectral_shape)


draw = quick_jit(lambda clim, key, time, members, grid: clim.draw(key, time, members, grid), static_argnums=(3, 4))


def test_the_mean_is_symmetric_and_the_rest_are_anomalies(dtype):
    clim = from_runs(GRID, runs(dtype))
    assert clim.mean.dtype == clim.anomalies.dtype == dtype
    for time in range(2):
        mean = clim.mean[time]
        np.testing.assert_array_equal(mean[1:], 0)
        np.testing.assert_array_equal(reflect_hat(GRID, mean), mean)
        np.testing.assert_allclose(shift_hat(GRID, mean, jnp.asarray(1.3, dtype)), mean)
        # The symmetric mean of the runs and of their mirror images.
        both = jnp.concatenate([runs(dtype)[:, time], jax.vmap(lambda a: reflect_hat(GRID, a))(runs(dtype)[:, time])])
        np.testing.assert_allclose(mean[0], both.mean(0)[0], atol=1e-6)
        np.testing.assert_array_equal(clim.mean_at(time, GRID), mean)
    np.testing.assert_allclose(clim.mean + clim.anomalies, runs(dtype), atol=1e-6)
    assert abs(clim.mean).max() > 1


def test_draws_have_the_moments_of_the_symmetric_law():
    clim, count = from_runs(GRID, runs()), 4000
    for time in range(2):
        drawn = np.asarray(draw(clim, jax.random.key(time), time, count, GRID))
        anomalies = np.asarray(clim.anomalies[:, time])
        power, k = (anomalies**2).mean(0), GRID.kmax
        shared = (power[1 : k + 1] + power[k + 1 :]) / 2  # a shift mixes cosine and sine
        variance = np.concatenate([power[:1], shared, shared])
        error = np.sqrt(variance / count)
        assert abs(drawn.mean(0) / error).max() < 5  # no mean, though the runs have one
        big = variance > 1e-8
        np.testing.assert_allclose((drawn**2).mean(0)[big], variance[big], rtol=0.15)


def test_each_draw_is_one_run_shifted_and_half_the_time_reflected():
    clim = from_runs(GRID, runs())
    drawn = np.asarray(draw(clim, jax.random.key(0), 1, 200, GRID))
    anomalies, k = np.asarray(clim.anomalies[:, 1]), GRID.kmax

    def power(a):  # of each mode, which neither a shift nor a reflection changes
        return np.concatenate([a[..., :1, :] ** 2, a[..., 1 : k + 1, :] ** 2 + a[..., k + 1 :, :] ** 2], -2)

    matches = np.array([[np.allclose(power(d), power(a), atol=1e-10) for a in anomalies] for d in drawn])
    assert np.all(matches.sum(1) == 1) and 60 < matches[:, 0].sum() < 140
    straight = [np.allclose(d[0], anomalies[m.argmax()][0], atol=1e-12) for d, m in zip(drawn, matches)]
    assert 60 < np.sum(straight) < 140
    angles = np.arctan2(drawn[matches[:, 0], k + 1, 0], drawn[matches[:, 0], 1, 0])
    assert abs(np.exp(1j * angles).mean()) < 0.35  # shifted anywhere


def test_draws_on_a_coarser_grid_are_the_same_draws_truncated(dtype):
    clim = from_runs(GRID, runs(dtype))
    fine, coarse = (draw(clim, jax.random.key(2), 0, 5, grid) for grid in (GRID, COARSE))
    assert fine.dtype == coarse.dtype == dtype
    np.testing.assert_allclose(coarse, jax.vmap(lambda a: regrid_hat(GRID, COARSE, a))(fine), atol=1e-6)
    np.testing.assert_allclose(clim.mean_at(1, COARSE), regrid_hat(GRID, COARSE, clim.mean[1]))


def test_times_past_the_last_are_the_last():
    clim, key = from_runs(GRID, runs()), jax.random.key(0)
    last = draw(clim, key, 1, 4, GRID)
    np.testing.assert_array_equal(draw(clim, key, 7, 4, GRID), last)
    assert abs(draw(clim, key, 0, 4, GRID) - last).max() > 0.1
    np.testing.assert_array_equal(clim.mean_at(7, GRID), clim.mean[1])
    assert abs(clim.mean_at(0, GRID) - clim.mean[1]).max() > 1e-3
    assert not np.array_equal(draw(clim, jax.random.key(1), 1, 4, GRID), last)


def test_training_runs_are_runs_from_their_own_seeds():
    flow = dataclasses.replace(TESTBED, frames=8)
    got = simulate_climatology(flow, 2)
    assert got.shape == (2, 3, *GRID.spectral_shape)  # t = 0, 1 and 2
    for run in range(2):
        np.testing.assert_allclose(got[run, 0], flow.start(training_key(run), GRID), atol=1e-12)
    expected = quick_jit(lambda start: integrate(flow, FINE, start, 9).omega_hat)(got[1, 0])
    np.testing.assert_allclose(got[1, 1:], expected[4::4], atol=1e-9)
    others = [jax.random.key_data(key(s)) for key in (training_key, truth_key, jax.random.key) for s in range(3)]
    assert len(np.unique(np.stack(others), axis=0)) == 9
    assert abs(simulate_climatology(flow, 2, seed=1) - got).max() > 1e-3
    # Another cadence has other assimilation times.
    often = simulate_climatology(dataclasses.replace(flow, frames_per_cycle=2), 2)
    assert often.shape[1] == 5
    np.testing.assert_allclose(often[:, ::2], got, atol=1e-12)
    with pytest.raises(ValueError, match="climatology: expected at least 2 runs, got 1"):
        simulate_climatology(flow, 1)


@pytest.mark.parametrize("symmetries", [(), ("shift",), ("reflection",)], ids=str)
def test_a_flow_without_a_symmetry_is_not_moved_by_it(symmetries):
    clim = from_runs(GRID, runs(), symmetries)
    assert clim.symmetries == symmetries
    drawn, k = np.asarray(draw(clim, jax.random.key(0), 1, 60, GRID)), GRID.kmax
    anomalies = np.asarray(clim.anomalies[:, 1])
    whole = [any(np.allclose(d, a, atol=1e-12) for a in anomalies) for d in drawn]
    straight = [any(np.allclose(d[0], a[0], atol=1e-12) for a in anomalies) for d in drawn]
    means = {
        (): runs().mean(0),
        ("shift",): runs().mean(0).at[:, 1:].set(0),
        ("reflection",): (runs().mean(0) + jax.vmap(jax.vmap(lambda a: reflect_hat(GRID, a)))(runs()).mean(0)) / 2,
    }
    np.testing.assert_allclose(clim.mean, means[symmetries], atol=1e-12)
    np.testing.assert_allclose(clim.mean + clim.anomalies, runs(), atol=1e-12)
    if symmetries == ():
        assert all(whole)
    elif symmetries == ("shift",):
        assert not any(whole) and all(straight)  # row 0 feels no shift
    else:
        assert 15 < sum(whole) < 45
        mirrored = [reflect_hat(GRID, a) for a in anomalies]
        assert all(w or any(np.allclose(d, m, atol=1e-12) for m in mirrored) for w, d in zip(whole, drawn))
    assert abs(drawn[:, 1 : k + 1]).max() > 0


def test_a_climatology_passes_through_jit_and_vmap():
    clim = from_runs(GRID, runs())
    leaves, treedef = jax.tree.flatten(clim)
    again = jax.tree.unflatten(treedef, leaves)
    assert len(leaves) == 2 and again.grid == GRID and again.symmetries == clim.symmetries
    keys = jax.random.split(jax.random.key(0), 3)
    together = quick_jit(jax.vmap(lambda key: clim.draw(key, 0, 2, COARSE)))(keys)
    for key, one in zip(keys, together):
        np.testing.assert_allclose(draw(clim, key, 0, 2, COARSE), one, atol=1e-12)
    assert isinstance(clim, climatology.Climatology)
