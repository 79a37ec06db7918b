"""Filters against dense linear algebra, against one another, and where they must change nothing."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import quick_jit

from jaxsrda.filters import analysis as analysis_module
from jaxsrda.filters import inflation
from jaxsrda.filters.analysis import ANALYSES
from jaxsrda.filters.config import FILTERS, FilterConfig, FilterParams, filter_params
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.observing import geometry
from jaxsrda.observing.layouts import parse_layout
from jaxsrda.observing.observations import Observations, pack
from jaxsrda.observing.operators import vorticity

GRID = ChannelGrid(12, 7)
POINTS = 12 * 7
MEMBERS = 8
SENSORS = np.array([15, 30, 31, 52, 68])  # flat indices, inside the walls
TOLERANCE = {"float32": 5e-5, "float64": 1e-11}


def analysis(name):
    def analyse(key, ensemble, observations, params):
        return ANALYSES[name](key, GRID, ensemble, seen_by(ensemble, observations), observations, params)

    return quick_jit(analyse)


analyse = {name: analysis(name) for name in ANALYSES}


def parameters(dtype="float64", **values) -> FilterParams:
    return filter_params(FilterConfig(), dtype)._replace(**{k: jnp.asarray(v, dtype) for k, v in values.items()})


NO_LOCALIZATION = {"localization": np.inf}


def fields(seed=0, members=MEMBERS, dtype="float64"):
    """A correlated ensemble (M, nx, ny) about a mean that is not zero, zero on the walls."""
    rng = np.random.default_rng(seed)
    waves = np.stack([np.cos(k * GRID.x)[:, None] * np.sin(l * GRID.y) for k in range(4) for l in (1, 2, 3)])  # noqa: E741
    values = 1 + np.tensordot(rng.normal(size=(members, 12)), waves, 1) + 0.3 * rng.normal(size=(members, *GRID.shape))
    values[..., [0, -1]] = 0
    return jnp.asarray(values, dtype)


def sensors(dtype="float64", index=SENSORS, values=None, variance=0.25, mask=None):
    """Sensors on grid points."""
    p = np.stack([GRID.x[index // 7], GRID.y[index % 7]], -1)
    values = np.linspace(-1, 2, len(index)) if values is None else values
    mask = np.ones(len(index), bool) if mask is None else mask
    variance = np.broadcast_to(variance, len(index))
    return Observations(*(jnp.asarray(a, dtype) for a in (values, p)), jnp.asarray(mask), jnp.asarray(variance, dtype))


def seen_by(ensemble, observations):
    return jax.vmap(lambda f: vorticity(GRID, f, observations.positions))(ensemble)


def run(name, ensemble, observations, params, key=0):
    return analyse[name](jax.random.key(key), ensemble, observations, params)


def dense_kalman(mean, cov, observations):
    """Exact mean and covariance of the posterior: numpy, float64, states flat."""
    operator = np.eye(POINTS)[SENSORS]
    gain = (
        cov
        @ operator.T
        @ np.linalg.inv(operator @ cov @ operator.T + np.diag(np.asarray(observations.variance, float)))
    )
    innovation = np.asarray(observations.values, float) - operator @ mean
    return mean + gain @ innovation, cov - gain @ operator @ cov


def moments(ensemble):
    flat = np.asarray(ensemble, float).reshape(len(ensemble), -1)
    return flat.mean(0), np.cov(flat.T)


# Localization


def test_gaspari_cohn_is_the_papers():
    with np.load(Path(__file__).parents[1] / "data" / "reference.npz") as data:
        r, rho = data["gc_r"], data["gc_rho"]
    assert rho.max() == 1 and (rho == 0).any()
    np.testing.assert_allclose(analysis_module.gaspari_cohn(jnp.asarray(r)), rho, atol=1e-14)
    np.testing.assert_allclose(analysis_module.gaspari_cohn(jnp.asarray(r, "float32")), rho, atol=2e-6)


def test_gaspari_cohn_has_its_support(dtype):
    r = jnp.linspace(0, 3, 301, dtype=dtype)
    rho = np.asarray(quick_jit(analysis_module.gaspari_cohn)(r))
    r = np.asarray(r)
    assert rho[0] == 1 and rho.dtype == dtype
    assert np.all(rho[r >= 2] == 0) and np.all(rho[r < 1.99] > 0)
    assert np.all(np.diff(rho[r <= 2]) <= 0)
    slope = quick_jit(jax.vmap(jax.grad(analysis_module.gaspari_cohn)))(jnp.asarray(r))
    assert jnp.isfinite(slope).all() and abs(np.diff(slope)).max() < 0.06  # continuous where the branches meet
    assert analysis_module.gaspari_cohn(jnp.asarray(1.0)) == pytest.approx(5 / 24)


def test_distances_are_periodic_in_x():
    a = np.random.default_rng(0).uniform(0, [2 * np.pi, np.pi], (20, 2))
    b = np.random.default_rng(1).uniform(0, [2 * np.pi, np.pi], (15, 2))
    images = [np.linalg.norm(a[:, None] - b[None] + [2 * np.pi * n, 0], axis=-1) for n in (-1, 0, 1)]
    got = geometry.distance(jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_allclose(got, np.min(images, 0), rtol=1e-12)
    assert (np.min(images, 0) < images[1] - 0.1).any()
    np.testing.assert_array_equal(analysis_module.localization(jnp.asarray(a), jnp.asarray(b), jnp.asarray(jnp.inf)), 1)


@pytest.mark.parametrize("half_width", [0.4, 0.9])
def test_the_weight_is_five_24ths_at_the_half_width_and_zero_at_twice_that(half_width):
    away = half_width * np.array([0, 0.5, 1, 1.5, 1.999, 2, 2.5])
    at = jnp.asarray(np.stack([1 + away, np.ones(7)], -1))
    got = np.asarray(analysis_module.localization(at[:1], at, jnp.asarray(half_width)))[0]
    # Gaspari & Cohn (1999, eq. 4.10) by hand at 0, 1/2, 1 and 3/2 half-widths.
    np.testing.assert_allclose(got[:4], [1, 0.684896, 5 / 24, 0.016493], atol=1e-6)
    assert 0 < got[4] < 1e-9 and not np.any(got[5:])


def test_grid_positions_follow_memory_order():
    p = geometry.grid_positions(GRID, "float64").reshape(*GRID.shape, 2)
    np.testing.assert_array_equal(p[3, 5], [GRID.x[3], GRID.y[5]])


# The stochastic EnKF


def test_enkf_tends_to_the_kalman_filter():
    prior_mean, prior_cov = moments(fields(0, 40))
    root = np.linalg.cholesky(prior_cov + 1e-10 * np.eye(POINTS))
    observations = sensors()
    mean, cov = dense_kalman(prior_mean, prior_cov, observations)
    sizes, trials = (50, 400, 3200), 8
    errors = []
    for members in sizes:
        draws = np.random.default_rng(members).normal(size=(trials, members, POINTS))
        ensembles = jnp.asarray((prior_mean + draws @ root.T).reshape(trials, members, *GRID.shape))
        got = [moments(run("enkf", e, observations, parameters(**NO_LOCALIZATION), i)) for i, e in enumerate(ensembles)]
        errors.append([np.mean([np.linalg.norm(x[i] - y) for x in got]) for i, y in enumerate((mean, cov))])
    scale = np.linalg.norm(mean - prior_mean), np.linalg.norm(prior_cov - cov)
    assert np.all(np.divide(errors[-1], scale) < 0.1)
    order = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    np.testing.assert_allclose(order, -0.5, atol=0.1)


def test_enkf_is_its_formula(dtype):
    ensemble, variance = fields(0, dtype=dtype), np.linspace(0.1, 0.5, 5)
    observations, params = sensors(dtype, variance=variance), parameters(dtype, localization=0.9)
    got = run("enkf", ensemble, observations, params)
    flat = np.asarray(ensemble, float).reshape(MEMBERS, -1)
    here = geometry.grid_positions(GRID, "float64")
    rho = np.asarray(analysis_module.localization(here, here, jnp.asarray(0.9)))
    operator, cov = np.eye(POINTS)[SENSORS], rho * np.cov(flat.T)
    gain = cov @ operator.T @ np.linalg.inv(operator @ cov @ operator.T + np.diag(variance))
    departures = analysis_module.departures(seen_by(ensemble, observations), observations, params)
    noise = np.asarray(analysis_module.perturbations(jax.random.key(0), MEMBERS, departures), float)
    np.testing.assert_allclose(noise.mean(0), 0, atol=1e-6)
    expected = flat + (np.asarray(observations.values, float) + noise - flat[:, SENSORS]) @ gain.T
    assert got.dtype == dtype and abs(expected - flat).max() > 0.5
    np.testing.assert_allclose(got.reshape(MEMBERS, -1), expected, atol=TOLERANCE[dtype])
    beyond = rho[:, SENSORS].max(1) == 0
    assert beyond.any()
    np.testing.assert_array_equal(np.asarray(got).reshape(MEMBERS, -1)[:, beyond], flat[:, beyond].astype(dtype))


def test_perturbations_have_the_variance_of_r():
    seen = analysis_module.Departures(jnp.zeros((2, 3)), jnp.zeros(3), jnp.asarray([0.1, 1.0, 4.0]))
    noise = analysis_module.perturbations(jax.random.key(0), 20_000, seen)
    np.testing.assert_allclose(noise.var(0), seen.variance, rtol=0.05)
    np.testing.assert_allclose(noise.mean(0), 0, atol=1e-12)


@pytest.mark.parametrize("name, members", [("enkf", 100), ("etkf", 100), ("ensf", 100)])
def test_no_state_by_state_matrix_is_formed(name, members):
    grid = ChannelGrid(128, 65)
    layout = parse_layout("lattice:8", grid)
    shape = jax.ShapeDtypeStruct
    f = "float32"
    observations = Observations(shape((128,), f), shape((128, 2), f), shape((128,), bool), shape((128,), f))
    params = filter_params(FILTERS["enkf-hr"], f)
    assert layout.capacity == 128
    jaxpr = jax.make_jaxpr(lambda *a: ANALYSES[name](jax.random.key(0), grid, *a, params))(
        shape((members, 128, 65), f), shape((members, 128), f), observations
    )

    def jaxprs_within(jaxpr):
        for eqn in jaxpr.eqns:
            for value in jax.tree.leaves(eqn.params, is_leaf=lambda v: hasattr(v, "eqns")):
                if hasattr(value, "eqns"):
                    yield getattr(value, "jaxpr", value)

    def largest(jaxpr):
        sizes = [variable.aval.size for eqn in jaxpr.eqns for variable in eqn.outvars]
        return max(sizes + [largest(inner) for inner in jaxprs_within(jaxpr)], default=0)

    biggest = largest(jaxpr.jaxpr)
    assert 8320 * 100 <= biggest < 8320 * 512


# Square-root filters


def test_etkf_is_the_exact_kalman_update_of_its_ensemble(dtype):
    ensemble, observations = fields(0, dtype=dtype), sensors(dtype, variance=np.linspace(0.1, 0.5, 5))
    got = run("etkf", ensemble, observations, parameters(dtype))
    mean, cov = dense_kalman(*moments(ensemble), observations)
    got_mean, got_cov = moments(got)
    assert got.dtype == dtype
    np.testing.assert_allclose(got_mean, mean, atol=TOLERANCE[dtype])
    np.testing.assert_allclose(got_cov, cov, atol=TOLERANCE[dtype])
    # The symmetric root: T = (I + YYᵀ)^{-1/2} from an M × M eigenproblem.
    flat = np.asarray(ensemble, float).reshape(MEMBERS, -1)
    anomalies = flat - flat.mean(0)
    y = anomalies[:, SENSORS] / np.sqrt(np.asarray(observations.variance, float) * (MEMBERS - 1))
    value, vector = np.linalg.eigh(np.eye(MEMBERS) + y @ y.T)
    expected = vector @ np.diag(value**-0.5) @ vector.T @ anomalies
    np.testing.assert_allclose(np.asarray(got).reshape(MEMBERS, -1) - got_mean, expected, atol=TOLERANCE[dtype])


def test_etkf_with_more_sensors_than_members():
    index = np.array([7 * i + j for i in range(12) for j in range(1, 6)])
    ensemble = fields(0, members=4)
    mean, cov = moments(ensemble)
    observations = sensors(index=index)
    got_mean, got_cov = moments(run("etkf", ensemble, observations, parameters()))
    operator = np.eye(POINTS)[index]
    gain = cov @ operator.T @ np.linalg.inv(operator @ cov @ operator.T + 0.25 * np.eye(60))
    np.testing.assert_allclose(got_mean, mean + gain @ (np.linspace(-1, 2, 60) - operator @ mean), atol=1e-11)
    np.testing.assert_allclose(got_cov, cov - gain @ operator @ cov, atol=1e-11)


def test_letkf_without_localization_is_etkf(dtype):
    ensemble = fields(0, dtype=dtype)
    observations, params = sensors(dtype, variance=np.linspace(0.1, 0.5, 5)), parameters(dtype, **NO_LOCALIZATION)
    local, whole = (run(name, ensemble, observations, params) for name in ("letkf", "etkf"))
    assert local.dtype == dtype and abs(whole - ensemble).max() > 0.5
    np.testing.assert_allclose(local, whole, atol=TOLERANCE[dtype])


def test_letkf_is_an_etkf_of_the_sensors_near_each_point():
    ensemble, observations, width = fields(0), sensors(), 0.9
    got = run("letkf", ensemble, observations, parameters(localization=width)).reshape(MEMBERS, -1)
    weight = np.asarray(
        analysis_module.localization(
            geometry.grid_positions(GRID, "float64"), observations.positions, jnp.asarray(width)
        )
    )
    for point in (15, 16, 29, 44):
        near = weight[point] > 0
        tapered = observations._replace(variance=observations.variance / np.where(near, weight[point], 1))
        alone = run("etkf", ensemble, tapered._replace(mask=jnp.asarray(near)), parameters())
        np.testing.assert_allclose(got[:, point], alone.reshape(MEMBERS, -1)[:, point], atol=1e-11)
    far = weight.max(1) == 0
    assert far.any()
    np.testing.assert_allclose(got[:, far], ensemble.reshape(MEMBERS, -1)[:, far], atol=1e-14)


def test_letkf_takes_the_nearest_sensors():
    index = np.array([7 * i + j for i in range(12) for j in range(1, 6)])
    ensemble, observations = fields(0), sensors(index=index)
    params, predicted = parameters(localization=2.0), seen_by(ensemble, observations)
    key = jax.random.key(0)
    got = quick_jit(lambda: analysis_module.letkf(key, GRID, ensemble, predicted, observations, params, local=6))()
    point = 7 * 3 + 3
    here = geometry.grid_positions(GRID, "float64")[point : point + 1]
    weight = np.asarray(analysis_module.localization(here, observations.positions, params.localization))[0]
    away = np.asarray(geometry.distance(here, observations.positions))[0]
    near = jnp.asarray(np.isin(np.arange(60), np.argsort(away, kind="stable")[:6]))
    tapered = observations._replace(variance=observations.variance / weight, mask=near)
    alone = run("etkf", ensemble, tapered, parameters())
    np.testing.assert_allclose(got[:, 3, 3], alone[:, 3, 3], atol=1e-11)


# Batches


@pytest.mark.parametrize("name", ["enkf", "letkf"])
@pytest.mark.parametrize("at_once", [1, 60])
def test_batches_of_grid_points_give_the_same_numbers(name, at_once, monkeypatch):
    ensemble, observations, params = fields(0), sensors(), parameters(localization=0.9)
    whole = run(name, ensemble, observations, params)
    monkeypatch.setattr(analysis_module, "AT_ONCE", at_once)  # a row is 5 numbers long: 12 batches do not divide 84
    assert analysis_module.points_at_once(5, POINTS) == max(at_once // 5, 1) < POINTS
    batches = quick_jit(
        lambda: analysis_module.ANALYSES[name](
            jax.random.key(0), GRID, ensemble, seen_by(ensemble, observations), observations, params
        )
    )()
    np.testing.assert_allclose(batches, whole, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name, squares", [("enkf", 2), ("letkf", 0)])
def test_memory_with_thousands_of_sensors_is_bounded(name, squares):
    """HR and 8192 sensors: `squares` arrays (sensors, sensors), and never one of (points, sensors)."""
    grid, count, members = ChannelGrid(128, 65), 8192, 8

    def zeros(*shape, dtype="float32"):
        return jax.ShapeDtypeStruct(shape, dtype)

    observations = Observations(zeros(count), zeros(count, 2), zeros(count, dtype=bool), zeros(count))
    shapes = zeros(members, *grid.shape), zeros(members, count), observations
    params = parameters("float32", localization=0.5)
    analyse = jax.jit(lambda *given: ANALYSES[name](jax.random.key(0), grid, *given, params))
    used = analyse.lower(*shapes).compile().memory_analysis().temp_size_in_bytes
    square, whole = 4 * count**2, 4 * count * grid.nx * grid.ny
    assert used < squares * square + 4 * 4 * analysis_module.AT_ONCE
    assert used - squares * square < whole


# Masks


@pytest.mark.parametrize("name", ["etkf", "letkf", "ensf", "enkf"])
def test_masked_sensors_are_as_good_as_removed(name, dtype="float64"):
    ensemble, params = fields(0, dtype=dtype), parameters(dtype, localization=0.9)
    on = np.array([1, 0, 1, 1, 0], bool)
    values = np.where(on, np.linspace(-1, 2, 5), np.nan)  # what a silent sensor says is not read
    masked = sensors(dtype, values=values, variance=np.where(on, 0.25, np.nan), mask=on)
    removed = sensors(dtype, index=SENSORS[on], values=values[on])
    if name != "enkf":
        got, expected = (run(name, ensemble, o, params) for o in (masked, removed))
    else:  # the same perturbations in both

        @quick_jit
        def given(observations, noise):
            seen = analysis_module.departures(seen_by(ensemble, observations), observations, params)
            innovations = jnp.where(observations.mask, seen.innovation + noise - seen.anomalies, 0).T
            return analysis_module.gain_increments(
                ensemble.reshape(MEMBERS, -1),
                seen,
                innovations,
                geometry.grid_positions(GRID, dtype),
                observations.positions,
                params.localization,
            )

        noise = np.random.default_rng(0).normal(size=(MEMBERS, 5)).astype(dtype)
        got, expected = given(masked, noise), given(removed, noise[:, on])
        assert jnp.isfinite(run(name, ensemble, masked, params)).all()
    assert jnp.isfinite(got).all() and abs(got - (0 if name == "enkf" else ensemble)).max() > 0.1
    np.testing.assert_allclose(got, expected, atol=20 * TOLERANCE[dtype])


@pytest.mark.parametrize("name", ["enkf", "etkf", "letkf", "ensf"])
@pytest.mark.parametrize("capacity, dtype", [(0, "float64"), (5, "float64"), (5, "float32")])
def test_without_observations_the_forecast_passes_through(name, capacity, dtype):
    ensemble = fields(0, dtype=dtype)
    none = sensors(dtype, index=SENSORS[:capacity], values=np.full(capacity, np.nan), mask=np.zeros(capacity, bool))
    got = run(name, ensemble, none, parameters(dtype))
    np.testing.assert_allclose(got, ensemble, atol=2e-6 if dtype == "float32" else 1e-14)
    if name in ("enkf", "ensf"):
        np.testing.assert_array_equal(got, ensemble)


@pytest.mark.parametrize("name", ["enkf", "etkf", "letkf", "ensf"])
def test_spare_capacity_changes_nothing(name):
    ensemble = fields(0)
    p = np.asarray(sensors().positions)
    tight, roomy = (pack(np.linspace(-1, 2, 5), p, 0.25, capacity) for capacity in (5, 9))
    params = parameters(localization=0.9)
    if name == "enkf":  # its perturbations depend on the capacity, so the members' mean (noise of mean zero) tells
        tight, roomy = (run(name, ensemble, o, params).mean(0) for o in (tight, roomy))
        assert abs(tight - ensemble.mean(0)).max() > 0.1
        np.testing.assert_allclose(tight, roomy, atol=1e-12)
    else:
        np.testing.assert_allclose(*(run(name, ensemble, o, params) for o in (tight, roomy)), atol=1e-12)


# R


def test_r_is_the_sensors_own_unless_configured(dtype):
    ensemble, variance = fields(0, dtype=dtype), np.linspace(0.1, 0.5, 5)
    observations = sensors(dtype, variance=variance)
    predicted = seen_by(ensemble, observations)

    def r(**values):
        return analysis_module.departures(predicted, observations, parameters(dtype, **values)).variance

    np.testing.assert_allclose(r(), variance, rtol=1e-6)
    np.testing.assert_allclose(r(representativeness=0.2), variance + 0.2, rtol=1e-6)
    np.testing.assert_allclose(r(assumed_std=0.3), [0.09] * 5, rtol=1e-6)
    np.testing.assert_allclose(r(assumed_std=0.3, representativeness=0.2), [0.29] * 5, rtol=1e-6)
    for name in ANALYSES:
        weak, strong = (run(name, ensemble, observations, parameters(dtype, assumed_std=s)) for s in (10.0, 0.1))
        error = [abs(seen_by(e, observations).mean(0) - observations.values).mean() for e in (weak, strong)]
        assert error[1] < (0.95 if name == "ensf" else 0.6) * error[0], name


def test_departures_check_their_shapes():
    with pytest.raises(ValueError, match=r"predicted: expected shape \(any, 5\), got \(8, 4\)"):
        analysis_module.departures(jnp.zeros((8, 4)), sensors(), parameters())


# EnSF


def test_ensf_pulls_towards_the_datum(dtype):
    rng = np.random.default_rng(0)
    ensemble = jnp.asarray(rng.normal(size=(60, *GRID.shape)), dtype)
    ensemble = ensemble.at[:, :, jnp.array([0, -1])].set(0)
    observations = sensors(dtype, index=np.array([30]), values=np.array([1.5]), variance=0.01)
    got = run("ensf", ensemble, observations, parameters(dtype))
    assert got.dtype == dtype and jnp.isfinite(got).all()
    at, before = np.asarray(seen_by(got, observations)), np.asarray(seen_by(ensemble, observations))
    # Not all the way: at the end of the diffusion the members pull as hard as an exact datum.
    assert abs(at.mean() - 1.5) < 0.6 * abs(before.mean() - 1.5) and at.std() < 0.8 * before.std()
    assert abs(got[:, :, 0]).max() == abs(got[:, :, -1]).max() == 0
    # Far from the sensor the law is the prior's.
    np.testing.assert_allclose(np.asarray(got)[:, 9:, 1:-1].std(), 1, atol=0.15)


@pytest.mark.parametrize("variance, kept", [(1e8, 1.0), (1.4, 1 / 2), (0.7, 1 / 3)])
def test_ensf_at_one_point_has_the_posterior_of_a_gaussian(variance, kept):
    """Members N(0, 1.4) at one point; a sensor there leaves `kept` of the variance, and one that says nothing all.

    Other points hold ± 1 in every member, so that the filter's unit of vorticity is near the deviation.
    """
    members, point = 800, 30
    signs = np.where(np.arange(POINTS) % 2, 1.0, -1.0).reshape(GRID.shape)
    signs[:, [0, -1]] = 0
    flat = np.tile(signs.reshape(-1), (members, 1))
    drawn = np.random.default_rng(0).normal(size=members)
    flat[:, point] = np.sqrt(1.4) * (drawn - drawn.mean()) / drawn.std()
    observations = sensors(index=np.array([point]), values=np.array([1.2]), variance=variance)
    got = np.asarray(run("ensf", jnp.asarray(flat.reshape(members, *GRID.shape)), observations, parameters()))
    at = got.reshape(members, -1)[:, point]
    # The method's own bias is at most 0.05 here, sampling adds 0.03; a wrong diffusion or damping is off by 0.15.
    np.testing.assert_allclose(at.std() / np.sqrt(1.4), np.sqrt(kept), atol=0.1)
    np.testing.assert_allclose(at.mean(), 1.2 * (1 - kept), atol=0.15)


def test_ensf_takes_many_sensors_on_one_point_as_one():
    ensemble = fields(0, 20)
    params = parameters()
    one = sensors(index=np.array([30, 52]), values=np.array([2.0, 0.5]), variance=np.array([0.01, 0.02]))
    many = sensors(
        index=np.array([30] * 4 + [52]),
        values=np.array([1.9, 2.1, 1.9, 2.1, 0.5]),
        variance=np.array([0.04] * 4 + [0.02]),
    )
    np.testing.assert_allclose(run("ensf", ensemble, many, params), run("ensf", ensemble, one, params), atol=1e-9)


# Inflation


def test_inflation_scales_the_anomalies(dtype):
    ensemble = fields(0, dtype=dtype)
    got = inflation.inflate(ensemble, jnp.asarray(1.5, dtype))
    np.testing.assert_allclose(got.mean(0), ensemble.mean(0), atol=2e-6)
    np.testing.assert_allclose(got.std(0), 1.5 * ensemble.std(0), atol=2e-6)
    np.testing.assert_allclose(inflation.inflate(ensemble, jnp.asarray(1.0, dtype)), ensemble, atol=1e-6)


def test_relaxation(dtype):
    background, analysis = fields(0, dtype=dtype), 0.4 * fields(1, dtype=dtype)
    amount = [jnp.asarray(a, dtype) for a in (0.0, 0.5, 1.0)]
    for relax in (inflation.relax_spread, inflation.relax_perturbations):
        none, half, full = (relax(analysis, background, a) for a in amount)
        np.testing.assert_array_equal(none, analysis)
        for relaxed in (half, full):
            np.testing.assert_allclose(relaxed.mean(0), analysis.mean(0), atol=1e-6)
            assert jnp.isfinite(relaxed).all()  # the walls have no spread
        np.testing.assert_allclose(full.std(0), background.std(0), atol=2e-6)
    halfway = (analysis.std(0) + background.std(0)) / 2
    np.testing.assert_allclose(inflation.relax_spread(analysis, background, amount[1]).std(0), halfway, atol=2e-6)
    # RTPS keeps the analysis' pattern, RTPP brings back the background's.
    full = inflation.relax_perturbations(analysis, background, amount[2])
    np.testing.assert_allclose(full - full.mean(0), background - background.mean(0), atol=2e-6)
    kept = inflation.relax_spread(analysis, background, amount[2])[:, :, 1:-1]
    ratio = (kept - kept.mean(0)) / (analysis - analysis.mean(0))[:, :, 1:-1]
    np.testing.assert_allclose(ratio, jnp.broadcast_to(ratio[:1], ratio.shape), rtol=2e-3)
    assert (ratio > 0).all()


# Duplicates


@pytest.mark.parametrize("name", ["enkf", "etkf", "letkf"])
def test_precise_duplicates_are_borne_in_single_precision(name):
    """Several sensors on each grid point with R = 1e-10, the paper's for lattice 4: finite, as in double."""
    index = np.repeat(np.array([7 * i + j for i in range(12) for j in range(1, 6)]), 3)
    options = {"assumed_std": 1e-5, "localization": 0.6}
    single, double = (
        run(name, fields(0, dtype=dtype), sensors(dtype, index), parameters(dtype, **options))
        for dtype in ("float32", "float64")
    )
    assert np.isfinite(single).all()
    background = fields(0)
    moved = float(jnp.abs(double - background).max())
    np.testing.assert_allclose(single, double, atol=0.05 * moved)
    wanted = sensors(index=index, values=np.repeat(np.linspace(-1, 2, 60), 3))
    close = run(name, background, wanted, parameters(**options))
    misfit = [abs(seen_by(e, wanted).mean(0) - wanted.values).mean() for e in (close, background)]
    # Eight members without localization cannot follow sixty points.
    assert misfit[0] < (0.9 if name == "etkf" else 0.35) * misfit[1]


def test_the_least_variance_is_relative_to_the_background():
    ensemble, observations = fields(0), sensors()
    predicted = seen_by(ensemble, observations)
    seen = analysis_module.departures(predicted, observations, parameters(assumed_std=1e-5))
    largest = np.var(predicted, axis=0, ddof=1).max()
    np.testing.assert_allclose(seen.variance, [1e-4 * largest] * 5, rtol=1e-9)
    masked = sensors(mask=np.array([True, False, True, True, True]))
    seen = analysis_module.departures(predicted, masked, parameters())
    np.testing.assert_allclose(seen.variance, [0.25, 1, 0.25, 0.25, 0.25])
