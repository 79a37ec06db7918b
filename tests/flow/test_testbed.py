"""The ocean jet: forcing and initial states against their formulas, and runs of frames."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrda.flow import jet as jet_module
from jaxsrda.flow import simulate, testbed
from jaxsrda.flow.grid import ChannelGrid, bases, shift_hat, to_physical, velocity
from jaxsrda.flow.jet import JetConfig
from jaxsrda.flow.solver import stepper
from jaxsrda.flow.testbed import FRAME, LEVELS, Level

LR, HR = LEVELS["lr"], LEVELS["hr"]
COARSE, FINE = testbed.level_grid(LR), testbed.level_grid(HR)
QUIET = JetConfig(perturbation=0.0)


def state(seed=0, grid=COARSE, **options):
    return jet_module.initial_state(jax.random.key(seed), grid, **options)


# The jet


def test_forcing_formula():
    # F = −∂(τ0 sech²(s))/∂y = (2 τ0 / w) sech²(s) tanh(s), s = (y − π/2)/w.
    s = (FINE.y - np.pi / 2) / 0.4
    expected = 2 * 0.3 / 0.4 / np.cosh(s) ** 2 * np.tanh(s)
    forcing = np.asarray(testbed.flow_params(HR).forcing) @ bases(FINE).sine
    # The slope of sech² at the walls, 0.005, is what a sine series cannot hold.
    np.testing.assert_allclose(forcing, expected, atol=0.01 * expected.max())
    np.testing.assert_allclose(forcing[10:-10], expected[10:-10], atol=2e-3 * expected.max())
    assert np.all(forcing[FINE.y < 1.5] < 1e-3) and forcing.max() > 0.5  # antisymmetric, positive to the north
    double = testbed.flow_params(HR, JetConfig(forcing=0.6, width=0.4)).forcing
    np.testing.assert_allclose(double, 2 * testbed.flow_params(HR).forcing)


def test_flow_params_hold_the_levels_numbers(dtype):
    params = testbed.flow_params(HR, dtype=dtype)
    np.testing.assert_allclose([params.beta, params.drag, params.viscosity], [0.1, 1e-2, 1e-5], rtol=1e-6)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    fine = testbed.flow_params(LEVELS["fine"])
    assert float(fine.viscosity) == 2e-6 and fine.forcing.shape == (85,)
    assert testbed.flow_params(LR).beta.dtype == "float64"  # JAX's default float, x64 being on


def test_initial_jet(dtype):
    omega_hat = jet_module.initial_state(jax.random.key(0), FINE, QUIET, dtype)
    u, v = (np.asarray(field) for field in velocity(FINE, omega_hat))
    profile = u[0]
    np.testing.assert_allclose(u, np.broadcast_to(profile, u.shape), atol=1e-5)
    np.testing.assert_allclose(v, 0, atol=1e-5)
    # Eastward, of speed 3 at the centre against the walls; without its mean (0.8/π · 3) it runs at 2.24.
    jet = 3 / np.cosh((FINE.y - np.pi / 2) / 0.4) ** 2
    np.testing.assert_allclose(profile - profile.mean(), jet - jet.mean(), atol=2e-2)
    assert profile.argmax() == 32 and 2.95 < profile.max() - profile.min() < 3.01
    assert abs(profile.max() - 3 * (1 - 0.8 / np.pi)) < 0.02


# The perturbation


def expected_variance(grid):
    """Variance (lmax,) of the amplitudes of each column in the rows k ≥ 1, in units of 0.0025².

    Σ a sin(kx + ly + φ) over ±k, ±l gives each row four terms a cos φ sin ly + a sin φ cos ly, up to
    signs, of variance 1/2 (φ spreads over many turns), and cos ly projects on many sines.
    """
    l = np.arange(1, grid.ny // 3 + 1)  # noqa: E741
    of_sine = np.sin(np.outer(l, grid.y)) @ bases(grid).sine_inv
    of_cosine = np.cos(np.outer(l, grid.y)) @ bases(grid).sine_inv
    return 4 * 0.5 * (of_sine**2 + of_cosine**2).sum(0)


@pytest.mark.parametrize("grid", [COARSE, ChannelGrid(24, 21)], ids=str)
def test_statistics_of_the_perturbation(grid):
    config = JetConfig(speed=0.0)
    keys = jax.random.split(jax.random.key(3), 400)
    draw = jax.jit(jax.vmap(lambda key: jet_module.initial_state(key, grid, config)))
    states = np.asarray(draw(keys)) / 0.0025
    assert np.abs(states[:, 0]).max() < 1e-10  # k = 0 is not perturbed
    rows = states[:, 1:]
    for part in (rows[:, : grid.kmax], rows[:, grid.kmax :]):  # cosines, sines
        variance = (part**2).mean((0, 1))
        # 400 × kmax draws a column: 2.5 % of standard error.
        np.testing.assert_allclose(variance, expected_variance(grid), rtol=0.12)
        np.testing.assert_allclose((part**2).mean() / expected_variance(grid).mean(), 1, rtol=0.03)
        assert abs(part.mean()) < 5 * part.std() / np.sqrt(part.size)
    across = np.corrcoef(rows[:, 0, 0], rows[:, grid.kmax, 0])[0, 1]
    assert abs(across) < 0.2
    np.testing.assert_allclose(rows[:, 0].var(0), rows[:, -1].var(0), rtol=0.5)  # alike for all k


def test_perturbation_scales_and_adds_to_the_jet():
    plain, jet = state(config=JetConfig(speed=0.0)), state(config=QUIET)
    np.testing.assert_allclose(state(), plain + jet, atol=1e-14)
    np.testing.assert_allclose(state(config=JetConfig(speed=0.0, perturbation=0.005)), 2 * plain, atol=1e-14)


def test_perturbation_is_that_of_its_formula():
    """The sum over signed wavenumbers, term by term, from the same draws."""
    grid, key = ChannelGrid(12, 10), jax.random.key(5)
    k, l = np.array([1, 2, 3, 4, -1, -2, -3, -4]), np.array([1, 2, 3, -1, -2, -3])  # noqa: E741
    amplitude_key, phase_key = jax.random.split(key)
    a = 0.0025 * np.asarray(jax.random.normal(amplitude_key, (8, 6)))
    phase = np.pi * np.asarray(jax.random.normal(phase_key, (8, 6)))
    field = np.zeros(grid.shape)
    for i in range(8):
        for j in range(6):
            field += a[i, j] * np.sin(k[i] * grid.x[:, None] + l[j] * grid.y + phase[i, j])
    expected = bases(grid).fourier_inv @ field @ bases(grid).sine_inv
    np.testing.assert_allclose(jet_module.initial_state(key, grid, JetConfig(speed=0.0)), expected, atol=1e-15)


def test_states_are_set_by_their_key(dtype):
    first = state(1, dtype=dtype)
    assert first.dtype == dtype and first.shape == COARSE.spectral_shape
    np.testing.assert_array_equal(first, state(1, dtype=dtype))
    assert np.abs(first - state(2, dtype=dtype)).max() > 1e-3
    np.testing.assert_allclose(jax.jit(lambda key: jet_module.initial_state(key, COARSE, dtype=dtype))(jax.random.key(1)),
                               first, atol=1e-5)  # fmt: skip
    draws = [jax.random.key_data(jet_module.truth_key(seed)).tolist() for seed in range(50)]
    assert len({tuple(data) for data in draws}) == 50
    assert draws[3] == jax.random.key_data(jet_module.truth_key(3)).tolist()
    assert all(tuple(data) != tuple(jax.random.key_data(jax.random.key(i)).tolist()) for i, data in enumerate(draws))


# Runs


def test_the_start_counts_as_a_frame(dtype):
    start = state(dtype=dtype)
    run = simulate.integrate(LR, start, 3)
    assert run.omega_hat.shape == (3, *COARSE.spectral_shape) and run.speeds.rate.shape == (3,)
    assert run.omega_hat.dtype == run.speeds.speed.dtype == dtype
    np.testing.assert_array_equal(run.omega_hat[0], start)
    step = jax.jit(stepper("etdrk4", COARSE, testbed.flow_params(LR, dtype=dtype), FRAME / LR.steps))
    expected = start
    for _ in range(LR.steps):
        expected = step(expected)
    np.testing.assert_allclose(run.omega_hat[1], expected, atol={"float32": 2e-5, "float64": 1e-12}[dtype])
    only = simulate.integrate(LR, start, 1)
    np.testing.assert_array_equal(only.omega_hat, start[None])
    u, v = velocity(COARSE, run.omega_hat[2])
    np.testing.assert_allclose(run.speeds.speed[2], np.sqrt(u * u + v * v).max(), rtol=1e-5)
    rate = (COARSE.kmax * abs(u) + COARSE.lmax * abs(v)).max()
    np.testing.assert_allclose(run.speeds.rate[2], rate, rtol=1e-5)


def test_simulate_is_integrate_over_a_batch(dtype):
    starts = jax.vmap(lambda seed: state(seed, dtype=dtype))(jnp.arange(3))
    runs = simulate.simulate(LR, starts, 5)
    assert runs.shape == (3, 5, *COARSE.spectral_shape) and runs.dtype == dtype
    alone = jax.jit(lambda start: simulate.integrate(LR, start, 5).omega_hat)
    for start, run in zip(starts, runs):
        one = alone(start)
        np.testing.assert_allclose(run, one, atol={"float32": 2e-4, "float64": 1e-11}[dtype])
    # The level's own step is the default, its own physics too.
    params = testbed.flow_params(LR, dtype=dtype)
    np.testing.assert_array_equal(simulate.simulate(LR, starts, 5, params, "etdrk4", LR.steps), runs)
    calm = testbed.flow_params(LR, JetConfig(drag=1.0), dtype)
    assert np.abs(simulate.simulate(LR, starts, 5, calm)[:, -1] - runs[:, -1]).max() > 0.1


def test_restarted_run_continues():
    runs = simulate.simulate(LR, state()[None], 5)
    again = simulate.simulate(LR, runs[:, 2], 3, start=0.5)
    np.testing.assert_allclose(again, runs[:, 2:], atol=1e-11)


def test_default_steps():
    assert testbed.default_steps(HR) == 25 and testbed.default_steps(HR, "rk2") == 2000
    assert FRAME / HR.rk2_steps == 1.25e-4 and FRAME / LR.rk2_steps == 5e-4


def test_wrong_calls_raise():
    start = state()
    for run in (lambda n: simulate.integrate(LR, start, n), lambda n: simulate.simulate(LR, start[None], n)):
        with pytest.raises(ValueError, match=r"frames: expected at least 1 \(the start counts as one\), got 0"):
            run(0)
    for steps in (0, -5):
        with pytest.raises(ValueError, match=f"steps: expected at least 1 time step a frame, got {steps}"):
            simulate.integrate(LR, start, 2, steps=steps)
        with pytest.raises(ValueError, match=f"steps: expected at least 1 time step a frame, got {steps}"):
            simulate.simulate(LR, start[None], 2, steps=steps)
    with pytest.raises(ValueError, match=r"omega_hat: expected 2 dimensions \(21, 10\).*jax\.vmap"):
        simulate.integrate(LR, start[None], 2)
    with pytest.raises(ValueError, match=r"omega_hat: expected 3 dimensions \(any, 21, 10\), got shape \(21, 10\)"):
        simulate.simulate(LR, start, 2)
    with pytest.raises(ValueError, match=r"omega_hat: expected shape \(any, 85, 42\), got \(1, 21, 10\)"):
        simulate.simulate(HR, start[None], 2)


def test_to_level():
    omega_hat = state(grid=FINE)
    omega = np.asarray(to_physical(FINE, omega_hat))
    block = simulate.to_level(HR, LR, omega_hat, "block")
    np.testing.assert_allclose(block[:, :-1], omega[:, :-1].reshape(32, 4, 16, 4).mean((1, 3)), atol=1e-12)
    # The spectral way commutes with a shift by whole coarse cells, and is no shift itself.
    moved = simulate.to_level(HR, LR, shift_hat(FINE, omega_hat, jnp.asarray(3 * COARSE.spacing[0])))
    low = np.asarray(simulate.to_level(HR, LR, omega_hat))
    np.testing.assert_allclose(moved, np.roll(low, 3, 0), atol=1e-12)
    assert np.abs(low - omega[::4, ::4]).max() < np.abs(block - omega[::4, ::4]).max()


def test_a_level_of_ones_own():
    own = Level("own", 48, 25, 3e-5, steps=15, rk2_steps=800)
    run = simulate.simulate(own, state(grid=testbed.level_grid(own))[None], 5)
    fine = simulate.simulate(own, run[:, 0], 5, steps=60)
    assert np.abs(run - fine).max() < 1e-3 and np.abs(run[0, 4] - run[0, 0]).max() > 1e-2


@pytest.mark.slow
def test_a_hundred_seeds_stay_finite_for_24_time_units():
    for first in range(0, 100, 25):
        keys = jax.vmap(jet_module.truth_key)(jnp.arange(first, first + 25))
        starts = jax.vmap(lambda key: jet_module.initial_state(key, FINE, dtype="float32"))(keys)
        runs = simulate.simulate(HR, starts, 97)  # raises UnstableStepError otherwise
        fields = jax.jit(jax.vmap(lambda omega_hat: to_physical(FINE, omega_hat)))(runs[:, -1])
        assert np.isfinite(runs).all()
        assert 6 < np.abs(fields).max() < 20
