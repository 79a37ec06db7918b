"""The ocean jet and other testbeds: forcing and first states against their formulas, runs of frames, and the value."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import TESTBED, quick_jit, states

from jaxsrda.core import draws
from jaxsrda.core.records import key_of
from jaxsrda.flow import simulate
from jaxsrda.flow import testbed as testbeds
from jaxsrda.flow.grid import ChannelGrid, bases, enstrophy, regrid, regrid_hat, shift_hat, to_physical, velocity
from jaxsrda.flow.jet import Physics, initial_state, sech2, truth_key
from jaxsrda.flow.solver import stepper
from jaxsrda.flow.testbed import SYMMETRIES, TESTBEDS, Level, jet, jet_small

JET = jet()
LR, HR = JET.level("lr"), JET.level("hr")
COARSE, FINE = LR.grid, HR.grid
QUIET = Physics(perturbation=0.0)


def state(seed=0, grid=COARSE, **options):
    return initial_state(jax.random.key(seed), grid, **options)


# The jet


def test_forcing_formula():
    # F = −∂(τ0 sech²(s))/∂y = (2 τ0 / w) sech²(s) tanh(s), s = (y − π/2)/w.
    s = (FINE.y - np.pi / 2) / 0.4
    expected = 2 * 0.3 / 0.4 / np.cosh(s) ** 2 * np.tanh(s)
    forcing = np.asarray(JET.flow_params(HR).forcing) @ bases(FINE).sine
    # The slope of sech² at the walls, 0.005, is what a sine series cannot hold.
    np.testing.assert_allclose(forcing, expected, atol=0.01 * expected.max())
    np.testing.assert_allclose(forcing[10:-10], expected[10:-10], atol=2e-3 * expected.max())
    assert np.all(forcing[FINE.y < 1.5] < 1e-3) and forcing.max() > 0.5  # antisymmetric, positive to the north
    double = JET.vary(forcing=0.6, width=0.4).flow_params(HR).forcing
    np.testing.assert_allclose(double, 2 * JET.flow_params(HR).forcing)


def test_flow_params_hold_the_levels_numbers(dtype):
    params = JET.flow_params(HR, dtype=dtype)
    np.testing.assert_allclose([params.beta, params.drag, params.viscosity], [0.1, 1e-2, 1e-5], rtol=1e-6)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    fine = JET.flow_params(JET.truth)
    assert float(fine.viscosity) == 2e-6 and fine.forcing.shape == (85,)
    assert JET.flow_params(LR).beta.dtype == "float64"  # JAX's default float, x64 being on


def test_initial_jet(dtype):
    omega_hat = initial_state(jax.random.key(0), FINE, QUIET, dtype=dtype)
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
    physics = Physics(speed=0.0)
    keys = jax.random.split(jax.random.key(3), 400)
    draw = jax.jit(jax.vmap(lambda key: initial_state(key, grid, physics)))
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
    plain, jet = state(physics=Physics(speed=0.0)), state(physics=QUIET)
    np.testing.assert_allclose(state(), plain + jet, atol=1e-14)
    np.testing.assert_allclose(state(physics=Physics(speed=0.0, perturbation=0.005)), 2 * plain, atol=1e-14)


def test_perturbation_is_that_of_its_formula():
    """The sum over signed wavenumbers, term by term, from the same draws."""
    grid, key = ChannelGrid(12, 10), jax.random.key(5)
    k, l = np.array([1, 2, 3, 4, -1, -2, -3, -4]), np.array([1, 2, 3, -1, -2, -3])  # noqa: E741
    amplitude_key, phase_key = jax.random.split(key)
    a = 0.0025 * np.asarray(draws.normal(amplitude_key, (8, 6)))
    phase = np.pi * np.asarray(draws.normal(phase_key, (8, 6)))
    field = np.zeros(grid.shape)
    for i in range(8):
        for j in range(6):
            field += a[i, j] * np.sin(k[i] * grid.x[:, None] + l[j] * grid.y + phase[i, j])
    expected = bases(grid).fourier_inv @ field @ bases(grid).sine_inv
    np.testing.assert_allclose(initial_state(key, grid, Physics(speed=0.0)), expected, atol=1e-15)


def test_states_are_set_by_their_key(dtype):
    first = state(1, dtype=dtype)
    assert first.dtype == dtype and first.shape == COARSE.spectral_shape
    np.testing.assert_array_equal(first, state(1, dtype=dtype))
    assert np.abs(first - state(2, dtype=dtype)).max() > 1e-3
    jitted = jax.jit(lambda key: initial_state(key, COARSE, dtype=dtype))
    np.testing.assert_allclose(jitted(jax.random.key(1)), first, atol=1e-5)
    keys = [jax.random.key_data(truth_key(seed)).tolist() for seed in range(50)]
    assert len({tuple(data) for data in keys}) == 50
    assert keys[3] == jax.random.key_data(truth_key(3)).tolist()
    assert all(tuple(data) != tuple(jax.random.key_data(jax.random.key(i)).tolist()) for i, data in enumerate(keys))


# Runs


def test_the_start_counts_as_a_frame(dtype):
    start = state(dtype=dtype)
    run = simulate.integrate(JET, LR, start, 3)
    assert run.omega_hat.shape == (3, *COARSE.spectral_shape) and run.speeds.rate.shape == (3,)
    assert run.omega_hat.dtype == run.speeds.speed.dtype == dtype
    np.testing.assert_array_equal(run.omega_hat[0], start)
    step = jax.jit(stepper("etdrk4", COARSE, JET.flow_params(LR, dtype=dtype), JET.frame / LR.steps))
    expected = start
    for _ in range(LR.steps):
        expected = step(expected)
    np.testing.assert_allclose(run.omega_hat[1], expected, atol={"float32": 2e-5, "float64": 1e-12}[dtype])
    only = simulate.integrate(JET, LR, start, 1)
    np.testing.assert_array_equal(only.omega_hat, start[None])
    u, v = velocity(COARSE, run.omega_hat[2])
    np.testing.assert_allclose(run.speeds.speed[2], np.sqrt(u * u + v * v).max(), rtol=1e-5)
    rate = (COARSE.kmax * abs(u) + COARSE.lmax * abs(v)).max()
    np.testing.assert_allclose(run.speeds.rate[2], rate, rtol=1e-5)


def test_simulate_is_integrate_over_a_batch(dtype):
    starts = jax.vmap(lambda seed: state(seed, dtype=dtype))(jnp.arange(3))
    runs = simulate.simulate(JET, LR, starts, 5)
    assert runs.shape == (3, 5, *COARSE.spectral_shape) and runs.dtype == dtype
    alone = jax.jit(lambda start: simulate.integrate(JET, LR, start, 5).omega_hat)
    for start, run in zip(starts, runs):
        one = alone(start)
        np.testing.assert_allclose(run, one, atol={"float32": 2e-4, "float64": 1e-11}[dtype])
    # The level's own step is the default, its own physics too.
    params = JET.flow_params(LR, dtype=dtype)
    np.testing.assert_array_equal(simulate.simulate(JET, LR, starts, 5, params, "etdrk4", LR.steps), runs)
    calm = JET.vary(drag=1.0).flow_params(LR, dtype)
    assert np.abs(simulate.simulate(JET, LR, starts, 5, calm)[:, -1] - runs[:, -1]).max() > 0.1


def test_restarted_run_continues():
    runs = simulate.simulate(JET, LR, state()[None], 5)
    again = simulate.simulate(JET, LR, runs[:, 2], 3, start=0.5)
    np.testing.assert_allclose(again, runs[:, 2:], atol=1e-11)


def test_default_steps():
    assert HR.checked_steps() == 25 and HR.checked_steps("rk2") == 2000 and HR.checked_steps(steps=7) == 7
    assert JET.frame / HR.rk2_steps == 1.25e-4 and JET.frame / LR.rk2_steps == 5e-4
    with pytest.raises(ValueError, match="scheme: expected one of etdrk4, rk2; got 'euler'"):
        HR.checked_steps("euler")
    with pytest.raises(ValueError, match="steps: expected at least 1 time step a frame, got 0"):
        Level("own", 32, 17, 1e-4, steps=10).checked_steps("rk2")


def test_wrong_calls_raise():
    start = state()
    for run in (lambda n: simulate.integrate(JET, LR, start, n), lambda n: simulate.simulate(JET, LR, start[None], n)):
        with pytest.raises(ValueError, match=r"frames: expected at least 1 \(the start counts as one\), got 0"):
            run(0)
    for steps in (0, -5):
        with pytest.raises(ValueError, match=f"steps: expected at least 1 time step a frame, got {steps}"):
            simulate.integrate(JET, LR, start, 2, steps=steps)
        with pytest.raises(ValueError, match=f"steps: expected at least 1 time step a frame, got {steps}"):
            simulate.simulate(JET, LR, start[None], 2, steps=steps)
    with pytest.raises(ValueError, match=r"omega_hat: expected 2 dimensions \(21, 10\).*jax\.vmap"):
        simulate.integrate(JET, LR, start[None], 2)
    with pytest.raises(ValueError, match=r"omega_hat: expected 3 dimensions \(any, 21, 10\), got shape \(21, 10\)"):
        simulate.simulate(JET, LR, start, 2)
    with pytest.raises(ValueError, match=r"omega_hat: expected shape \(any, 85, 42\), got \(1, 21, 10\)"):
        simulate.simulate(JET, HR, start[None], 2)


def test_fields_of_a_finer_level_come_down():
    omega_hat = state(grid=FINE)
    omega = to_physical(FINE, omega_hat)
    block = regrid(FINE, COARSE, omega, "block")
    np.testing.assert_allclose(block[:, :-1], omega[:, :-1].reshape(32, 4, 16, 4).mean((1, 3)), atol=1e-12)
    # The spectral way commutes with a shift by whole coarse cells, and is no shift itself.
    moved = shift_hat(FINE, omega_hat, jnp.asarray(3 * COARSE.spacing[0]))
    low = np.asarray(regrid(FINE, COARSE, omega))
    np.testing.assert_allclose(regrid(FINE, COARSE, to_physical(FINE, moved)), np.roll(low, 3, 0), atol=1e-12)
    assert np.abs(low - omega[::4, ::4]).max() < np.abs(block - omega[::4, ::4]).max()


def test_a_level_of_ones_own():
    own = Level("own", 48, 25, 3e-5, steps=15, rk2_steps=800)
    run = simulate.simulate(JET, own, state(grid=own.grid)[None], 5)
    fine = simulate.simulate(JET, own, run[:, 0], 5, steps=60)
    assert np.abs(run - fine).max() < 1e-3 and np.abs(run[0, 4] - run[0, 0]).max() > 1e-2


# The testbed as a value


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"frame": 0.0}, r"frame: expected a finite number above 0, got 0\.0"),
        ({"field_scale": -1.0}, r"field_scale: expected a finite number above 0, got -1\.0"),
        ({"error_scale": float("nan")}, "error_scale: expected a finite number above 0, got nan"),
        ({"error_length": 0}, "error_length: expected a finite number above 0, got 0"),
        ({"frames_per_cycle": 0}, "testbed: expected at least 1 frame a cycle and 1 frame, got 0 and 12"),
        ({"frames": 0}, "testbed: expected at least 1 frame a cycle and 1 frame, got 4 and 0"),
        ({"symmetries": ("shift", "mirror")}, "symmetry: expected one of shift, reflection; got 'mirror'"),
        (
            {"truth": dataclasses.replace(TESTBED.truth, nx=64, ny=33)},
            "testbed: expected one level a name, got lr, hr, hr; rename one",
        ),
        (
            {"finer": (dataclasses.replace(TESTBED.forecast, viscosity=1e-5),)},
            "testbed: expected one level a name, got lr, hr, lr; rename one",
        ),
    ],
)
def test_bad_testbeds_raise(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TESTBED, **changes)


def test_bad_physics_raises():
    with pytest.raises(ValueError, match=r"width: expected a finite number above 0, got 0\.0"):
        TESTBED.vary(width=0.0)
    with pytest.raises(TypeError, match="depth"):
        TESTBED.vary(depth=1.0)
    with pytest.raises(ValueError, match="level: expected one of lr, hr; got 'fine'"):
        TESTBED.vary(viscosity={"fine": 1e-4})


def test_levels_of_a_testbed():
    assert TESTBED.levels == (TESTBED.forecast, TESTBED.analysis)  # the truth's level is the analyses'
    assert TESTBED.window == 5 and TESTBED.grid == ChannelGrid(32, 17) and TESTBED.symmetries == SYMMETRIES
    assert dataclasses.replace(TESTBED, frames_per_cycle=2).window == 3
    assert [level.name for level in JET.levels] == ["lr", "hr", "fine", "uhr"]


def test_vary_changes_what_it_is_told():
    other = TESTBED.vary(viscosity={"hr": 3e-4}, beta=0.5)
    assert other.physics == dataclasses.replace(TESTBED.physics, beta=0.5)
    assert other.analysis.viscosity == other.truth.viscosity == 3e-4 and other.forecast is TESTBED.forecast
    assert len(other.levels) == 2 and TESTBED.analysis.viscosity == 1e-4
    params = other.flow_params(other.analysis)
    np.testing.assert_allclose([params.beta, params.viscosity, params.drag], [0.5, 3e-4, 1e-2])
    assert TESTBED.vary() == TESTBED


@pytest.mark.parametrize("name", ["beta", "viscosity", "width"])
def test_traced_physics_is_that_of_separate_testbeds(name):
    """Through `vary`, `flow_params` and `integrate`, and first states too: one vmap is separate runs."""
    level, values = TESTBED.forecast, {"beta": [0.0, 0.1, 2.0], "viscosity": [1e-3, 3e-3], "width": [0.4, 0.6]}[name]
    waves = regrid_hat(TESTBED.grid, level.grid, states()[0] - states()[1])

    def varied(value):
        return TESTBED.vary(viscosity={"lr": value}) if name == "viscosity" else TESTBED.vary(**{name: value})

    def run(flow):
        start = flow.start(jax.random.key(0), level.grid) + waves
        return simulate.integrate(flow, flow.forecast, start, 3).omega_hat

    together = quick_jit(jax.vmap(lambda value: run(varied(value))))(jnp.asarray(values))
    alone = quick_jit(run)
    for value, got in zip(values, together):
        np.testing.assert_allclose(got, alone(varied(value)), atol=1e-11)
    assert abs(together[0] - together[1]).max() > 1e-3
    assert alone._cache_size() == 1  # a testbed is an argument like others, its physics traced


def test_a_testbed_passes_through_tree_maps_and_programs():
    leaves, structure = jax.tree.flatten(TESTBED)
    assert sorted(leaves) == sorted([1e-3, 1e-4, 1e-4, *dataclasses.astuple(TESTBED.physics)])
    assert jax.tree.unflatten(structure, leaves) == TESTBED == jax.tree.map(lambda a: a, TESTBED)
    assert hash(jax.tree.map(lambda a: a, TESTBED)) == hash(TESTBED)
    doubled = jax.tree.map(lambda a: 2 * a, TESTBED)
    assert doubled == TESTBED.vary(
        viscosity={"lr": 2e-3, "hr": 2e-4},
        **{name: 2 * value for name, value in dataclasses.asdict(TESTBED.physics).items()},
    )
    got = jax.jit(lambda flow: flow)(TESTBED)
    assert isinstance(got, type(TESTBED)) and got.name == "small" and got.first_state is TESTBED.first_state
    assert len(got.levels) == 2  # the level that plays two parts still comes once
    np.testing.assert_allclose(jax.tree.leaves(got), leaves)
    arrays = jax.tree.map(jnp.asarray, TESTBED)
    forcing = TESTBED.flow_params(TESTBED.analysis).forcing
    np.testing.assert_allclose(arrays.flow_params(arrays.level("hr")).forcing, forcing, atol=1e-15)


def test_gradients_of_physics_are_finite_differences():
    level, start = TESTBED.forecast, TESTBED.start(jax.random.key(0), TESTBED.forecast.grid)

    def total(drag):
        flow = TESTBED.vary(drag=drag)
        return enstrophy(level.grid, simulate.integrate(flow, level, start, 2).omega_hat[-1])

    value, slope = quick_jit(jax.value_and_grad(total))(0.01)
    up, down = (quick_jit(total)(drag) for drag in (0.0101, 0.0099))
    assert slope < -0.1 and down > value > up
    np.testing.assert_allclose(slope, (up - down) / 2e-4, rtol=1e-5)


# What caches are named by


def still(key, grid, physics, profile, dtype=float):
    return jnp.zeros(grid.spectral_shape, dtype)


def scaled(factor):
    def first(key, grid, physics, profile, dtype=float):
        return factor * initial_state(key, grid, physics, profile, dtype)

    return first


def test_keys_differ_where_the_numbers_do():
    def key(flow, *levels):
        return key_of(flow.numerics(*(levels or (flow.analysis,))))

    base = key(TESTBED)
    assert key(dataclasses.replace(TESTBED)) == base == key(jax.tree.map(lambda a: a, TESTBED))
    others = [
        TESTBED.vary(beta=0.2),
        TESTBED.vary(perturbation=0.005),
        TESTBED.vary(viscosity={"hr": 2e-4}),
        dataclasses.replace(TESTBED, frame=0.125),
        dataclasses.replace(TESTBED, first_state=still),
        dataclasses.replace(TESTBED, first_state=scaled(1.0)),
        dataclasses.replace(TESTBED, first_state=scaled(2.0)),
        dataclasses.replace(TESTBED, first_state=lambda *a, **o: still(*a, **o)),
        dataclasses.replace(TESTBED, first_state=lambda *a, **o: 0 * still(*a, **o)),
        dataclasses.replace(TESTBED, profile=lambda y, width: sech2(y, width)),
    ]
    analysis = TESTBED.analysis
    others += [
        dataclasses.replace(TESTBED, analysis=level, truth=level)
        for level in (dataclasses.replace(analysis, steps=11), dataclasses.replace(analysis, nx=48, ny=25))
    ]
    keys = [base, key(TESTBED, TESTBED.forecast), key(TESTBED, *TESTBED.levels), *map(key, others)]
    assert len(set(keys)) == len(keys)
    # What plays no part in a run changes nothing: other levels, names, scales.
    same = dataclasses.replace(TESTBED, name="other", field_scale=9.0, frames=8).vary(viscosity={"lr": 5e-3})
    assert key(same) == base


# Testbeds by name

OWN = dataclasses.replace(TESTBED, name="own")


def make_own():
    return OWN


def test_testbeds_by_name():
    assert (
        testbeds.testbed("jet") is JET
        and testbeds.testbed("jet-small") is jet_small()
        and set(TESTBEDS) == {"jet", "jet-small"}
    )
    assert testbeds.testbed(f"{__name__}:OWN") is OWN is testbeds.testbed(f"{__name__}:make_own")


@pytest.mark.parametrize(
    "name, message",
    [
        ("jet-smal", "testbed: expected one of jet, jet-small; got 'jet-smal'; did you mean 'jet-small'"),
        ("no_such_module:flow", r"testbed: expected module:name of a testbed, got 'no_such_module:flow' \(No module"),
        (f"{__name__}:missing", "testbed: expected module:name of a testbed, got .*has no attribute 'missing'"),
        (f"{__name__}:COARSE", "testbed: expected '.*:COARSE' to be a Testbed, got ChannelGrid"),
        (f"{__name__}:dataclasses", "to be a Testbed, got module"),
    ],
)
def test_testbeds_that_are_none(name, message):
    with pytest.raises(ValueError, match=message):
        testbeds.testbed(name)


# The small jet


def test_levels_of_the_small_jet():
    flow = jet_small()
    assert [level.grid.shape for level in flow.levels] == [(16, 9), (64, 33), (128, 65)]
    assert flow.physics == JET.physics and flow.frames == JET.frames
    for small, large in zip(flow.levels, JET.levels):
        damped = [level.viscosity * level.grid.kmax**4 for level in (small, large)]
        np.testing.assert_allclose(damped[0], damped[1], rtol=0.25)


@pytest.mark.parametrize("part", ["truth", "analysis"])
def test_the_small_jet_rolls_up_and_stays_turbulent(part):
    flow = jet_small()
    level = getattr(flow, part)
    start = flow.start(truth_key(0), level.grid, "float32")
    run = simulate.simulate(flow, level, start[None])[0]  # an unstable step raises
    assert run.shape[0] == flow.frames == 96
    waves = jax.vmap(lambda a: enstrophy(level.grid, a.at[0].set(0)) / enstrophy(level.grid, a))(run)
    fields = jax.vmap(lambda a: to_physical(level.grid, a))(run)
    later = flow.frame * np.arange(96) > 10
    assert waves[:8].max() < 0.01 and waves[later].min() > 0.2, waves
    top = abs(fields).max((1, 2))
    assert 3 < top.min() and top.max() < 15, top
    # It goes on changing: a frame is unlike that of four time units before.
    change = jnp.sqrt(((fields[later][16:] - fields[later][:-16]) ** 2).mean() / (fields[later] ** 2).mean())
    assert change > 0.5


@pytest.mark.slow
def test_a_hundred_seeds_stay_finite_for_24_time_units():
    for first in range(0, 100, 25):
        keys = jax.vmap(truth_key)(jnp.arange(first, first + 25))
        starts = jax.vmap(lambda key: initial_state(key, FINE, dtype="float32"))(keys)
        runs = simulate.simulate(JET, HR, starts, 97)  # raises UnstableStepError otherwise
        fields = jax.jit(jax.vmap(lambda omega_hat: to_physical(FINE, omega_hat)))(runs[:, -1])
        assert np.isfinite(runs).all()
        assert 6 < np.abs(fields).max() < 20
