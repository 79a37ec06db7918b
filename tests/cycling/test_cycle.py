"""The cycle: a scan is a loop, a vmap is a loop, what is counted, and sweeps."""

import dataclasses
import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID, TESTBED, observed, once, quick_jit, setup, states, truth

import jaxsrda
from jaxsrda.cycling.assimilator import Assimilator, Diagnostics, Setup, Window
from jaxsrda.cycling.cycle import run_cycles, start
from jaxsrda.cycling.sweep import sweep
from jaxsrda.experiment.registry import make_assimilator
from jaxsrda.filters.config import FilterConfig, filter_params
from jaxsrda.filters.ensemble import ensemble_filter
from jaxsrda.flow.climatology import from_runs
from jaxsrda.flow.forecasts import to_fields
from jaxsrda.flow.grid import regrid_hat, to_spectral
from jaxsrda.flow.jet import Physics
from jaxsrda.flow.simulate import integrate
from jaxsrda.flow.solver import Speeds
from jaxsrda.flow.testbed import Level
from jaxsrda.observing.sensors import Sensors, observe_truths
from jaxsrda.scoring import fit as fit_module
from jaxsrda.scoring import point
from jaxsrda.scoring import tally as tally_module

MEMBERS, CYCLES = 3, 3
frame_scores, tally = quick_jit(point.frame_scores), quick_jit(tally_module.frame_tally, static_argnums=1)
CONFIG = FilterConfig(members=MEMBERS, localization=1.0, additive=0.1)
KEY = jax.random.key(4)


def toy(params=None) -> Assimilator:
    """A method without a model: the observed mean, remembered, and noise about it."""
    amplitude = jnp.asarray(1.0) if params is None else params.additive

    def step(key, state, observations):
        level = state + jnp.where(observations.mask, observations.values, 0).mean()
        noise = jax.random.normal(key, (MEMBERS, 4, *GRID.shape), level.dtype)
        omega = level + amplitude.astype(level.dtype) * noise
        seen = omega[:, 0, :1, 0] + 0 * observations.values
        finite = jnp.isfinite(omega).all()
        still = Speeds(*jnp.zeros((2, 5), level.dtype))
        diagnostics = Diagnostics(finite, observations.mask, seen, seen + 1, still)
        return level, Window(omega, omega[:, 0].mean(0), diagnostics)

    return Assimilator(lambda key: 0.1 * jax.random.normal(key), step, MEMBERS)


def a_filter(params=None) -> Assimilator:
    return make_assimilator("persistence", setup(), CONFIG, params)


@functools.cache
def runner(maker, keep="members"):
    return quick_jit(lambda key, obs, truth, carry: run_cycles(maker(), key, obs, truth, carry, keep))


def part(tree, first, last):
    return jax.tree.map(lambda a: np.asarray(a)[first:last], tree)


assert_trees_close = functools.partial(chex.assert_trees_all_close, rtol=1e-9, atol=1e-11)


def seen(maker):
    """The truth to score against: none for the filter, whose scores are tested with those of the toy."""
    return truth(CYCLES) if maker is toy else None


@functools.cache
def whole(maker):
    return runner(maker)(KEY, observed(CYCLES), seen(maker), start(maker(), KEY, GRID))


@pytest.mark.parametrize("maker", [toy, a_filter])
def test_a_scan_is_a_loop(maker):
    carry, parts = start(maker(), KEY, GRID), []
    for i in range(CYCLES):
        obs, frames = part(observed(CYCLES), i, i + 1), part(seen(maker), 4 * i, 4 * i + 4)
        carry, history = runner(maker)(KEY, obs, frames, carry)
        parts.append(history)
    joined = jax.tree.map(lambda *a: np.concatenate(a), *parts)
    assert_trees_close((carry, joined), whole(maker))
    assert carry.index == CYCLES and joined.finite.all()
    assert len(np.unique(joined.fields.std.mean((2, 3)))) >= CYCLES


def test_a_vmap_over_truths_is_a_loop():
    """The one with the default carry, the other from `start`."""
    keys = jax.random.split(KEY, 2)
    obs, truths = two_truths(CYCLES)
    carry, history = quick_jit(jax.vmap(lambda *a: run_cycles(toy(), *a, keep="members")))(keys, obs, truths)
    for i in range(2):
        one = runner(toy)(keys[i], observed(CYCLES, seed=i), truth(CYCLES, seed=i), start(toy(), keys[i], GRID))
        assert_trees_close(jax.tree.map(lambda a: a[i], (carry, history)), one)  # noqa: B023
    assert abs(history.scores["maer"][0] - history.scores["maer"][1]).min() > 1e-3


def test_scores_are_of_the_members_kept():
    _, history = whole(toy)
    members, frames = history.fields.members, truth(CYCLES).reshape(CYCLES, 4, *GRID.shape)
    assert members.shape == (CYCLES, MEMBERS, 4, *GRID.shape)
    noise = members - members.mean(1, keepdims=True)
    assert abs(noise[0] - noise[1]).max() > 1  # each cycle draws anew
    for i in range(CYCLES):
        for t in range(4):
            expected = frame_scores(members[i, :, t], frames[i, t])
            for name, value in expected.items():
                np.testing.assert_allclose(history.scores[name][i, t], value, rtol=1e-9, err_msg=name)
    np.testing.assert_allclose(history.fields.mean, members.mean(1), atol=1e-12)
    np.testing.assert_allclose(history.fields.std, members.std(1, ddof=1), atol=1e-12)
    np.testing.assert_allclose(history.fields.background, members[:, :, 0].mean(1), atol=1e-12)
    fit = fit_module.observation_fit(
        observed(CYCLES).values[1],
        jnp.broadcast_to(members[1, :, 0, :1, 0], (MEMBERS, observed(CYCLES).capacity)),
        observed(CYCLES).mask[1],
        observed(CYCLES).variance[1],
    )
    for name, value in fit.items():
        np.testing.assert_allclose(history.fit_background[name][1], value, err_msg=name)
    assert abs(history.fit_analysis["rmse"] - history.fit_background["rmse"]).min() > 1e-3


def test_the_tally_leaves_the_first_cycle_out():
    carry, history = whole(toy)
    assert carry.tally.frames == 4 * (CYCLES - 1)
    frames = truth(CYCLES).reshape(CYCLES, 4, *GRID.shape)
    expected = tally_module.empty_tally(GRID, MEMBERS, "float64")
    for i in range(1, CYCLES):
        for t in range(4):
            expected = tally_module.merge(expected, tally(KEY, GRID, history.fields.members[i, :, t], frames[i, t]))
    assert_trees_close(carry.tally, expected)  # no ties: the ranks need no drawing


def test_runs_without_a_truth():
    carry, history = runner(toy)(KEY, observed(CYCLES), None, start(toy(), KEY))
    assert carry.tally is None and history.scores is None
    np.testing.assert_allclose(history.fields.mean, whole(toy)[1].fields.mean, atol=1e-12)
    assert_trees_close(history.fit_background, whole(toy)[1].fit_background)


def test_what_is_kept():
    obs, frames = observed(CYCLES), truth(CYCLES)
    shapes = {
        keep: jax.eval_shape(lambda: run_cycles(toy(), KEY, obs, frames, keep=keep))[1].fields  # noqa: B023
        for keep in ("scores", "fields", "members")
    }
    assert shapes["scores"] is None and shapes["fields"].members is None
    assert shapes["fields"].mean.shape == (CYCLES, 4, *GRID.shape)
    assert shapes["members"].members.shape == (CYCLES, MEMBERS, 4, *GRID.shape)
    with pytest.raises(ValueError, match=r"keep: expected one of scores, fields, members; got 'field'; did you mean"):
        run_cycles(toy(), KEY, obs, frames, keep="field")


def test_a_wrong_number_of_frames_raises():
    for frames in (4 * CYCLES - 1, 4 * CYCLES + 4):
        with pytest.raises(
            ValueError, match=r"truth: expected shape \(12, any, any\), .*; 4 frames for each observation time"
        ):
            run_cycles(toy(), KEY, observed(CYCLES), jnp.zeros((frames, *GRID.shape)))


def test_nan_stays_where_it_is():
    """In the frame that has it, and in that cycle's flag; a method that forgets goes on."""
    broken = truth(CYCLES).at[5, 3, 4].set(jnp.nan)
    _, history = runner(toy)(KEY, observed(CYCLES), broken, start(toy(), KEY, GRID))
    lost = np.isnan(np.asarray(history.scores["maer"]))
    assert lost[1, 1] and lost.sum() == 1 and history.finite.all()
    obs = observed(CYCLES)
    obs = obs._replace(values=obs.values.at[1, 0].set(jnp.where(obs.mask[1, 0], jnp.nan, 0)))
    assert obs.mask[1, 0]
    _, history = runner(toy)(KEY, obs, truth(CYCLES), start(toy(), KEY, GRID))
    np.testing.assert_array_equal(history.finite, [True, False, False])
    np.testing.assert_array_equal(np.isnan(history.scores["crps"]).any(1), [False, True, True])


def test_a_cycle_that_was_lost_is_not_forgotten():
    """A method that recovers is not finite in the cycle that it lost, and the carry says so to the end."""

    def step(key, state, observations):
        _, window = toy().step(key, jnp.asarray(0.0), observations)
        lost = window.diagnostics._replace(finite=state != 1)
        return state + 1, window._replace(diagnostics=lost)

    method = Assimilator(lambda key: jnp.int32(0), step, MEMBERS)
    carry, history = quick_jit(lambda: run_cycles(method, KEY, observed(CYCLES)))()
    np.testing.assert_array_equal(history.finite, [True, False, True])
    assert carry.state == CYCLES and not carry.finite
    first, rest = (part(observed(CYCLES), *ends) for ends in ((0, 2), (2, 3)))
    between, _ = quick_jit(lambda: run_cycles(method, KEY, first))()
    after, history = quick_jit(lambda: run_cycles(method, KEY, rest, carry=between))()
    assert history.finite.all() and not between.finite and not after.finite


# Sweeps


def settings(**values):
    count = len(next(iter(values.values())))
    params = filter_params(CONFIG)
    filled = {name: jnp.full(count, value) for name, value in params._asdict().items()}
    return params._replace(**filled | {name: jnp.asarray(value) for name, value in values.items()})


@functools.cache
def two_truths(cycles=2):
    obs = jax.tree.map(lambda *a: np.stack(a), *(observed(cycles, seed=i) for i in range(2)))
    return jax.tree.map(jnp.asarray, obs), jnp.stack([truth(cycles, seed=i) for i in range(2)])


def test_a_sweep_is_its_runs_and_compiles_once():
    obs, truths = two_truths()
    made = []

    def make(params):
        made.append(params)
        return a_filter(params)

    swept = settings(localization=[0.3, 0.8, 1.5], assumed_std=[0.0, 0.3, 0.1])
    got = sweep(make, swept, KEY, obs, truths)
    assert len(made) == 1  # traced once for three settings and two truths
    single = quick_jit(lambda params, o, t: run_cycles(a_filter(params), KEY, o, t)[1].scores)
    assert set(got) == {"maer", "mssim_loss", "rmse", "crps", "spread", "spread_skill", "error_spread_correlation"}
    for i in range(3):
        for j in range(2):
            one = single(jax.tree.map(lambda a: a[i], swept), jax.tree.map(lambda a: a[j], obs), truths[j])  # noqa: B023
            for name, values in got.items():
                assert values.shape == (3, 2)
                # Normal numbers are drawn in float32: two programs may differ in their last bit.
                np.testing.assert_allclose(values[i, j], one[name][1:].mean(), rtol=1e-6, err_msg=name)
    assert len(np.unique(got["maer"])) == 6


def test_a_broken_run_cannot_win_and_spoils_no_other():
    obs, truths = two_truths()
    obs = obs._replace(values=obs.values.at[1, 0].set(jnp.nan))  # in the cycle that is not counted
    got = sweep(toy, settings(additive=[0.5, np.inf, 2.0]), KEY, obs, truths, batch_size=2)
    for values in got.values():
        np.testing.assert_array_equal(np.isnan(values), [[False, True], [True, True], [False, True]])
    # The first truth's scores are those of a run of its own.
    alone = quick_jit(lambda params, *a: run_cycles(toy(params), KEY, *a)[1].scores["crps"])
    params = jax.tree.map(lambda a: a[2], settings(additive=[0.5, np.inf, 2.0]))
    np.testing.assert_allclose(got["crps"][2, 0], alone(params, observed(2), truth(2))[1:].mean(), rtol=1e-9)


def test_bad_sweeps_raise():
    obs, truths = two_truths()
    uneven = settings(additive=[0.5, 1.0])._replace(rtps=jnp.zeros(3))
    with pytest.raises(ValueError, match=r"params.rtps: expected shape \(2\), got \(3,\)"):
        sweep(toy, uneven, KEY, obs, truths)
    with pytest.raises(ValueError, match="sweep: expected a truth to score against, got None"):
        sweep(toy, settings(additive=[0.5]), KEY, obs, None)


# Other testbeds

OTHER = dataclasses.replace(
    TESTBED,
    name="other",
    forecast=Level("low", 12, 7, 2e-3, steps=4),
    analysis=Level("high", 24, 13, 3e-4, steps=6),
    truth=Level("high", 24, 13, 3e-4, steps=6),
    physics=Physics(beta=1.0),
    frames_per_cycle=2,
    frames=8,
    vorticity_range=(-10.0, 10.0),
)
SENSORS = (Sensors("lattice:4"), Sensors("random-fixed:6", "speed", role="guiding"))


class Beta(NamedTuple):
    """What is swept: a number of the physics."""

    beta: jax.Array


@once
def other_setup():
    amplitudes = jax.vmap(lambda a: regrid_hat(GRID, OTHER.grid, a))(states())
    return Setup(OTHER, from_runs(OTHER.grid, amplitudes.reshape(2, 2, *OTHER.grid.spectral_shape)), SENSORS)


@once
def other_case():
    """A truth (frames, nx, ny) of the other testbed, and what its sensors see."""

    @quick_jit
    def case(start):
        run = integrate(OTHER, OTHER.truth, regrid_hat(GRID, OTHER.grid, start), OTHER.frames).omega_hat
        frames = to_fields(OTHER.grid, run)
        key = jax.random.key(0)[None]
        return frames, observe_truths(key, OTHER.grid, frames[None], SENSORS, OTHER.frames_per_cycle)

    frames, seen = case(states()[0])
    return frames, jax.tree.map(lambda a: a[0], seen)


def other_filter(flow=OTHER):
    where = other_setup()._replace(testbed=flow)
    return ensemble_filter(where, where.forecast_model(), "enkf", 6, filter_params(CONFIG))


def test_a_filter_on_another_testbed():
    """Other sizes, another β, and two frames from one assimilation time to the next."""
    frames, seen = other_case()
    run = quick_jit(lambda key: run_cycles(other_filter(), key, seen, frames, None, "members", OTHER))
    carry, history = run(KEY)
    assert history.fields.members.shape == (4, 6, 2, *OTHER.grid.shape) and history.finite.all()
    assert history.speeds.rate.shape == (4, 3) and carry.tally.frames == 2 * 3 and carry.index == 4
    assert (history.fit_analysis["rmse"] < history.fit_background["rmse"]).all()
    # Only what is assimilated counts: the second set guides, which this filter is not.
    np.testing.assert_array_equal(history.fit_analysis["count"], (seen.mask & (seen.sets == 0)).sum(1))
    scored = quick_jit(lambda *a: point.frame_scores(*a, 20.0))  # the testbed's range of vorticity
    for name, value in scored(history.fields.members[2, :, 1], frames[5]).items():
        np.testing.assert_allclose(history.scores[name][2, 1], value, rtol=1e-6, err_msg=name)

    # The forecast is that of this testbed's physics, at the members' level.
    def forecast(field):
        own = OTHER.forecast.grid
        start = regrid_hat(OTHER.grid, own, to_spectral(OTHER.grid, field))
        return integrate(OTHER, OTHER.forecast, start, 3).omega_hat[-1]

    ahead = quick_jit(jax.vmap(forecast))(history.fields.members[3, :, 0])
    np.testing.assert_allclose(carry.state.omega_hat, ahead, atol=1e-8)


def test_the_number_of_frames_is_the_testbeds():
    frames, seen = other_case()
    with pytest.raises(ValueError, match=r"truth: expected shape \(8, any, any\), .*; 2 frames for each"):
        run_cycles(other_filter(), KEY, seen, jnp.concatenate([frames, frames]), testbed=OTHER)
    with pytest.raises(ValueError, match=r"truth: expected shape \(16, any, any\), .*; 4 frames for each"):
        run_cycles(other_filter(), KEY, seen, frames)  # by default those of the jet


def test_a_sweep_over_physics_is_that_of_separate_testbeds_and_compiles_once():
    frames, seen = other_case()
    betas, made = [0.0, 1.0, 3.0], []

    def make(setting):
        made.append(setting)
        return other_filter(OTHER.vary(beta=setting.beta))

    one = jax.tree.map(lambda a: a[None], (seen, frames))
    got = jaxsrda.sweep(make, Beta(jnp.asarray(betas)), KEY, *one, testbed=OTHER)
    assert len(made) == 1
    alone = quick_jit(lambda flow: run_cycles(other_filter(flow), KEY, seen, frames, testbed=flow)[1].scores)
    for number, beta in enumerate(betas):
        expected = alone(OTHER.vary(beta=beta))
        for name, values in got.items():
            np.testing.assert_allclose(values[number, 0], expected[name][1:].mean(), rtol=1e-6, err_msg=name)
    assert alone._cache_size() == 1
    assert len(np.unique(got["rmse"])) == 3 and got["rmse"][2, 0] > got["rmse"][1, 0]  # the truth's β is 1
