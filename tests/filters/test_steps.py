"""What filters do besides the analysis: inflation, relaxation, and noise of the climatology of the right time."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import COARSE, FINE, GRID, held, observed, parameters, quick_jit, setup, states

from jaxsrda.filters.controls import climatology, persistence
from jaxsrda.filters.dual import DualState, dual_filter
from jaxsrda.filters.ensemble import EnsembleState, ensemble_filter
from jaxsrda.filters.inflation import adapted
from jaxsrda.flow.climatology import Climatology
from jaxsrda.flow.forecasts import to_amplitudes, to_fields
from jaxsrda.flow.grid import regrid_hat

MEMBERS = 4
KEY = jax.random.key(1)
SEEN = jax.tree.map(lambda a: a[0], observed(1))
SILENT = SEEN._replace(mask=jnp.zeros_like(SEEN.mask))
QUIET = {"localization": 0.9, "additive": 0.0}


def several_times():
    """A climatology whose anomalies at time t are ± sin(x) sin((t + 1) y): shifts and reflections keep their mode."""
    anomalies = np.zeros((2, 3, *GRID.spectral_shape))
    for time in range(3):
        anomalies[0, time, 1, time] = 1
        anomalies[1, time, 1, time] = -1
    mean = np.zeros((3, *GRID.spectral_shape))
    mean[:, 0, 5] = [1, 2, 3]
    return Climatology(jnp.asarray(mean), jnp.asarray(anomalies), GRID)


def where():
    return setup()._replace(climatology=several_times())


def made(method, params, members=MEMBERS):
    """The method with models that hold their states, and a state that it starts a step from."""
    if method == "dual":
        low = jax.vmap(lambda a: regrid_hat(GRID, COARSE.grid, a))(states())
        return dual_filter(where(), held(FINE), held(COARSE), members, params), DualState(
            states()[:1], low, jnp.int32(0), params.inflation
        )
    return ensemble_filter(where(), held(FINE), method, members, params), EnsembleState(
        states(), jnp.int32(0), params.inflation
    )


@functools.cache
def compiled(method, silent):
    def step(params, time):
        assimilator, state = made(method, params)
        return assimilator.step(KEY, state._replace(time=time), SILENT if silent else SEEN)

    return quick_jit(step)


def analysed(method, silent=False, time=0, **values):
    """The ensemble (M, nx, ny) right after a step's analysis, and the state."""
    after, window = compiled(method, silent)(parameters(**QUIET | values), jnp.int32(time))
    return np.asarray(window.omega[:, 0]), after


def anomalies(ensemble):
    return ensemble - ensemble.mean(0)


def background(method):
    """Perturbations before the analysis, not inflated."""
    before = states()
    if method == "dual":
        before = jax.vmap(lambda a: regrid_hat(COARSE.grid, GRID, regrid_hat(GRID, COARSE.grid, a)))(before)
    return anomalies(np.asarray(to_fields(GRID, before)))


# Inflation and relaxation


@pytest.mark.parametrize("method", ["enkf", "etkf", "dual"])
def test_inflation_widens_the_background(method):
    wide, _ = analysed(method, silent=True, inflation=1.7)
    narrow, _ = analysed(method, silent=True)
    np.testing.assert_allclose(anomalies(wide), 1.7 * background(method), atol=1e-9)
    np.testing.assert_allclose(wide.mean(0), narrow.mean(0), atol=1e-9)


@pytest.mark.parametrize("method", ["enkf", "etkf", "dual"])
def test_an_adaptive_inflation_follows_the_departures(method):
    """The step's λ is that of the formula, widens its background, and is where the next step goes on from."""
    _, after = analysed(method, silent=True, inflation=1.2, adaptive=0.5)
    assert after.inflation == 1.2  # nothing was measured
    raw = background(method)
    mean = np.asarray(to_fields(GRID, states()[:1] if method == "dual" else states())).mean(0)
    predicted = setup().observed(jnp.asarray(mean + 1.2 * raw), SEEN)
    params = parameters(**QUIET, inflation=1.2, adaptive=0.5)
    wanted = adapted(params.inflation, predicted, SEEN, params)
    adaptive, after = analysed(method, inflation=1.2, adaptive=0.5)
    np.testing.assert_allclose(after.inflation, wanted, rtol=1e-9)
    assert abs(wanted - 1.2) > 0.05
    same, _ = analysed(method, inflation=float(wanted))
    np.testing.assert_allclose(adaptive, same, atol=1e-9)


@pytest.mark.parametrize("method", ["enkf", "etkf", "dual"])
def test_rtps_in_the_step_gives_the_spread_between_background_and_analysis(method):
    plain, _ = analysed(method, inflation=1.2)
    relaxed, _ = analysed(method, inflation=1.2, rtps=0.6)
    wanted = 0.4 * plain.std(0) + 0.6 * 1.2 * background(method).std(0)
    np.testing.assert_allclose(relaxed.std(0), wanted, atol=1e-9)
    np.testing.assert_allclose(relaxed.mean(0), plain.mean(0), atol=1e-9)
    assert np.abs(relaxed.std(0) - plain.std(0)).max() > 0.05


@pytest.mark.parametrize("method", ["enkf", "etkf", "dual"])
def test_rtpp_in_the_step_mixes_the_perturbations(method):
    plain, _ = analysed(method, inflation=1.2)
    relaxed, _ = analysed(method, inflation=1.2, rtpp=0.6)
    wanted = plain.mean(0) + 0.4 * anomalies(plain) + 0.6 * 1.2 * background(method)
    np.testing.assert_allclose(relaxed, wanted, atol=1e-9)
    assert np.abs(relaxed - plain).max() > 0.1


# Climatological noise


@pytest.mark.parametrize("method", ["enkf", "dual"])
@pytest.mark.parametrize("time", [0, 1, 2, 7])
def test_additive_noise_is_the_climatologys_of_the_states_time(method, time):
    """At time t it has the mode l = t + 1 alone; times past the last are the last."""
    plain, _ = analysed(method, time=time)
    noisy, after = analysed(method, time=time, additive=0.3)
    noise = np.asarray(to_amplitudes(GRID, jnp.asarray(noisy - plain)))
    mode = min(time, 2)
    assert np.abs(noise[:, 1:, mode]).max() > 0.1
    rest = noise.copy()
    rest[..., mode] = 0
    np.testing.assert_allclose(rest, 0, atol=1e-9)
    np.testing.assert_allclose(noise.mean(0), 0, atol=1e-9)  # it moves no mean
    assert after.time == time + 1


@pytest.mark.parametrize("method", ["enkf", "dual"])
@pytest.mark.parametrize("additive", [0.05, 0.3, 2.0])
def test_additive_noise_is_linear_in_its_amplitude(method, additive):
    """A standard deviation, not a variance: additive × (draw − mean of the draws)."""
    plain, _ = analysed(method, time=1)
    noisy, _ = analysed(method, time=1, additive=additive)
    key = jax.random.split(KEY, 2)[1] if method == "enkf" else jax.random.split(KEY, 3)[2]
    draws = np.asarray(to_fields(GRID, several_times().draw(key, 1, MEMBERS, GRID)))
    np.testing.assert_allclose(noisy - plain, additive * anomalies(draws), atol=1e-9)


@pytest.mark.parametrize("method", ["enkf", "dual"])
def test_the_start_is_spread_by_the_climatology_of_the_first_time(method):
    def starts(initial):
        state = made(method, parameters(initial=initial))[0].init(KEY)
        return state.members_hat if method == "dual" else state.omega_hat

    none, some, more = (np.asarray(quick_jit(starts)(jnp.asarray(a))) for a in (0.0, 0.2, 0.6))
    noise = some - none
    assert np.abs(noise[:, 1:, 0]).max() > 0.05
    noise[..., 0] = 0
    np.testing.assert_allclose(noise, 0, atol=1e-12)
    np.testing.assert_allclose(more - none, 3 * (some - none), atol=1e-12)


@pytest.mark.parametrize("time", [0, 2])
def test_controls_draw_from_the_climatology_of_their_time(time):
    mode, at = time, jnp.int32(time)
    later, window = quick_jit(climatology(where(), MEMBERS).step)(KEY, at, SEEN)
    drawn = np.array(to_amplitudes(GRID, window.omega[:, 0]))
    assert later == time + 1 and np.abs(drawn[:, 1:, mode]).max() > 0.1
    np.testing.assert_allclose(drawn[:, 0, 5], time + 1, atol=1e-9)  # the mean of that time
    drawn[:, :, mode], drawn[:, 0, 5] = 0, 0
    np.testing.assert_allclose(drawn, 0, atol=1e-9)
    method = persistence(where(), MEMBERS, parameters(**QUIET))
    after, window = quick_jit(method.step)(KEY, EnsembleState(states()[:1], at, jnp.ones(())), SILENT)
    held_about = np.array(to_amplitudes(GRID, window.omega[:, 0])) - np.asarray(states()[:1])
    assert after.time == time + 1 and np.abs(held_about[:, 1:, mode]).max() > 0.1
    held_about[:, :, mode] = 0
    np.testing.assert_allclose(held_about, 0, atol=1e-9)


def test_anomalies_are_moved_by_the_symmetries_they_have_and_no_others():
    clim = several_times()
    rows = [1, GRID.kmax + 1]  # cos x and sin x: a shift turns the pair, and keeps its length
    draws = np.asarray(clim.draw(KEY, 0, 200, GRID))[:, rows, 0]
    np.testing.assert_allclose((draws**2).sum(-1), 1, atol=1e-6)
    assert np.abs(draws.mean(0)).max() < 0.2 and np.abs(draws[:, 1]).max() > 0.9
    still = np.asarray(dataclasses.replace(clim, symmetries=()).draw(KEY, 0, 50, GRID))[:, rows, 0]
    np.testing.assert_allclose(np.abs(still[:, 0]), 1, atol=1e-12)
    np.testing.assert_allclose(still[:, 1], 0, atol=1e-12)
