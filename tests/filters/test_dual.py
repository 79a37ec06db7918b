"""The dual-resolution filter's step against dense linear algebra: numpy, explicit matrices, float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import COARSE, FINE, GRID, held, observed, parameters, quick_jit, setup, states

from jaxsrda.filters import analysis
from jaxsrda.filters.dual import DualState, dual_filter
from jaxsrda.flow.forecasts import to_amplitudes, to_fields
from jaxsrda.flow.grid import regrid_hat
from jaxsrda.observing.geometry import grid_positions

MEMBERS = 4
WIDTH = 0.9
KEY = jax.random.key(1)
SEEN = jax.tree.map(lambda a: a[0], observed(1))
PLAIN = {"localization": WIDTH, "additive": 0.0}


@functools.cache
def start(controls):
    """Controls that differ at every scale, and members that differ at the coarse ones."""
    members = jax.vmap(lambda a: regrid_hat(GRID, COARSE.grid, a))(states())
    return DualState(states()[:controls], members, jnp.int32(0), jnp.ones(()))


@functools.cache
def compiled(controls):
    def step(params, state):
        where = setup()
        return dual_filter(where, held(FINE), held(COARSE), MEMBERS, params, controls).step(KEY, state, SEEN)

    return quick_jit(step)


def stepped(controls=1, **values):
    params = parameters(**PLAIN | values)
    return compiled(controls)(params, start(controls)._replace(inflation=params.inflation))


@functools.cache
def operator():
    """H (p, points): the sensors stand on grid points."""
    dx, dy = GRID.spacing
    i, j = np.rint(np.asarray(SEEN.positions) / [dx, dy]).astype(int).T
    np.testing.assert_allclose(np.stack([GRID.x[i], GRID.y[j]], -1), SEEN.positions, atol=1e-12)
    return np.eye(GRID.nx * GRID.ny)[i * GRID.ny + j]


@functools.cache
def unanalysed(controls):
    """Fields of the controls and of the members' perturbations on the analysis grid."""

    @quick_jit
    def up(state):
        members = state.members_hat - state.members_hat.mean(0)
        fine = jax.vmap(lambda a: regrid_hat(COARSE.grid, GRID, a))(members)
        return to_fields(GRID, state.control_hat), to_fields(GRID, fine)

    return [np.asarray(a).reshape(len(a), -1) for a in up(start(controls))]


def dense(controls, inflation=1.0):
    """Controls (controls, points), perturbations δ before and after (M, points), by explicit matrices."""
    h, r = operator(), np.diag(np.asarray(SEEN.variance))
    assert SEEN.mask.all()
    control, delta = unanalysed(controls)
    delta = inflation * delta
    cov = delta.T @ delta / (MEMBERS - 1)
    here, there = grid_positions(GRID, "float64"), SEEN.positions
    to_sensors, between = (np.asarray(analysis.localization(a, there, jnp.asarray(WIDTH))) for a in (here, there))
    gain = (to_sensors * (cov @ h.T)) @ np.linalg.inv(between * (h @ cov @ h.T) + r)
    # The perturbations of the observations are random; their law is tested with the EnKF, their keys are the step's.
    noise_key, control_key = jax.random.split(KEY, 3)[:2]
    sensed = analysis.Departures(jnp.zeros((2, len(r))), jnp.zeros(len(r)), SEEN.variance)
    noise = np.asarray(analysis.perturbations(noise_key, MEMBERS, sensed))
    own = np.asarray(analysis.perturbations(control_key, controls, sensed)) if controls > 1 else np.zeros((1, len(r)))
    analysed = control + (np.asarray(SEEN.values) + own - control @ h.T) @ gain.T
    return analysed, delta, delta + (noise - delta @ h.T) @ gain.T


def fields(flat):
    return flat.reshape(-1, *GRID.shape)


def check(controls, window, after, control, delta):
    """The window's first frame and the state (models hold what they are given) are those of controls and δ."""
    delta = delta - delta.mean(0)
    owner = np.arange(MEMBERS) % controls
    np.testing.assert_allclose(window.omega[:, 0], fields(control[owner] + delta), atol=1e-9)
    np.testing.assert_allclose(after.control_hat, to_amplitudes(GRID, jnp.asarray(fields(control))), atol=1e-9)
    around = to_amplitudes(GRID, jnp.asarray(fields(control.mean(0) + delta)))
    low = jax.vmap(lambda a: regrid_hat(GRID, COARSE.grid, a))(around)
    np.testing.assert_allclose(after.members_hat, low, atol=1e-9)


@pytest.mark.parametrize("controls", [1, 2])
@pytest.mark.parametrize("inflation", [1.0, 1.6])
def test_the_step_is_the_gain_of_explicit_matrices(controls, inflation):
    """x_c ← x_c + K (y − H x_c), δ ← δ + K (ε − H δ), K = (ρ∘P Hᵀ)(ρ∘H P Hᵀ + R)⁻¹, P = λ² δδᵀ/(M − 1)."""
    after, window = stepped(controls, inflation=inflation)
    control, _, delta = dense(controls, inflation)
    check(controls, window, after, control, delta)
    assert after.time == 1
    # Every factor of the gain shows: the increments are far from zero.
    assert np.abs(control - unanalysed(controls)[0]).max() > 0.3


def test_the_background_is_the_mean_control_and_the_inflated_members():
    _, window = stepped(2, inflation=1.6)
    before = dense(2, 1.6)[1]
    background = unanalysed(2)[0].mean(0)
    np.testing.assert_allclose(window.background, background.reshape(GRID.shape), atol=1e-9)
    sensed = (before + background) @ operator().T
    np.testing.assert_allclose(window.diagnostics.background_observed, sensed, atol=1e-9)


@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_rtps_brings_back_the_spread_of_the_perturbations(alpha):
    after, window = stepped(rtps=alpha, inflation=1.3)
    control, before, delta = dense(1, 1.3)
    delta = delta - delta.mean(0)
    a, b = delta.std(0), before.std(0)
    wanted = delta * np.where(a > 1e-12, 1 + alpha * (b - a) / np.where(a > 1e-12, a, 1), 1)
    check(1, window, after, control, wanted)
    assert (b > 1.2 * a).any()


@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_rtpp_brings_back_the_perturbations(alpha):
    after, window = stepped(rtpp=alpha, inflation=1.3)
    control, before, delta = dense(1, 1.3)
    check(1, window, after, control, (1 - alpha) * delta + alpha * before)
