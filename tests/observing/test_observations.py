"""Operators against analytic fields, noise statistics, packing, and what observations depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import quick_jit

from jaxsrda.flow.grid import ChannelGrid, velocity
from jaxsrda.observing import observations, operators
from jaxsrda.observing.layouts import at_positions, parse_layout

GRID = ChannelGrid(32, 17)
TOLERANCE = {"float32": 3e-6, "float64": 1e-13}
K, L = 3, 2


def mode(grid, dtype="float64", k=K, l=L):  # noqa: E741
    """ω = sin(ly) (2 cos kx − sin kx + 1/2)."""
    return jnp.asarray((2 * np.cos(k * grid.x) - np.sin(k * grid.x) + 0.5)[:, None] * np.sin(l * grid.y), dtype)


def exact(x, y):
    """ω, ψ, u and v of the mode at points."""
    wave, slope = 2 * np.cos(K * x) - np.sin(K * x), -2 * np.sin(K * x) - np.cos(K * x)
    psi_x = -wave / (K**2 + L**2) - 0.5 / L**2
    return {
        "vorticity": (wave + 0.5) * np.sin(L * y),
        "streamfunction": psi_x * np.sin(L * y),
        "velocity-x": -psi_x * L * np.cos(L * y),
        "velocity-y": -K * slope / (K**2 + L**2) * np.sin(L * y),
    }


def points(count, grid=None, seed=0):
    """Points anywhere, or on grid points, both walls among them."""
    rng = np.random.default_rng(seed)
    if grid is None:
        return rng.uniform(0, [2 * np.pi, np.pi], (count, 2))
    i, j = rng.integers(0, grid.nx, count), rng.integers(0, grid.ny, count)
    j[:2] = 0, grid.ny - 1
    return np.stack([grid.x[i], grid.y[j]], -1)


@pytest.mark.parametrize("name", ["vorticity", "vorticity-spectral", "streamfunction", "velocity-x", "velocity-y"])
def test_operators_are_exact_on_grid_points(name, dtype):
    p = points(60, GRID)
    got = operators.operator(name)(GRID, mode(GRID, dtype), jnp.asarray(p, dtype))
    expected = exact(*p.T)["vorticity" if name == "vorticity-spectral" else name]
    assert got.dtype == dtype and abs(expected).max() > 0.1
    np.testing.assert_allclose(got, expected, atol=20 * TOLERANCE[dtype])


def test_the_spectral_operator_is_exact_anywhere(dtype):
    p = points(60)
    got = operators.vorticity_spectral(GRID, mode(GRID, dtype), jnp.asarray(p, dtype))
    np.testing.assert_allclose(got, exact(*p.T)["vorticity"], atol=20 * TOLERANCE[dtype])


@pytest.mark.parametrize("name", ["vorticity", "streamfunction", "velocity-x", "velocity-y", "speed"])
def test_bilinear_operators_are_second_order(name):
    p = points(400)
    values = exact(*p.T)
    expected = np.hypot(values["velocity-x"], values["velocity-y"]) if name == "speed" else values[name]
    grids = [ChannelGrid(n, n // 2 + 1) for n in (64, 128, 256)]
    errors = [abs(operators.operator(name)(g, mode(g), jnp.asarray(p)) - expected).mean() for g in grids]
    assert errors[-1] < 1e-3
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 2, atol=0.15)


def test_bilinear_wraps_in_x_and_ends_at_the_walls(dtype):
    field = jnp.asarray(np.random.default_rng(0).normal(size=GRID.shape), dtype)
    dx, dy = GRID.spacing
    p = jnp.asarray([[2 * np.pi - dx / 4, 3 * dy], [5 * dx, np.pi], [0.0, 0.0], [2 * dx, np.pi - dy / 2]], dtype)
    f = np.asarray(field, float)
    expected = [f[-1, 3] / 4 + 3 / 4 * f[0, 3], f[5, -1], f[0, 0], (f[2, -1] + f[2, -2]) / 2]
    np.testing.assert_allclose(operators.bilinear(GRID, field, p), expected, rtol=50 * TOLERANCE[dtype])


def test_speed_is_the_speed(dtype):
    p = points(40, GRID)
    values = exact(*p.T)
    got = operators.speed(GRID, mode(GRID, dtype), jnp.asarray(p, dtype))
    np.testing.assert_allclose(got, np.hypot(values["velocity-x"], values["velocity-y"]), atol=1e-5)
    u, v = velocity(GRID, jnp.zeros(GRID.spectral_shape))
    assert u.max() == v.max() == 0 and operators.speed(GRID, jnp.zeros(GRID.shape), jnp.asarray(p)).max() < 1e-5


def test_linear_operators_are_found_out(dtype):
    found = {name for name, operator in operators.OPERATORS.items() if operators.is_linear(operator, GRID)}
    assert set(operators.OPERATORS) - found == {"speed", "vorticity-arctan", "vorticity-arcsinh"}
    for shape in (lambda w: 1 + w, lambda w: jnp.clip(w, -6, 6), lambda w: 1e-5 * w * w):
        assert not operators.is_linear(lambda grid, omega, at, f=shape: f(operators.vorticity(grid, omega, at)), GRID)


@pytest.mark.parametrize("size", [1, 3, 4])
def test_block_means(size, dtype):
    field = np.random.default_rng(0).normal(size=GRID.shape)
    field[:, [0, -1]] = 0
    i, j = np.array([0, 31, 7, 9, 12]), np.array([5, 1, 15, 16, 0])  # at the seam, at and on the walls
    ahead = np.arange(size) - (size - 1) // 2
    odd = np.concatenate([-field[:, :0:-1], field, -field[:, -2::-1]], axis=1)  # mirrored about both walls
    expected = [odd[np.ix_((a + ahead) % 32, b + 16 + ahead)].mean() for a, b in zip(i, j)]
    p = np.stack([GRID.x[i], GRID.y[j]], -1) + np.array(GRID.spacing) * [0.3, -0.2]
    got = operators.block_mean(size)(GRID, jnp.asarray(field, dtype), jnp.asarray(p, dtype))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    if size == 4:
        np.testing.assert_array_equal(
            got, operators.operator("block-mean-4")(GRID, jnp.asarray(field, dtype), jnp.asarray(p, dtype))
        )


def test_linear_operators_are_linear():
    a, b = (jnp.asarray(f) for f in np.random.default_rng(0).normal(size=(2, *GRID.shape)))
    p = jnp.asarray(points(30))
    for name, measure in operators.OPERATORS.items():
        together = measure(GRID, 2 * a - 3 * b, p)
        apart = 2 * measure(GRID, a, p) - 3 * measure(GRID, b, p)
        assert np.allclose(together, apart, atol=1e-12) == (
            name not in ("speed", "vorticity-arctan", "vorticity-arcsinh")
        ), name


@pytest.mark.parametrize("name", operators.OPERATORS)
def test_gradients_are_finite_and_right(name, dtype):
    p = jnp.asarray(points(10), dtype)

    def total(field):
        return jnp.sum(operators.operator(name)(GRID, field, p) ** 2)

    gradient = quick_jit(jax.grad(total))
    assert jnp.isfinite(gradient(jnp.zeros(GRID.shape, dtype))).all()  # at rest, where |u| has a corner
    field = mode(GRID, dtype)
    got = gradient(field)
    assert jnp.isfinite(got).all()
    if dtype == "float64":
        step = jnp.asarray(np.random.default_rng(1).normal(size=GRID.shape))
        slope = (total(field + 1e-5 * step) - total(field - 1e-5 * step)) / 2e-5
        np.testing.assert_allclose(jnp.sum(got * step), slope, rtol=1e-6)


def test_no_sensors_measure_nothing():
    for measure in operators.OPERATORS.values():
        assert measure(GRID, mode(GRID), jnp.zeros((0, 2))).shape == (0,)
    seen = observations.observe(jax.random.key(0), GRID, parse_layout("random-fixed:0", GRID), mode(GRID), 0)
    assert seen.capacity == 0
    assert observations.pack([], np.zeros((0, 2)), 0.1).capacity == 0


# Observing


def test_noise_statistics(dtype):
    p = points(200)
    truth = jnp.broadcast_to(mode(GRID, dtype), (400, *GRID.shape))
    seen = quick_jit(lambda key, f: observations.observe_run(key, GRID, at_positions(p), f, 1, 0.3))(
        jax.random.key(0), truth
    )
    assert {a.dtype for a in jax.tree.leaves(seen)} == {np.dtype(dtype), np.dtype(bool)} and seen.mask.all()
    np.testing.assert_allclose(seen.variance, 0.09, rtol=1e-6)
    noise = np.asarray(seen.values - operators.vorticity(GRID, truth[0], jnp.asarray(p, dtype)), float) / 0.3
    count = noise.size
    assert abs(noise.mean()) < 4 / np.sqrt(count)
    assert abs(noise.var() - 1) < 4 * np.sqrt(2 / count)
    assert abs((noise**4).mean() - 3) < 4 * np.sqrt(96 / count)
    assert abs((noise[1:] * noise[:-1]).mean()) < 4 / np.sqrt(count)  # independent in time
    assert abs((noise[:, 1:] * noise[:, :-1]).mean()) < 4 / np.sqrt(count)  # and between sensors


def test_observations_depend_on_key_truth_and_time_alone():
    layout = parse_layout("lattice:4+dropout:0.2", GRID)
    truths = jnp.stack([mode(GRID, k=k) for k in (1, 2)])[:, None] * jnp.arange(1.0, 13)[:, None, None]
    keys = jax.vmap(lambda i: observations.observation_key(5, i))(jnp.arange(2, dtype=jnp.uint32))
    run = quick_jit(jax.vmap(lambda key, frames: observations.observe_run(key, GRID, layout, frames, 4, 0.1)))(
        keys, truths
    )
    assert run.values.shape[:2] == (2, 3)
    single = quick_jit(lambda key, omega, time: observations.observe(key, GRID, layout, omega, time, 0.1))
    for truth, time in ((1, 2), (0, 0), (1, 0), (0, 2), (1, 1)):
        one = single(observations.observation_key(5, truth), truths[truth, 4 * time], time)
        assert one.sets is None
        for name, a, b in zip(one._fields, jax.tree.leaves(one), jax.tree.leaves(run)):
            np.testing.assert_allclose(a, b[truth, time], rtol=1e-12, atol=1e-14, err_msg=name)
    # Another seed, truth or time: other noise and other places.
    at_rest = jnp.zeros(GRID.shape)
    noises = [
        single(observations.observation_key(seed, truth), at_rest, time).values
        for seed, truth, time in ((5, 0, 0), (6, 0, 0), (5, 1, 0), (5, 0, 1))
    ]
    for i in range(4):
        for j in range(i):
            both = (noises[i] != 0) & (noises[j] != 0)
            assert both.sum() > 10 and not np.any(noises[i][both] == noises[j][both])
    # The truth changes the values, not the noise.
    key = observations.observation_key(5, 0)
    rest, moving = single(key, at_rest, 0), single(key, truths[0, 0], 0)
    np.testing.assert_array_equal(rest.positions, moving.positions)
    shown = jnp.where(moving.mask, operators.vorticity(GRID, truths[0, 0], moving.positions), 0)
    np.testing.assert_allclose(moving.values - rest.values, shown, atol=1e-14)


def test_silent_sensors_carry_no_number():
    nan = jnp.full(GRID.shape, jnp.nan)
    seen = observations.observe(jax.random.key(0), GRID, parse_layout("lattice:6", GRID), nan, 0)
    assert 0 < seen.mask.sum() < seen.capacity
    np.testing.assert_array_equal(jnp.isnan(seen.values), seen.mask)  # a truth's NaN shows, a spare slot's does not
    assert jnp.isfinite(seen.positions).all() and (seen.variance > 0).all()


def test_observe_run_takes_every_nth_frame():
    frames = jnp.arange(10.0)[:, None, None] * mode(GRID)
    seen = observations.observe_run(jax.random.key(0), GRID, at_positions(points(5, GRID)), frames, 4, 1e-9)
    expected = operators.vorticity(GRID, mode(GRID), seen.positions[0])
    np.testing.assert_allclose(seen.values, expected * jnp.array([0.0, 4.0, 8.0])[:, None], atol=1e-7)
    with pytest.raises(ValueError, match=r"truth: expected shape \(any, 32, 17\)"):
        observations.observe_run(jax.random.key(0), GRID, at_positions(points(5)), frames[:, 1:], 4)
    for std in (0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="noise_std: expected a finite number above 0"):
            observations.observe_run(jax.random.key(0), GRID, at_positions(points(5)), frames, 4, std)


# The user's own


def test_pack_pads_to_the_capacity():
    p = points(3)
    seen = observations.pack([1.0, 2.0, 3.0], p, [0.1, 0.2, 0.3], capacity=5)
    np.testing.assert_array_equal(seen.mask, [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(seen.values[:3], [1, 2, 3])
    np.testing.assert_array_equal(seen.positions[:3], p)
    np.testing.assert_allclose(seen.variance[:3], [0.1, 0.2, 0.3])
    assert seen.capacity == 5 and seen.mask.dtype == bool and jnp.isfinite(seen.positions).all()
    assert (seen.variance > 0).all()
    np.testing.assert_array_equal(observations.pack([1, 2, 3], p, 0.5).variance, [0.5] * 3)
    with jax.enable_x64(False):
        assert {a.dtype.name for a in jax.tree.leaves(observations.pack([1.0], p[:1], 0.1))} == {"float32", "bool"}


@pytest.mark.parametrize(
    "values, positions, variance, message",
    [
        ([1, 2, 3], np.ones((3, 2)), 0.1, "observations: 3 do not fit a capacity of 2; raise the capacity or thin"),
        ([1, 2], [[1, 1], [7, 1]], 0.1, r"expected x in \[0, 2π\) and y in \[0, π\], got 1 outside .*x = 7, y = 1"),
        ([1, 2], [[1, 1], [1, -0.1]], 0.1, r"got 1 outside \(first at x = 1, y = -0.1\)"),
        ([1, 2], [[2 * np.pi, 1], [1, 3.2]], 0.1, "got 2 outside"),
        ([1, np.nan], np.ones((2, 2)), 0.1, r"observation values: expected finite numbers, got 1 .*index \(1,\)"),
        ([1, 2], [[1, np.inf], [1, 1]], 0.1, "observation positions: expected finite numbers"),
        ([1, 2], np.ones((2, 2)), [0.1, np.nan], "observation variance: expected finite numbers"),
        ([1, -1e20], np.ones((2, 2)), 0.1, r"got -1e\+20 at index \(1,\), which looks like a fill value; mask it or"),
        ([1, 2], np.ones((2, 2)), [0.1, -0.2], "observation variance: expected numbers above 0, got -0.2"),
        ([1, 2], np.ones((2, 2)), 0, "observation variance: expected numbers above 0, got 0"),
        ([[1, 2]], np.ones((2, 2)), 0.1, r"observation values: expected 1 dimensions \(any\), got shape \(1, 2\)"),
        ([1, 2], np.ones((2, 3)), 0.1, r"observation positions: expected shape \(2, 2\), got \(2, 3\)"),
        ([1, 2], np.ones((1, 2)), 0.1, r"observation positions: expected shape \(2, 2\), got \(1, 2\)"),
        ([1, 2], np.ones((2, 2)), [0.1] * 3, r"observation variance: expected shape \(2\), got \(3,\)"),
    ],
)
def test_bad_observations_raise(values, positions, variance, message):
    with pytest.raises(ValueError, match=message):
        observations.pack(values, positions, variance, capacity=2)


def test_masked_arrays_are_masked():
    """What is under the mask of any of the three arrays, of one coordinate too, is never read."""
    p = np.ma.masked_invalid([[0.5, 1], [np.nan, 1], [0.7, 2], [0.8, 2]])
    values = np.ma.masked_equal([1.0, 2.0, 1e20, 4.0], 1e20)
    variance = np.ma.array([0.1, 0.2, 0.3, -1.0], mask=[0, 0, 0, 1])
    seen = observations.pack(values, p, variance, capacity=5)
    assert seen.mask.tolist() == [True, False, False, False, False] and jnp.isfinite(seen.positions).all()
    assert seen.values.tolist() == [1, 0, 0, 0, 0] and (seen.variance > 0).all()
    stacked = observations.Observations(values[None], p[None], np.ones((1, 4), bool), variance[None])
    checked = observations.check_observations(stacked)
    assert checked.mask.tolist() == [[True, False, False, False]] and checked.values.tolist() == [[1, 0, 0, 0]]


def test_stack_fills_unequal_and_silent_times():
    p = points(3)
    one, three = observations.pack([5.0], p[:1], 0.2), observations.pack([1.0, 2.0, 3.0], p, 0.1)
    seen = observations.stack([one, None, three, observations.pack([], [], 0.1)])
    assert seen.mask.sum(1).tolist() == [1, 0, 3, 0] and seen.values.shape == (4, 3) and seen.sets is None
    np.testing.assert_array_equal(seen.values, [[5, 0, 0], [0, 0, 0], [1, 2, 3], [0, 0, 0]])
    np.testing.assert_array_equal(seen.positions[2], p)
    np.testing.assert_allclose(seen.variance[0, 0], 0.2)
    assert observations.stack([None, None]).mask.shape == (2, 0)
    both = observations.join(one, three)
    assert observations.stack([both, None, both]).sets.tolist() == [[0, 1, 1, 1], [0, 0, 0, 0], [0, 1, 1, 1]]
    longer = observations.extended(seen, 6)
    assert longer.mask.sum(1).tolist() == [1, 0, 3, 0, 0, 0] and observations.extended(seen, 2) is seen
    np.testing.assert_array_equal(longer.values[:4], seen.values)


@pytest.mark.parametrize(
    ("times", "error", "message"),
    [
        (lambda one: [], ValueError, "observations: expected those of at least one time, got none"),
        (lambda one: [one, [1.0]], TypeError, "as jaxsrda.pack makes them, or None, got list at time 1"),
        (
            lambda one: [observations.stack([one])],
            ValueError,
            r"expected those of one time, \(p,\), got shape \(1, 1\)",
        ),
        (lambda one: [one, observations.join(one, one)], ValueError, "observations.sets: some times' observations bel"),
    ],
)
def test_what_cannot_be_stacked_is_refused(times, error, message):
    with pytest.raises(error, match=message):
        observations.stack(times(observations.pack([1.0], points(1), 0.1)))


def test_bad_names_and_sizes_raise():
    with pytest.raises(ValueError, match=r"operator: expected one of .*got 'vortcity'; did you mean 'vorticity'\?"):
        operators.operator("vortcity")
    with pytest.raises(ValueError, match="block_mean: expected a size of at least 1, got 0"):
        operators.block_mean(0)
    with pytest.raises(ValueError, match="block_mean: expected a size of at most 16, got 17"):
        operators.block_mean(17)(GRID, jnp.zeros(GRID.shape), jnp.ones((1, 2)))
    for name, measure in operators.OPERATORS.items():
        with pytest.raises(ValueError, match=r"expected 2 dimensions .*map over leading axes with jax.vmap"):
            measure(GRID, jnp.zeros((2, *GRID.shape)), jnp.ones((1, 2)))
        assert operators.operator(name) is measure
