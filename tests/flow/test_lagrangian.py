"""Lagrangian forecasts: interpolation, trajectories, each term of the equation, symmetries, and the contract."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import COARSE, FINE, GRID, TESTBED, quick_jit, states

from jaxsrda.flow.forecasts import spectral, to_amplitudes, to_fields
from jaxsrda.flow.grid import ChannelGrid, enstrophy, reflect_hat, regrid_hat, shift_hat, to_physical, velocity
from jaxsrda.flow.lagrangian import EXPLICIT, corrected, displacement, interpolate, lagrangian, to_grid, transport
from jaxsrda.flow.simulate import integrate
from jaxsrda.flow.solver import FlowParams
from jaxsrda.flow.testbed import Level

CORRECTOR = pytest.mark.parametrize("corrector", [False, True], ids=["plain", "corrector"])
interpolate = quick_jit(interpolate, static_argnums=(0, 3))
displacement, transport = (quick_jit(function, static_argnums=0) for function in (displacement, transport))
QUIET = {"beta": 0.0, "drag": 0.0, "forcing": 0.0}


@functools.cache
def program(testbed, options):
    """A cycle as one compiled program of states and traced numbers."""

    def run(states, numbers):
        beta, drag, forcing, own, viscosity = numbers
        flow = testbed.vary(beta=beta, drag=drag, forcing=forcing, viscosity={"lr": own})
        return lagrangian(flow, viscosity=viscosity, **dict(options)).forecast(states)

    return quick_jit(run)


def forecast(states, testbed=TESTBED, viscosity=0.0, **options):
    """A cycle of four states, or of one."""
    physics, own = testbed.physics, testbed.forecast.viscosity
    plain = testbed.vary(beta=0.1, drag=0.01, forcing=0.3, viscosity={"lr": 1e-3})
    numbers = [jnp.asarray(n, float) for n in (physics.beta, physics.drag, physics.forcing, own, viscosity)]
    four = jnp.broadcast_to(states, (4, *states.shape[1:]))
    return program(plain, tuple(sorted(options.items())))(four, numbers)


def ahead(states, testbed=TESTBED, viscosity=0.0, **options):
    """States after one cycle."""
    return forecast(states, testbed, viscosity, **options).ahead[: len(states)]


def field(grid, function):
    return jnp.asarray(function(grid.x[:, None], grid.y[None, :]))


def params(beta=0.0, drag=0.0, viscosity=0.0, forcing=None):
    forcing = jnp.zeros(GRID.lmax) if forcing is None else forcing
    return FlowParams(jnp.asarray(beta), jnp.asarray(drag), jnp.asarray(viscosity), forcing)


def observed_orders(errors):
    return np.log2(np.asarray(errors[:-1]) / np.asarray(errors[1:]))


# Interpolation and trajectories ---------------------------------------------------------------


@pytest.mark.parametrize("parity", [1, -1], ids=["even", "odd"])
def test_interpolation_is_of_third_order(parity):
    """Smooth fields of either parity at positions anywhere, over the edges in x and over both walls."""

    def wave(x, y):
        return np.sin(2 * x + 0.3) * (np.cos(3 * y) if parity > 0 else np.sin(3 * y)) + (parity > 0)

    errors = []
    for nx, ny in ((32, 17), (64, 33), (128, 65)):
        grid = ChannelGrid(nx, ny)
        shift_x = field(grid, lambda x, y: 3 * np.cos(x + y) - 7)
        # No more than a cell beyond a wall.
        shift_y = 0.9 * grid.spacing[1] * field(grid, lambda x, y: np.cos(3 * x) + 0 * y)
        got = interpolate(grid, field(grid, wave), (shift_x, shift_y), parity)
        errors.append(abs(got - wave(grid.x[:, None] + shift_x, grid.y + shift_y)).max())
    assert errors[-1] < 1e-4 and observed_orders(errors).min() > 2.8, errors


def test_interpolation_at_points_of_the_grid_is_exact_and_never_out_of_bounds(dtype):
    omega = to_physical(GRID, states(dtype)[0])
    dx, dy = GRID.spacing
    zero = jnp.zeros(GRID.shape, dtype)
    np.testing.assert_array_equal(interpolate(GRID, omega, (zero, zero), -1), omega)
    got = interpolate(GRID, omega, (zero + 3 * dx, zero), -1)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, jnp.roll(omega, -3, 0), atol=1e-4)
    mirrored = interpolate(GRID, omega, (zero, zero - dy), -1)
    np.testing.assert_allclose(mirrored[:, 0], -omega[:, 1], atol=1e-4)
    far = interpolate(GRID, omega, (zero, zero + 100 * dy), -1)
    assert jnp.isfinite(far).all() and abs(far).max() < 2 * abs(omega).max()


def test_displacements_keep_their_parity_on_a_finer_grid():
    fine = ChannelGrid(60, 31)  # grids need not nest
    waves = (lambda x, y: np.cos(2 * y) + np.sin(x), lambda x, y: np.sin(2 * y) + 0 * x)
    pair = tuple(field(GRID, wave) for wave in waves)
    for got, wave in zip(to_grid(GRID, fine, pair), waves):
        np.testing.assert_allclose(got, field(fine, wave), atol=5e-3)
    assert to_grid(GRID, GRID, pair) is pair


def test_uniform_flow_and_its_acceleration_are_exact():
    """The middle velocity counts four times, the ends once: Simpson's rule for ∫ (1 + t + t² + t³) dt over 0 … h."""
    h, one, zero = 0.4, jnp.ones(GRID.shape), jnp.zeros(GRID.shape)
    at = [(one * (1 + t + t**2 + t**3), zero) for t in (0.0, h / 2, h)]
    x, y = displacement(GRID, *at, h)
    np.testing.assert_allclose(x, -(h + h**2 / 2 + h**3 / 3 + h**4 / 4), atol=1e-13)
    np.testing.assert_array_equal(y, zero)


def test_trajectories_in_a_steady_eddy_are_of_fourth_order():
    """ψ = sin x sin y is conserved along a trajectory, and there and back again ends at the start."""
    grid = ChannelGrid(256, 129)
    u, v = field(grid, lambda x, y: -np.sin(x) * np.cos(y)), field(grid, lambda x, y: np.cos(x) * np.sin(y))
    x, y = grid.x[:, None], grid.y
    drift, closure = [], []
    for h in (1.6, 0.8, 0.4):
        shift = displacement(grid, *[(u, v)] * 3, h)
        drift.append(abs(np.sin(x + shift[0]) * np.sin(y + shift[1]) - np.sin(x) * np.sin(y)).max())
        back = displacement(grid, *[(-u, -v)] * 3, h)
        there = [interpolate(grid, b, shift, p) for b, p in zip(back, (1, -1))]
        closure.append(max(abs(a + b).max() for a, b in zip(shift, there)))
    assert observed_orders(drift).min() > 4 and observed_orders(closure).min() > 4, (drift, closure)
    # Against the flow: at the middle of the channel's left half u > 0 below y = π/2 where ψ falls with y.
    assert np.sign(shift[0][64, 96]) == -np.sign(u[64, 96]) != 0


def test_trajectories_in_an_eddy_that_moves_with_the_flow():
    """u = U, v = sin y cos(x − U t): the fluid keeps ξ = x − U t, and tan(y/2) grows by e^(t cos ξ)."""
    grid, speed, errors = ChannelGrid(256, 129), 0.5, []
    for h in (1.6, 0.8, 0.4):
        v = [field(grid, lambda x, y, t=t: np.sin(y) * np.cos(x - speed * t)) for t in (0.0, h / 2, h)]
        x, y = displacement(grid, *((jnp.full(grid.shape, speed), one) for one in v), h)
        np.testing.assert_allclose(x, -speed * h, atol=1e-12)
        began = 2 * np.arctan(np.tan(grid.y / 2) * np.exp(-h * np.cos(grid.x[:, None] - speed * h)))
        errors.append(abs(y - (began - grid.y)).max())
    assert errors[-1] < 1e-4 and observed_orders(errors).min() > 4, errors


def test_the_corrector_moves_half_a_step_by_what_the_driver_lacks_at_either_end():
    """Zonal flows, beyond the driver's scales at both ends, or only at the end: there before the driver's own way."""
    h, coarse, zero = 0.25, COARSE.grid, jnp.zeros(COARSE.grid.shape)
    fast = quick_jit(functools.partial(corrected, GRID, coarse, params(), h))
    fine = jnp.zeros(GRID.spectral_shape).at[0, coarse.lmax + 3].set(4.0)
    end = jnp.zeros(coarse.spectral_shape).at[0, 1].set(-4.0)
    x, y = fast(fine, 0 * end, (zero + 0.2, zero))
    np.testing.assert_allclose((x, y), (0.2 - h * velocity(GRID, fine)[0], 0 * y), atol=1e-12)
    down = 0.3 * field(coarse, lambda x, y: np.sin(y) + 0 * x)
    x, y = fast(0 * fine, end, (zero, down))
    np.testing.assert_allclose(x, h / 2 * velocity(GRID, regrid_hat(coarse, GRID, end))[0], atol=1e-12)
    np.testing.assert_allclose(y, to_grid(coarse, GRID, (zero, down))[1], atol=1e-12)


# Terms of the equation ------------------------------------------------------------------------


def test_a_zonal_jet_is_steady():
    jet = jnp.zeros((1, *GRID.spectral_shape)).at[0, 0].set(jnp.asarray(states()[0, 0]))
    later = ahead(jet, TESTBED.vary(**QUIET))
    np.testing.assert_allclose(later, jet, atol=1e-10)


def test_drag_and_forcing_of_a_zonal_flow():
    """ω(t) = ω₀ e^(−rt) + F (1 − e^(−rt)) / r; the trapezoidal rule is off by (r h)²/12 of the forcing."""
    jet = jnp.zeros((1, *GRID.spectral_shape)).at[0, 0].set(states()[0, 0])
    for drag, forcing in ((0.5, 0.0), (0.0, 0.3), (0.5, 0.3)):
        flow = TESTBED.vary(beta=0.0, drag=drag, forcing=forcing)
        force = flow.flow_params(FINE).forcing
        gained = -np.expm1(-drag) / drag if drag else 1.0
        later = ahead(jet, flow)
        np.testing.assert_allclose(later[0, 0], np.exp(-drag) * jet[0, 0] + gained * force, atol=2e-3 * 0.3)
        np.testing.assert_allclose(later[0, 1:], 0, atol=1e-10)


def test_forcing_at_departure_points():
    """From rest, F of y + δy counts as much as F of y, less its decay."""
    flow, h, drag = TESTBED.vary(**QUIET), 0.25, 0.8
    forcing = flow.vary(forcing=0.3).flow_params(FINE).forcing
    rest, shift_y = jnp.zeros(GRID.spectral_shape), field(GRID, lambda x, y: 0.3 * np.sin(y) * np.cos(x))
    force = to_physical(GRID, rest.at[0].set(forcing))
    there = interpolate(GRID, force, (jnp.zeros(GRID.shape), shift_y), -1)
    got = transport(GRID, params(drag=drag, forcing=forcing), h, rest, (jnp.zeros(GRID.shape), shift_y))
    wanted = h / 2 * (to_amplitudes(GRID, there) * np.exp(-drag * h)).at[0].add(forcing)
    np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_planetary_vorticity():
    """β δy with the exact decay of a constant v: ∫ β e^(−r s) ds δy / h."""
    shift_y = field(GRID, lambda x, y: 0.3 * np.sin(y) * np.cos(x))
    drag, h, beta = 0.8, 0.25, 0.7
    got = transport(GRID, params(beta, drag), h, jnp.zeros(GRID.spectral_shape), (jnp.zeros(GRID.shape), shift_y))
    wanted = beta * -np.expm1(-drag * h) / (drag * h) * to_amplitudes(GRID, shift_y)
    np.testing.assert_allclose(got, wanted, atol=1e-12)


@CORRECTOR
def test_a_rossby_wave_moves_at_its_speed(corrector):
    """Small waves cos(k x) sin(l y) travel at −β / (k² + l²) and decay by r; they stir nothing."""
    k, l, drag = 2, 1, 0.1  # noqa: E741
    flow = TESTBED.vary(beta=3.0, drag=drag, forcing=0.0, viscosity={"lr": 0.0})
    wave = jnp.zeros((1, *GRID.spectral_shape)).at[0, k, l - 1].set(1e-6)
    later = ahead(wave, flow, corrector=corrector)[0]
    wanted = np.exp(-drag) * shift_hat(GRID, wave[0], jnp.asarray(-3.0 / (k**2 + l**2)))
    np.testing.assert_allclose(later, wanted, atol=1e-8)  # v of k = 2 on 16 points is off by a percent


def test_viscosity_damps_each_mode():
    """Modes at rest: exp(−ν (k² + l²)² t)."""
    zero = jnp.zeros(GRID.shape)
    got = transport(GRID, params(viscosity=1e-4), 0.5, states()[0], (zero, zero))
    rows = np.concatenate([[0], np.arange(1, GRID.kmax + 1), np.arange(1, GRID.kmax + 1)])[:, None]
    k2 = rows**2 + np.arange(1, GRID.lmax + 1) ** 2
    np.testing.assert_allclose(got, states()[0] * np.exp(-1e-4 * 0.5 * k2.astype(float) ** 2), atol=1e-10)


# The whole forecast ---------------------------------------------------------------------------

MIDDLE = Level("middle", 64, 33, 1e-5, steps=20)


@functools.cache
def reference():
    """A smooth start on 64 × 33 points and the spectral model's state one cycle later."""
    flow = dataclasses.replace(TESTBED, analysis=MIDDLE, truth=MIDDLE)
    start = states() * jnp.exp(-0.01 * jnp.arange(1.0, 1 + GRID.lmax) ** 2)
    start = jax.vmap(lambda a: regrid_hat(GRID, MIDDLE.grid, a))(start.at[:, 6:11].set(0).at[:, 16:].set(0))
    run = quick_jit(jax.vmap(lambda a: integrate(flow, MIDDLE, a, 5)))(start)
    return flow, start, run.omega_hat[:, -1]


def relative(a, b):
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


def test_the_corrector_approaches_the_spectral_model():
    """With the fine level as its own driver only interpolation is left of the error."""
    flow, start, wanted = reference()
    own = relative(ahead(start, flow, 1e-5, driver=MIDDLE, substeps=1), wanted)
    coarse = [relative(ahead(start, flow, 1e-5, substeps=2, corrector=c), wanted) for c in (False, True)]
    assert own < 0.02 and own < coarse[1] < 0.6 * coarse[0] < 0.04, (own, coarse)


@CORRECTOR
def test_mean_and_enstrophy_are_kept(corrector):
    """Without sources both are constants of the motion; interpolation and truncation lose a little enstrophy."""
    _, start, _ = reference()
    flow = reference()[0].vary(**QUIET)
    later = ahead(start, flow, corrector=corrector)
    grid = MIDDLE.grid
    before, after = (jax.vmap(lambda a: enstrophy(grid, a))(s) for s in (start, later))
    assert jnp.all(after < before * 1.002) and jnp.all(after > 0.95 * before), after / before
    mean = [to_fields(grid, s).mean((1, 2)) for s in (start, later)]
    np.testing.assert_allclose(*mean, atol=5e-3 * abs(to_fields(grid, start)).mean())


@CORRECTOR
def test_shifts_and_reflections_are_symmetries(corrector):
    """By points of the driver's grid, and y → π − y with ω → −ω."""
    distance = jnp.asarray(3 * COARSE.grid.spacing[0])
    plain = ahead(states(), corrector=corrector)
    for move in (lambda a: shift_hat(GRID, a, distance), lambda a: reflect_hat(GRID, a)):
        np.testing.assert_allclose(
            ahead(jax.vmap(move)(states()), corrector=corrector), jax.vmap(move)(plain), atol=1e-9
        )


@pytest.mark.parametrize("every", [4, 2])
def test_the_contract_of_a_forecast(every):
    flow = dataclasses.replace(TESTBED, frames_per_cycle=every)
    model, plain, run = lagrangian(flow), spectral(flow, FINE), forecast(states(), flow)
    assert model.grid == GRID and run.frames.shape == (4, every, *GRID.spectral_shape)
    assert run.ahead.shape == states().shape and run.speeds.rate.shape == run.speeds.speed.shape == (every + 1,)
    np.testing.assert_array_equal(run.frames[:, 0], states())
    np.testing.assert_array_equal(model.to_analysis_grid(run.ahead), plain.to_analysis_grid(run.ahead))
    u, v = jax.vmap(lambda a: velocity(COARSE.grid, regrid_hat(GRID, COARSE.grid, a)))(run.ahead)
    np.testing.assert_allclose(run.speeds.speed[-1], jnp.sqrt(u**2 + v**2).max(), rtol=1e-12)
    # Each frame is where the next begins.
    again = forecast(run.frames[:, 1], flow)
    np.testing.assert_allclose(again.frames[:, 1], run.frames[:, 2] if every > 2 else run.ahead, atol=1e-10)
    np.testing.assert_allclose(ahead(states()[2:3], flow)[0], run.ahead[2], atol=1e-10)


@CORRECTOR
def test_precision(corrector):
    given = states("float32")
    single, double = ahead(given, corrector=corrector), ahead(given.astype("float64"), corrector=corrector)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, atol=1e-3)


@CORRECTOR
def test_no_tendency_is_evaluated_on_the_fine_grid(monkeypatch, corrector):
    from jaxsrda.flow import solver

    grids, advection = [], solver.advection
    monkeypatch.setattr(solver, "advection", lambda grid, *rest: grids.append(grid) or advection(grid, *rest))
    jax.eval_shape(lagrangian(TESTBED, corrector=corrector).forecast, states())
    assert set(grids) == {COARSE.grid}


def test_levels_need_not_nest():
    later = ahead(states(), driver=Level("odd", 20, 11, 1e-3, steps=7), viscosity=1e-4, corrector=True)
    nested = ahead(states(), corrector=True)
    assert relative(later, nested) < 0.5 < relative(states(), nested)


@CORRECTOR
def test_gradients_are_those_of_finite_differences(corrector):
    flow = dataclasses.replace(TESTBED, frames_per_cycle=1)
    names = ("beta", "drag", "forcing", "viscosity")

    def loss(numbers, given):
        *physics, viscosity = numbers
        testbed = flow.vary(**dict(zip(names, physics)))
        model = lagrangian(testbed, substeps=1, viscosity=viscosity, corrector=corrector)
        return jnp.sum(model.forecast(given).ahead ** 2)

    at, given = jnp.asarray([0.1, 0.01, 0.3, 1e-4]), states()[:1]
    # Both modes of differentiation: reverse, also to states, and forward, which compiles faster.
    slope = quick_jit(jax.jacfwd(loss) if corrector else jax.grad(loss, (0, 1)))
    loss = quick_jit(loss)
    slopes = slope(at, given)
    assert all(jnp.isfinite(each).all() for each in jax.tree.leaves(slopes))
    slopes = slopes if corrector else slopes[0]
    for i, size in enumerate((1e-5, 1e-5, 1e-5, 1e-8)):
        up, down = (loss(at.at[i].add(step), given) for step in (size, -size))
        np.testing.assert_allclose(slopes[i], (up - down) / (2 * size), rtol=1e-4, err_msg=names[i])
    # Where there is no drag the mean decay of the β term is a limit, not 0/0.
    still = jax.tree.leaves(slope(at.at[1].set(0.0), given))[0]
    assert abs(still[1] / slopes[1] - 1) < 0.1


def test_viscosities_are_those_asked_for():
    """By default a share of the truth's, here as a number, or a traced one; the driver keeps its own."""
    flow = dataclasses.replace(TESTBED, truth=dataclasses.replace(FINE, name="truth", viscosity=3e-4 / EXPLICIT))
    named = ahead(states(), viscosity=3e-4)
    default = quick_jit(lagrangian(flow).forecast)(states()).ahead
    np.testing.assert_allclose(default, named, atol=1e-10)
    assert relative(ahead(states(), TESTBED.vary(viscosity={"lr": 1e-2}), viscosity=3e-4), named) > 1e-4


def test_refusals():
    with pytest.raises(ValueError, match="substeps: expected at least 1 a frame, got 0"):
        lagrangian(TESTBED, substeps=0)
