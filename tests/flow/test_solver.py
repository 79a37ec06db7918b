"""The solver against the paper's public program, exact solutions, conservation laws and symmetries."""

import decimal
import functools
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrda.flow import grid as grids
from jaxsrda.flow import solver
from jaxsrda.flow.grid import ChannelGrid, bases, regrid, regrid_hat, to_physical, to_spectral
from jaxsrda.flow.jet import initial_state
from jaxsrda.flow.simulate import integrate, simulate
from jaxsrda.flow.solver import FlowParams, Speeds, UnstableStepError, rollout, stepper
from jaxsrda.flow.testbed import jet

JET = jet()
LR, HR = JET.level("lr"), JET.level("hr")
COARSE, FINE = LR.grid, HR.grid


@pytest.fixture(scope="module")
def reference():
    """Fields of the paper's public program (arXiv:2604.21180), run once in float64."""
    with np.load(Path(__file__).parents[1] / "data" / "reference.npz") as data:
        return dict(data)


@pytest.fixture(scope="module")
def developed():
    """A turbulent LR state, t = 8, float64."""
    return simulate(JET, LR, initial_state(jax.random.key(0), COARSE)[None], 33)[0, -1]


def relative_l1(got, expected):
    got, expected = np.asarray(got, float), np.asarray(expected, float)
    return abs(got - expected).sum() / abs(expected).sum()


def physics(grid, beta=0.0, drag=0.0, viscosity=0.0, dtype="float64"):
    """Coefficients of an unforced flow."""
    return FlowParams(*(jnp.asarray(value, dtype) for value in (beta, drag, viscosity)), jnp.zeros(grid.lmax, dtype))


def frames_of(grid, run):
    return np.asarray(jax.vmap(lambda omega_hat: to_physical(grid, omega_hat))(run))


# Against the paper's program


@pytest.mark.parametrize("scheme, steps, tolerance", [("rk2", 2000, 1e-12), ("etdrk4", 80, 5e-7)])
def test_hr_frame_matches_the_papers_program(reference, scheme, steps, tolerance):
    start, later = reference["hr_omega"]
    run = simulate(JET, HR, to_spectral(FINE, jnp.asarray(start))[None], 2, scheme=scheme, steps=steps)[0]
    assert relative_l1(to_physical(FINE, run[1]), later) < tolerance
    assert relative_l1(start, later) > 1e-3  # the frames differ: a run that does nothing fails


@pytest.mark.parametrize("scheme, steps, tolerance", [("rk2", 500, 1e-12), ("etdrk4", 20, 1e-6)])
def test_lr_run_matches_the_papers_program(reference, scheme, steps, tolerance):
    start = to_spectral(COARSE, jnp.asarray(reference["lr_lowpass"]))
    got = frames_of(COARSE, simulate(JET, LR, start[None], 9, scheme=scheme, steps=steps)[0])
    for frame, expected in zip(got, reference["lr_omega"], strict=True):
        assert relative_l1(frame, expected) < tolerance


def test_velocity_lowpass_and_forcing_match_the_papers_program(reference):
    start, later = (to_spectral(FINE, jnp.asarray(omega)) for omega in reference["hr_omega"])
    u, v = grids.velocity(FINE, later)
    assert relative_l1(u, reference["hr_u"]) < 1e-12
    assert relative_l1(v, reference["hr_v"]) < 1e-11  # v is 1e-3 of u here
    assert relative_l1(regrid(FINE, COARSE, to_physical(FINE, start)), reference["lr_lowpass"]) < 1e-12
    forcing = np.asarray(JET.flow_params(HR).forcing) @ bases(FINE).sine
    assert relative_l1(forcing, reference["hr_forcing"]) < 1e-12


# The equation


@pytest.mark.parametrize("grid", [COARSE, ChannelGrid(28, 20)], ids=str)
def test_advection_matches_products_on_a_finer_grid(grid, dtype):
    """−u ∂ω/∂x − v (∂ω/∂y + β) + F, formed where every product is resolved, then truncated."""
    rng = np.random.default_rng(0)
    omega_hat = jnp.asarray(rng.normal(size=grid.spectral_shape), dtype)
    forcing, beta = jnp.asarray(rng.normal(size=grid.lmax), dtype), 1.7
    params = FlowParams(*(jnp.asarray(value, dtype) for value in (beta, 0.3, 1e-3)), forcing)

    fine = ChannelGrid(2 * grid.nx, 2 * grid.ny)
    wide = regrid_hat(grid, fine, jnp.asarray(omega_hat, "float64"))
    u, v = (np.asarray(field) for field in grids.velocity(fine, wide))
    in_x = np.asarray(to_physical(fine, grids.dx_hat(fine, wide)))
    in_y = bases(fine).fourier @ (np.asarray(wide) * bases(fine).l) @ bases(fine).cosine
    product = regrid_hat(fine, grid, to_spectral(fine, jnp.asarray(-u * in_x - v * (in_y + beta))))
    expected = np.array(product)
    expected[0] += np.asarray(forcing)

    tolerance = {"rtol": 0, "atol": {"float32": 1e-5, "float64": 1e-12}[dtype] * abs(expected).max()}
    np.testing.assert_allclose(solver.advection(grid, params, omega_hat), expected, **tolerance)
    damped = expected - (0.3 + 1e-3 * bases(grid).k2 ** 2) * np.asarray(omega_hat, float)
    tolerance["atol"] *= abs(damped).max() / abs(expected).max()
    np.testing.assert_allclose(solver.tendency(grid, params, omega_hat), damped, **tolerance)


def test_tendency_takes_one_state():
    params = JET.flow_params(LR)
    with pytest.raises(ValueError, match=r"omega_hat: expected 2 dimensions \(21, 10\).*jax\.vmap"):
        solver.tendency(COARSE, params, jnp.zeros((3, 21, 10)))


@pytest.mark.parametrize("scheme, tolerance", [("etdrk4", 1e-9), ("rk2", 1e-4)])
@pytest.mark.parametrize("k, l", [(1, 1), (5, 2)])
def test_rossby_wave(scheme, tolerance, k, l):  # noqa: E741
    """One mode solves the full equation: ∂ω/∂t + β ∂ψ/∂x = −(r + νκ⁴) ω with ψ = −ω/κ², for its Jacobian is zero.

    So ω = A sin(ly) cos(k(x − ct)) exp(−(r + νκ⁴) t) with c = −β/κ²: waves travel west.
    """
    beta, drag, viscosity, size = 4.0, 0.1, 2e-4, 3.0
    params = physics(COARSE, beta, drag, viscosity)
    k2 = k**2 + l**2

    def exact(t):
        wave = np.cos(k * (COARSE.x + beta / k2 * t))[:, None] * np.sin(l * COARSE.y)
        return size * wave * np.exp(-(drag + viscosity * k2**2) * t)

    run = simulate(JET, LR, to_spectral(COARSE, jnp.asarray(exact(0.0)))[None], 9, params, scheme, steps=100)[0]
    for frame, field in enumerate(frames_of(COARSE, run)):
        assert relative_l1(field, exact(JET.frame * frame)) < tolerance
    assert relative_l1(exact(0.0), exact(2.0)) > 0.1


@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_inviscid_flow_conserves_energy_and_enstrophy(developed, beta):
    run = simulate(JET, LR, developed[None], 21, physics(COARSE, beta), steps=40)[0]
    for quantity in (grids.energy, grids.enstrophy):
        values = np.asarray(jax.vmap(functools.partial(quantity, COARSE))(run))
        np.testing.assert_allclose(values, values[0], rtol=1e-6)
    assert relative_l1(run[-1], run[0]) > 0.5  # it moved


def test_shift_and_reflection_are_symmetries_of_a_run(developed):
    # To rounding: 1e-14 after one frame, growing with the flow's instability to 3e-14 at t = 2.
    def shift(omega_hat):
        return grids.shift_hat(COARSE, omega_hat, jnp.asarray(0.7))

    def reflect(omega_hat):
        return grids.reflect_hat(COARSE, omega_hat)

    base = simulate(JET, LR, developed[None], 9)[0]
    for symmetry in (shift, reflect):
        moved = simulate(JET, LR, symmetry(developed)[None], 9)[0]
        assert relative_l1(moved, base) > 0.1
        assert relative_l1(moved, jax.vmap(symmetry)(base)) < 1e-12
    # The change of sign belongs to the reflection, and reflection alone is none.
    without_sign = simulate(JET, LR, -reflect(developed)[None], 9)[0]
    assert relative_l1(without_sign, -jax.vmap(reflect)(base)) > 1e-3


# Steppers


@pytest.mark.parametrize("scheme, steps, order", [("etdrk4", (10, 20), 3.7), ("rk2", (100, 200), 1.9)])
def test_observed_order(developed, scheme, steps, order):
    def end(scheme, steps):
        return simulate(JET, LR, developed[None], 3, scheme=scheme, steps=steps)[0, -1]

    exact = end("etdrk4", 400)
    errors = [relative_l1(end(scheme, n), exact) for n in steps]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(orders >= order) and np.all(orders < order + 0.8), (errors, orders)


def phi_in_many_digits(z):
    """φ1, φ2, φ3 by the recurrence with 120 digits."""
    with decimal.localcontext() as context:
        context.prec = 120
        z = decimal.Decimal(z)
        values = [z.exp()]
        for n in range(3):
            values.append((values[-1] - 1 / decimal.Decimal(math.factorial(n))) / z)
        return [float(value) for value in values[1:]]


def test_phi_functions_match_exact_arithmetic(dtype):
    z = -np.concatenate([np.logspace(-8, 3, 111), [0.5, np.nextafter(1, 0), 1.0, np.nextafter(1, 2), 1.5, 2.0]])
    z = z.astype(dtype)  # both sides take the same rounded numbers
    expected = np.array([phi_in_many_digits(float(value)) for value in z]).T
    got = solver.phi_functions(jnp.asarray(z))
    eps = np.finfo(dtype).eps
    for phi, exact in zip(got, expected, strict=True):
        assert phi.dtype == dtype
        np.testing.assert_allclose(phi, exact, rtol=12 * eps)
    at_zero = solver.phi_functions(jnp.zeros((), dtype))
    np.testing.assert_allclose(at_zero, [1, 1 / 2, 1 / 6], rtol=eps)


def test_phi_functions_have_finite_gradients():
    # dφ1/dz at 0 is 1/2; a `where` over an unsafe branch would give NaN.
    for z, slope in ((0.0, 0.5), (-1e-9, 0.5), (-40.0, 1 / 1600)):
        np.testing.assert_allclose(jax.grad(lambda x: solver.phi_functions(x)[0])(z), slope, rtol=1e-8)


def test_etdrk4_without_advection_is_the_exact_decay():
    # No flow feels one x-independent mode; damping and forcing alone have ω = F/λ + (ω0 − F/λ) exp(−λt).
    params = physics(COARSE, 0.0, 0.5, 1e-3)
    forcing = jnp.zeros(10).at[2].set(3.0)
    params = FlowParams(params.beta, params.drag, params.viscosity, forcing)
    start = jnp.zeros(COARSE.spectral_shape).at[0, 2].set(2.0)
    rate, dt = 0.5 + 1e-3 * 81, 0.8
    got = solver.etdrk4(COARSE, params, dt)(start)[0, 2]
    np.testing.assert_allclose(got, 3 / rate + (2 - 3 / rate) * np.exp(-rate * dt), rtol=1e-13)
    midpoint = 2.0 + dt * (3 - rate * (2.0 + dt / 2 * (3 - rate * 2.0)))
    np.testing.assert_allclose(solver.rk2(COARSE, params, dt)(start)[0, 2], midpoint, rtol=1e-13)


def test_unknown_scheme_raises(developed):
    with pytest.raises(ValueError, match="scheme: expected one of etdrk4, rk2; got 'etdrk'; did you mean 'etdrk4'"):
        stepper("etdrk", COARSE, JET.flow_params(LR), 0.01)
    for run, states in ((integrate, developed), (simulate, developed[None])):
        with pytest.raises(ValueError, match="scheme: expected one of etdrk4, rk2; got 'rk4'"):
            run(JET, LR, states, 2, scheme="rk4")
    with pytest.raises(ValueError, match="scheme: expected one of etdrk4, rk2"):
        solver.stable_step(1.0, "euler")


# Roll-outs


def test_rollout_equals_a_loop(developed, dtype):
    start = developed.astype(dtype)
    step = jax.jit(solver.etdrk4(COARSE, JET.flow_params(LR, dtype=dtype), 0.025))
    last, outputs = jax.jit(rollout(step, 3, 4, lambda state: (state, grids.energy(COARSE, state))))(start)
    state, tolerance = start, {"float32": 3e-5, "float64": 1e-12}[dtype]
    for frame in range(4):
        for _ in range(3):
            state = step(state)
        np.testing.assert_allclose(outputs[0][frame], state, rtol=0, atol=tolerance)
        np.testing.assert_allclose(outputs[1][frame], grids.energy(COARSE, state), rtol=tolerance)
    np.testing.assert_array_equal(last, outputs[0][-1])
    assert last.dtype == outputs[1].dtype == dtype
    plain_last, plain = rollout(step, 2, 1)(start)  # by default the states themselves
    np.testing.assert_array_equal(plain[0], plain_last)


def test_vmapped_run_equals_a_loop(developed):
    states = jnp.stack([developed, grids.reflect_hat(COARSE, developed), 0.8 * developed])
    together = simulate(JET, LR, states, 5)
    alone = jax.jit(lambda state: integrate(JET, LR, state, 5).omega_hat)
    for state, run in zip(states, together):
        np.testing.assert_allclose(alone(state), run, rtol=0, atol=1e-11)


def test_physical_coefficients_are_traced(developed):
    """One vmap over β and drag gives what separate runs give, and the coefficients matter."""
    base = JET.flow_params(LR)
    betas, drags = jnp.asarray([0.0, 0.1, 2.0]), jnp.asarray([0.0, 0.01, 0.2])

    def run(beta, drag, dt=0.025):
        params = FlowParams(beta, drag, base.viscosity, base.forcing)
        return rollout(stepper("etdrk4", COARSE, params, dt), 10, 2)(developed)[0]

    together = jax.jit(jax.vmap(run))(betas, drags)
    alone = jax.jit(run)
    for beta, drag, got in zip(betas, drags, together):
        np.testing.assert_allclose(got, alone(beta, drag), rtol=0, atol=1e-11)
    assert relative_l1(together[0], together[2]) > 0.05
    traced_step = jax.jit(run)(betas[1], drags[1], jnp.asarray(0.025))
    np.testing.assert_allclose(traced_step, together[1], rtol=0, atol=1e-11)


def test_gradients_match_finite_differences(developed):
    base = JET.flow_params(LR)
    direction = jnp.asarray(np.random.default_rng(0).normal(size=COARSE.spectral_shape))

    @jax.jit
    def energy_after(amount, drag):
        params = FlowParams(base.beta, drag, base.viscosity, base.forcing)
        step = stepper("etdrk4", COARSE, params, 0.01)
        return grids.energy(COARSE, rollout(step, 10, 1)(developed + amount * direction)[0])

    at = (jnp.asarray(0.0), jnp.asarray(0.3))
    gradients = jax.grad(energy_after, argnums=(0, 1))(*at)
    h = 1e-4
    for i, gradient in enumerate(gradients):
        up, down = (energy_after(*(a + sign * h * (i == j) for j, a in enumerate(at))) for sign in (1, -1))
        assert abs(gradient) > 1e-3
        np.testing.assert_allclose(gradient, (up - down) / (2 * h), rtol=1e-6)


# The step-size guard


def advised(error, scheme):
    """Steps a frame of the step that a message advises; its time and speed must be there too."""
    found = re.search(
        r"run (\d+): the (\w+) step dt = (\S+) became unstable by t = (\S+) \(.*speed.* (\S+)\)", str(error)
    )
    assert found and found[2] == scheme, str(error)
    step = re.search(r"a step of (\S+) would do", str(error))
    assert step and 0.01 * float(found[3]) < float(step[1]) < float(found[3]), str(error)
    assert 1 < float(found[5]) < 10  # the flow's speed, not the blow-up's
    return math.ceil(JET.frame / float(step[1])), float(found[4])


@pytest.mark.parametrize(
    "dtype, scheme, steps, when",
    [("float32", "etdrk4", 1, (0, 0.5)), ("float64", "etdrk4", 2, (1, 20)), ("float32", "rk2", 8, (1, 10))],
)
def test_a_step_too_long_raises_and_the_advice_works(dtype, scheme, steps, when):
    start = initial_state(jax.random.key(0), COARSE, dtype=dtype)[None]
    with pytest.raises(UnstableStepError, match="became unstable") as error:
        simulate(JET, LR, start, 97, scheme=scheme, steps=steps)
    better, time = advised(error.value, scheme)
    assert when[0] <= time <= when[1]
    run = simulate(JET, LR, start, 97, scheme=scheme, steps=better)
    assert np.isfinite(run).all()
    # Not just finite: over the predictable start it is the flow.
    exact = simulate(JET, LR, start.astype("float64"), 13, steps=100)
    assert relative_l1(run[:, :13], exact) < 0.01


def test_the_advice_works_at_hr():
    start = initial_state(jax.random.key(1), FINE, dtype="float32")[None]
    with pytest.raises(UnstableStepError, match=r"by t = 0 ") as error:
        simulate(JET, HR, start, 96, steps=4)
    steps, _ = advised(error.value, "etdrk4")
    assert steps <= 2 * HR.steps
    assert np.isfinite(simulate(JET, HR, start, 96, steps=steps)).all()


@pytest.mark.parametrize("scheme, steps, frames", [("etdrk4", 1, 4), ("rk2", 8, 60)])
def test_a_blow_up_that_is_still_finite_raises(scheme, steps, frames):
    """Numbers that have not yet overflowed by the last frame are not a flow either."""
    start = initial_state(jax.random.key(0), COARSE, dtype="float64")
    run = jax.jit(lambda state: integrate(JET, LR, state, frames, scheme=scheme, steps=steps))(start)
    assert np.isfinite(run.omega_hat).all()
    with pytest.raises(UnstableStepError):
        simulate(JET, LR, start[None], frames, scheme=scheme, steps=steps)


def test_the_guard_names_the_run_and_the_time(developed):
    fast = 8 * developed
    with pytest.raises(UnstableStepError, match=r"^run 2: .* by t = 7 "):
        simulate(JET, LR, jnp.stack([developed, developed, fast]), 3, start=7.0)
    with pytest.raises(UnstableStepError, match=r"^run 1: .* by t = 0 .*check the initial state"):
        simulate(JET, LR, jnp.stack([developed, developed.at[1, 1].set(jnp.nan)]), 3)


def test_check_stable_on_histories():
    times = np.arange(4) * 0.25
    calm = np.full(4, 100.0)
    rate = np.array([calm, [100, 200, np.inf, np.nan], calm])
    speed = np.array([calm, [3, 4, 1e30, np.nan], calm]) / 1.0
    solver.check_stable(Speeds(rate[0], speed[0]), times, 0.01)
    with pytest.raises(UnstableStepError) as error:
        solver.check_stable(Speeds(rate, speed), times, 0.01, what="member")
    # 0.35 · 2.83 / 200, from the frames before the loss.
    assert str(error.value) == (
        "member 1: the etdrk4 step dt = 0.01 became unstable by t = 0.5 (largest speed before that 4); "
        "a step of 0.00495 would do"
    )
    # Twice past the limit is lost whether or not it is finite; below that it is not.
    solver.check_stable(Speeds(np.full(4, 560.0), speed[0]), times, 0.01)
    with pytest.raises(UnstableStepError, match=r"by t = 0\.75 .*a step of 0\.00991 would do"):
        solver.check_stable(Speeds(np.array([100, 100, 100, 570.0]), speed[0]), times, 0.01)
    with pytest.raises(ValueError, match="scheme: expected one of"):
        solver.check_stable(Speeds(calm, calm), times, 0.01, scheme="rk4")


def test_speeds_of_a_mode(dtype):
    # ω = sin 2y: u = cos(2y)/2, v = 0, so the rate is kmax/2.
    omega_hat = jnp.zeros(COARSE.spectral_shape, dtype).at[0, 1].set(1)
    rate, speed = solver.speeds(COARSE, omega_hat)
    np.testing.assert_allclose([rate, speed], [COARSE.kmax / 2, 0.5], rtol=1e-6)
    assert solver.stable_step(rate) == pytest.approx(2.83 / 5)
    assert solver.stable_step(0.0, "rk2") > 1e9
    assert np.isnan(solver.speeds(COARSE, omega_hat.at[0, 0].set(jnp.nan)).rate)
