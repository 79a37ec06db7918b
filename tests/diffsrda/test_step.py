"""DiffSRDA in the cycle: each prior left alone is its filter, each restart is a forecast, and the contract."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import COARSE, FINE, GRID, TESTBED, observed, quick_jit, setup

from jaxsrda.cycling.cycle import run_cycles
from jaxsrda.diffsrda import prior as priors
from jaxsrda.diffsrda.condition import Conditioning, Guess, channels, krige
from jaxsrda.diffsrda.config import RESTARTS, DiffSRDAConfig
from jaxsrda.diffsrda.prior import Analysed, Prior, PriorKind, make_prior, register_prior
from jaxsrda.diffsrda.step import Draw, diffsrda, recorded_step, start
from jaxsrda.filters.config import FILTERS, FilterConfig, filter_params
from jaxsrda.filters.dual import dual_filter
from jaxsrda.filters.ensemble import ensemble_filter
from jaxsrda.flow.grid import regrid_hat, to_physical, to_spectral
from jaxsrda.flow.simulate import integrate
from jaxsrda.flow.solver import Speeds
from jaxsrda.observing.observations import join
from jaxsrda.observing.sensors import Sensors

MEMBERS, CYCLES = 4, 3
CONFIG = FilterConfig(members=MEMBERS, localization=1.0, additive=0.1)
LR = COARSE.grid
UNITS = Conditioning.of(TESTBED)
FRAMES, CHANNELS, PAST = UNITS.frames, UNITS.channels, UNITS.past
KEY, INIT = jax.random.key(7), jax.random.key(8)

PRIORS = {
    "dual": DiffSRDAConfig(prior="dual", members=MEMBERS),
    "enkf-sr": DiffSRDAConfig(prior="enkf-sr", members=MEMBERS),
    "lr-first": DiffSRDAConfig(prior="lr", restart="first", members=MEMBERS),
    "lr-each": DiffSRDAConfig(prior="lr", restart="each", members=MEMBERS),
}
FILTERED = ("dual", "enkf-sr")


def small():
    return setup("float64")


def prior_of(name, dtype="float64", where=None):
    where = setup(dtype) if where is None else where
    return make_prior(where, PRIORS[name], filter_params(CONFIG, dtype))


def fake_draw(key, conditions, *_):
    """Corrections (M, 5, nx, ny): waves of their own for each member and frame, and a fifth of the departures'."""
    x, y = (jnp.asarray(a, conditions.dtype) for a in (GRID.x, GRID.y))
    size = 0.3 * jax.random.normal(key, (MEMBERS, FRAMES, 1, 1), conditions.dtype)
    told = conditions[jnp.arange(MEMBERS) % len(conditions), :, :, FRAMES + 3]
    return size * (jnp.cos(2 * x)[:, None] * jnp.sin(3 * y)) + 0.2 * told[:, None]


def stepper(name, draw, restart=None, dtype="float64"):
    """A prior's recorded step, restarting as its configuration says."""
    config = PRIORS[name]
    return recorded_step(setup(dtype), prior_of(name, dtype), draw, config.restart if restart is None else restart)


class Case:
    """A prior, its step without a model and with a fake one, compiled once."""

    def __init__(self, name):
        self.prior, where = prior_of(name), small()
        self.alone = quick_jit(stepper(name, None))
        self.drawn = quick_jit(stepper(name, fake_draw))
        self.state = quick_jit(lambda key: start(where, self.prior, key, float))(INIT)
        self.seen = jax.tree.map(lambda a: a[0], observed(CYCLES))


@functools.cache
def case_of(name):
    return Case(name)


@pytest.fixture(params=PRIORS)
def case(request):
    return case_of(request.param)


@functools.cache
def runner(level):
    """Five frames (M, 5, 2K+1, L) of amplitudes (M, 2K+1, L)."""
    params = TESTBED.flow_params(level)
    return quick_jit(jax.vmap(lambda a: integrate(TESTBED, level, a, FRAMES, params).omega_hat))


def to_lr(fields):
    """Fields (…, nx, ny) low-passed to the coarse level's amplitudes."""
    return jnp.stack([regrid_hat(GRID, LR, to_spectral(GRID, field)) for field in fields])


def to_hr(omega_hat):
    return jnp.stack([to_physical(GRID, regrid_hat(LR, GRID, a)) for a in omega_hat])


def assert_close(a, b, atol=1e-10):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_allclose(x, y, atol=atol)


# The prior alone


@pytest.mark.parametrize("name", FILTERED)
def test_a_filter_left_alone_is_the_filter(name):
    """Without a model the state is the filter's own, the guess its ensemble's mean and spread, at t + 4 too."""
    case, params = case_of(name), filter_params(CONFIG)
    where = small()
    inner = dual_filter(where, where.analysis_model(), where.forecast_model(), MEMBERS, params)
    if name == "enkf-sr":
        inner = ensemble_filter(where, where.forecast_model(), "enkf", MEMBERS, params)
    assert_close(case.state.prior, quick_jit(inner.init)(INIT))
    state, window, now = case.alone(KEY, case.state, case.seen)
    wanted, out = quick_jit(inner.step)(jax.random.split(KEY)[0], case.state.prior, case.seen)
    assert_close(state.prior, wanted)
    if name == "dual":
        later = to_physical(GRID, wanted.control_hat[0]) + to_hr(wanted.members_hat - wanted.members_hat.mean(0))
    else:
        later = to_hr(wanted.omega_hat)
    guess = now.guess
    assert guess.frames.shape == (1, FRAMES, *GRID.shape) and case.prior.guesses == 1
    np.testing.assert_allclose(guess.frames[0, :4], out.omega.mean(0), atol=1e-10)
    np.testing.assert_allclose(guess.frames[0, 4], later.mean(0), atol=1e-10)
    np.testing.assert_allclose(guess.spread[0], [out.omega[:, 0].std(0, ddof=1), later.std(0, ddof=1)], atol=1e-10)
    np.testing.assert_allclose(guess.background[0], out.background, atol=1e-10)
    np.testing.assert_allclose(window.omega, guess.frames[:, :4], atol=1e-12)  # the guess is the analysis
    np.testing.assert_allclose(window.background, out.background, atol=1e-10)
    np.testing.assert_allclose(window.diagnostics.background_observed, out.diagnostics.background_observed, atol=1e-10)
    np.testing.assert_allclose(window.diagnostics.speeds.rate, out.diagnostics.speeds.rate)
    assert window.diagnostics.finite and abs(guess.frames[0, 0] - guess.background[0]).max() > 0.1


@pytest.mark.parametrize("name, guesses", [("lr-first", 1), ("lr-each", MEMBERS)])
def test_a_forecast_left_alone_is_the_forecast(name, guesses):
    """One for all, or one for each member if each restarts its own; HR by zero padding, no spread, no analysis."""
    case = case_of(name)
    assert case.prior.guesses == guesses
    begin = quick_jit(lambda key: small().forecast_model().initial(key, guesses, "float64"))(INIT)
    assert_close(case.state.prior.omega_hat, begin)
    state, window, now = case.alone(KEY, case.state, case.seen)
    run = runner(COARSE)(begin)
    np.testing.assert_allclose(state.prior.omega_hat, run[:, 4], atol=1e-10)
    assert state.prior.time == case.state.prior.time + 1
    for member in range(guesses):
        np.testing.assert_allclose(now.guess.frames[member], to_hr(run[member]), atol=1e-10)
    assert not now.guess.spread.any()
    np.testing.assert_array_equal(now.guess.background, now.guess.frames[:, 0])
    np.testing.assert_allclose(window.omega, now.guess.frames[:, :4], atol=1e-12)
    np.testing.assert_allclose(window.background, now.guess.frames[:, 0].mean(0), atol=1e-12)
    if guesses > 1:
        assert abs(begin[0] - begin[1]).max() > 1e-4


def test_lr_members_by_restart():
    for restart in RESTARTS:
        prior = make_prior(small(), DiffSRDAConfig(prior="lr", restart=restart, members=MEMBERS))
        assert prior.guesses == (MEMBERS if restart == "each" else 1)


@pytest.mark.parametrize("name, maker", [("dual", "dual_prior"), ("enkf-sr", "enkf_sr_prior")])
def test_the_filters_preset_is_the_default(monkeypatch, name, maker):
    """Without parameters of its own a prior filters as its preset does, with the configuration's members."""
    monkeypatch.setattr(priors, maker, lambda where, members, params: (members, params))
    for given in (None, filter_params(CONFIG)):
        members, params = make_prior(small(), PRIORS[name], given)
        wanted = filter_params(FILTERS["enkf-dual" if name == "dual" else name]) if given is None else given
        assert members == MEMBERS and list(params) == list(wanted)


# With a model


@pytest.mark.parametrize("name", PRIORS)
def test_the_analysis_is_the_guess_corrected(name):
    """The model is told the channels of its own guess; its corrections are added to it, member by member."""
    case = case_of(name)
    after, window, now = case.drawn(KEY, case.state, case.seen)
    conditions = jax.vmap(lambda n, m: channels(GRID, n, m, UNITS))(now, case.state.memory)
    assert conditions.shape == (case.prior.guesses, *GRID.shape, CHANNELS)
    corrections = fake_draw(jax.random.split(KEY)[1], conditions)
    omega = now.guess.frames[jnp.arange(MEMBERS) % case.prior.guesses] + corrections
    np.testing.assert_allclose(window.omega, omega[:, :4], atol=1e-10)
    seen = small().observed(omega[:, 0], case.seen)
    np.testing.assert_allclose(window.diagnostics.analysis_observed, seen, atol=1e-10)
    np.testing.assert_allclose(window.background, now.guess.background.mean(0), atol=1e-12)
    assert window.diagnostics.finite and window.omega.std(0)[0].max() > 0.05
    # What it says of the next time is remembered: of each member, or on average where there is one guess for all.
    ahead = omega[:, 4] if case.prior.guesses == MEMBERS else omega[:, 4].mean(0, keepdims=True)
    np.testing.assert_allclose(after.memory.ahead, ahead, atol=1e-10)
    # The departures are from each guess, not from another's.
    at = small().observed(now.guess.frames[:, 0], case.seen)
    i, j = (jnp.rint(case.seen.positions / jnp.asarray(GRID.spacing)).astype(int)).T
    for guess in range(case.prior.guesses):
        wanted = jnp.where(case.seen.mask, case.seen.values - at[guess], 0)
        got = jnp.where(case.seen.mask, now.sensors[guess, 0, i, j], 0)
        np.testing.assert_allclose(got, wanted, atol=1e-10)


@pytest.mark.parametrize(
    "name, restart",
    [(name, restart) for name in FILTERED for restart in RESTARTS]
    + [("lr-first", r) for r in ("open", "first", "mean")]
    + [("lr-each", r) for r in ("open", "each")],
)
def test_restarts_are_forecasts_from_the_samples(name, restart):
    """The state after a restart is the run from the chosen samples, low-passed; `open` leaves the prior's own."""
    case = case_of(name)
    analysed = quick_analysis(name)
    own = analysed[0]
    prior = case.prior._replace(analyse=lambda *_: analysed)
    step = recorded_step(small(), prior, fake_draw, restart)
    state, window, _ = quick_jit(step)(KEY, case.state, case.seen)
    samples = window.omega[:, 0]
    count = MEMBERS if name in FILTERED else case.prior.guesses
    if restart == "open":
        assert_close(state.prior, own)
        return
    fields = {"first": samples[:1], "mean": samples.mean(0)[None], "each": samples[:count]}[restart]
    if name == "dual":
        control = samples[0] if restart == "first" else samples.mean(0)
        run = runner(FINE)(to_spectral(GRID, control)[None])[:, 4]
        np.testing.assert_allclose(state.prior.control_hat, run, atol=1e-10)
        members = runner(COARSE)(to_lr(fields))[:, 4] if restart == "each" else own.members_hat
        np.testing.assert_allclose(state.prior.members_hat, members, atol=1e-10)
        moved = abs(run - own.control_hat).max()
    else:
        run = jnp.broadcast_to(runner(COARSE)(to_lr(fields))[:, 4], own.omega_hat.shape)
        np.testing.assert_allclose(state.prior.omega_hat, run, atol=1e-10)
        moved = abs(run - own.omega_hat).max()
    assert moved > 0.01
    assert state.prior.time == own.time == 1


@functools.cache
def quick_analysis(name):
    """What the prior makes of the first observations, computed once for all that starts from it."""
    state, window, now = case_of(name).alone(KEY, case_of(name).state, case_of(name).seen)
    return state.prior, Analysed(now.guess, window.diagnostics.background_observed, window.diagnostics.speeds)


def test_few_samples_are_recycled():
    """With fewer samples than LR members each sample restarts several."""
    case = case_of("enkf-sr")
    fields = quick_analysis("enkf-sr")[1].guess.frames[0, :2]
    state = quick_jit(case.prior.restart, static_argnums=2)(case.state.prior, fields, "each")
    run = runner(COARSE)(to_lr(fields))[:, 4]
    np.testing.assert_allclose(state.omega_hat, run[jnp.array([0, 1, 0, 1])], atol=1e-10)


@pytest.mark.parametrize("name, draw", [("enkf-sr", fake_draw), ("lr-first", fake_draw), ("lr-each", None)])
def test_memory_holds_the_last_analyses(name, draw):
    """A filter's own guesses, an LR forecast's low-passed restarts, and departures from them; newest first."""
    case, analyses = case_of(name), []
    step, state = case.alone if draw is None else case.drawn, case.state
    assert not state.memory.analyses.any() and (state.memory.uncertainties == 1).all()
    assert state.memory.analyses.shape == (case.prior.guesses, PAST, *GRID.shape)
    kriged = quick_jit(lambda departures, seen: jax.vmap(lambda d: krige(GRID, d, seen, UNITS)[0])(departures))
    for time in range(CYCLES):
        seen = jax.tree.map(lambda a, t=time: a[t], observed(CYCLES))
        state, window, now = step(jax.random.fold_in(KEY, time), state, seen)
        guess = now.guess.frames[:, 0]
        restarted = to_hr(to_lr(window.omega[:1, 0]))
        analyses.append(restarted if name == "lr-first" else guess)
        assert draw is None or abs(restarted - guess).max() > 0.1  # the two can be told apart
        for back in range(min(time + 1, PAST)):
            np.testing.assert_allclose(state.memory.analyses[:, back], analyses[-1 - back], atol=1e-10)
        departures = kriged(seen.values - small().observed(analyses[-1], seen), seen)
        np.testing.assert_allclose(state.memory.departures[:, 0], departures, atol=1e-9)
        np.testing.assert_allclose(state.memory.uncertainties[:, 0], now.uncertainty, atol=1e-10)
        np.testing.assert_array_equal(state.memory.known, float(draw is not None))
        if time == 0:
            assert not state.memory.analyses[:, 1:].any() and (state.memory.uncertainties[:, 1:] == 1).all()
            before = state.memory
        elif time == 1:
            assert_close([a[:, 1] for a in state.memory[:3]], [a[:, 0] for a in before[:3]])


@pytest.mark.parametrize("name", ["vorticity", "vorticity-spectral", "speed", "block-mean-4"])
def test_only_vorticity_is_kriged(name):
    """Of other operators the network hears nothing, as if there were no sensor."""
    where = small()._replace(sensors=(Sensors("lattice:4", name),))
    case, heard = case_of("lr-first"), []

    def listen(key, conditions, *_):
        heard.append(conditions)
        return jnp.zeros((MEMBERS, FRAMES, *GRID.shape))

    analysed = quick_analysis("lr-first")
    prior = case.prior._replace(analyse=lambda *_: analysed)
    recorded_step(where, prior, listen, "open")(KEY, case.state, case.seen)
    departure, uncertainty, value, there = jnp.moveaxis(heard[0][0, ..., FRAMES + 3 : FRAMES + 7], -1, 0)
    if name.startswith("vorticity"):
        assert abs(departure).max() > 0.1 and uncertainty.min() < 0.5 and abs(value).max() > 0.1
        assert int(there.sum()) == int(case.seen.mask.sum())
    else:
        assert not departure.any() and not value.any() and not there.any() and (uncertainty == 1).all()


def test_the_filter_uses_every_operator():
    """Observed speeds say nothing to the network, but move the prior's analysis."""
    where = small()._replace(sensors=(Sensors("lattice:4", "speed"),))
    step = quick_jit(recorded_step(where, prior_of("enkf-sr", where=where), None))
    case = case_of("enkf-sr")
    (_, window, now), (_, other, _) = (
        step(KEY, case.state, case.seen._replace(values=abs(case.seen.values) + more)) for more in (0.0, 1.0)
    )
    assert not now.sensors.any() and not now.departure.any()
    moved = other.diagnostics.analysis_observed - window.diagnostics.analysis_observed
    assert jnp.where(case.seen.mask, moved, 0).mean() > 0.01


# The contract


@pytest.mark.parametrize("name", PRIORS)
def test_state_in_is_state_out(name, dtype="float32"):
    """Traced, not run: structure, shapes and types (the other tests run in double precision)."""
    seen, where = jax.tree.map(lambda a: a[0], observed(CYCLES, dtype)), setup(dtype)

    def both(key):
        prior = prior_of(name, dtype, where)
        before = start(where, prior, key, dtype)
        return before, recorded_step(where, prior, fake_draw, PRIORS[name].restart)(key, before, seen)

    before, (after, window, _) = jax.eval_shape(both, INIT)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert jax.tree.leaves(before) == jax.tree.leaves(after)
    assert window.omega.shape == (MEMBERS, 4, *GRID.shape) and window.background.shape == GRID.shape
    assert window.diagnostics.analysis_observed.shape == (MEMBERS, seen.capacity)
    assert {a.dtype for a in jax.tree.leaves((after.memory, window)) if a.dtype != bool} == {np.dtype(dtype)}


def test_keys_and_second_calls(case):
    """One key one answer, another key another; new observations compile nothing."""
    first, again, other = (case.drawn(key, case.state, case.seen) for key in (KEY, KEY, jax.random.key(9)))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again)):
        np.testing.assert_array_equal(a, b)
    assert abs(first[1].omega - other[1].omega).max() > 0.01
    state, window, _ = case.drawn(KEY, first[0], case.seen._replace(mask=~case.seen.mask))
    assert window.diagnostics.finite and state.prior.time == 2
    assert case.drawn._cache_size() == 1


@pytest.mark.parametrize("frame", [0, FRAMES - 1])
def test_a_lost_sample_shows(frame):
    """One number of one sample that is none, even in the frame that no window shows: not finite."""
    case, analysed, where = case_of("enkf-sr"), quick_analysis("enkf-sr"), small()
    prior = case.prior._replace(analyse=lambda *_: analysed)

    @quick_jit
    def finite(value):
        def draw(key, conditions, *_):
            return jnp.zeros((MEMBERS, FRAMES, *GRID.shape)).at[1, frame, 3, 4].set(value)

        return recorded_step(where, prior, draw, "open")(KEY, case.state, case.seen)[1].diagnostics.finite

    assert finite(0.0) and not finite(jnp.nan) and not finite(jnp.inf)


def test_a_lost_forecast_shows():
    case, (state, analysed) = case_of("enkf-sr"), quick_analysis("enkf-sr")
    speeds = analysed.speeds._replace(rate=analysed.speeds.rate.at[4].set(jnp.nan))
    prior = case.prior._replace(analyse=lambda *_: (state, analysed._replace(speeds=speeds)))
    _, window, _ = recorded_step(small(), prior, None)(KEY, case.state, case.seen)
    assert not window.diagnostics.finite


@pytest.mark.parametrize("role", ["assimilated", "guiding"])
def test_the_network_hears_assimilated_vorticity_of_any_set(role):
    """Of two sets, speeds and vorticity, the second is kriged, unless it is there to guide."""
    sets = (Sensors("lattice:4", "speed"), Sensors("lattice:4", role=role))
    case, heard = case_of("lr-first"), []
    seen = join(case.seen, case.seen._replace(values=case.seen.values + 0.5))

    def listen(key, conditions, *_):
        heard.append(conditions)
        return jnp.zeros((MEMBERS, FRAMES, *GRID.shape))

    analysed = quick_analysis("lr-first")
    prior = case.prior._replace(analyse=lambda *_: analysed)
    _, window, _ = recorded_step(small()._replace(sensors=sets), prior, listen, "open")(KEY, case.state, seen)
    departure, _, value, there = jnp.moveaxis(heard[0][0, ..., FRAMES + 3 : FRAMES + 7], -1, 0)
    own = case.seen.mask if role == "assimilated" else jnp.zeros_like(case.seen.mask)
    np.testing.assert_array_equal(window.diagnostics.assimilated, jnp.concatenate([case.seen.mask, own]))
    assert int(there.sum()) == int(own.sum())
    if role == "guiding":
        assert not departure.any() and not value.any()
        return
    i, j = (jnp.rint(case.seen.positions / jnp.asarray(GRID.spacing)).astype(int)).T
    guess = small().observed(analysed[1].guess.frames[:, 0], case.seen)[0]
    wanted = jnp.where(own, case.seen.values + 0.5 - guess, 0) / UNITS.departure_scale
    np.testing.assert_allclose(jnp.where(own, value[i, j], 0), wanted, atol=1e-10)


def test_snapshots_are_made_in_the_units_of_the_draw():
    """Snapshots and memory hold what a draw asks for; a plain function is given the testbed's own."""
    other = Conditioning(past=3, kriging_length=0.6, departure_scale=0.1)
    case, heard = case_of("lr-first"), []
    analysed = quick_analysis("lr-first")
    prior = case.prior._replace(analyse=lambda *_: analysed)

    def listen(key, conditions, *_):
        heard.append(conditions)
        return jnp.zeros((MEMBERS, FRAMES, *GRID.shape))

    state = start(small(), prior, INIT, float, other)
    assert state.memory.analyses.shape == (1, 3, *GRID.shape)
    _, _, now = recorded_step(small(), prior, Draw(listen, other, MEMBERS), "open")(KEY, state, case.seen)
    assert heard[0].shape == (1, *GRID.shape, other.channels) and other.channels == CHANNELS + 3
    _, _, plain = recorded_step(small(), prior, listen, "open")(KEY, case.state, case.seen)
    np.testing.assert_allclose(now.sensors, plain.sensors, atol=1e-12)
    assert (now.uncertainty <= plain.uncertainty + 1e-12).all() and abs(now.departure - plain.departure).max() > 0.05
    np.testing.assert_allclose(heard[0][..., FRAMES + 5], now.sensors[:, 0] / 0.1, atol=1e-10)
    np.testing.assert_allclose(heard[1][..., FRAMES + 5], now.sensors[:, 0] / 0.5, atol=1e-10)
    _, _, told = recorded_step(small(), prior, None, units=other)(KEY, state, case.seen)
    np.testing.assert_allclose(told.departure, now.departure, atol=1e-12)


# Priors of one's own


def still_prior(guesses, members, log):
    """A prior that always guesses zero; `log` gets what it is asked to restart from."""

    def init(key):
        return jnp.zeros(())

    def analyse(key, state, observations):
        zeros = jnp.zeros((guesses, FRAMES, *GRID.shape))
        none = jnp.zeros(FRAMES)
        guess = Guess(zeros, jnp.ones((guesses, 2, *GRID.shape)), zeros[:, 0])
        return state + 1, Analysed(guess, jnp.zeros((members, observations.capacity)), Speeds(none, none))

    def restart(state, fields, mode):
        log.append((fields.shape, mode))
        return state + 10

    return Prior(init, analyse, restart, guesses)


def test_a_prior_of_ones_own_comes_by_name(monkeypatch):
    made, log = [], []

    def make(setup, members, params, restart):
        made.append((setup, members, params, restart))
        return still_prior(1, members, log)

    with monkeypatch.context() as registry:
        registry.setitem(priors.PRIORS, "still", None)
        registry.delitem(priors.PRIORS, "still")  # whatever is registered goes in the end
        register_prior("still", PriorKind(make, "mean"))
        config = DiffSRDAConfig(prior="still", members=MEMBERS)
        assert config.restart == "mean" and DiffSRDAConfig(prior="still", members=1).members == 1  # it filters nothing
        prior = make_prior(small(), config)
        assert made == [(small(), MEMBERS, None, "mean")]
        method = diffsrda(small(), prior, Draw(fake_draw, UNITS, MEMBERS), MEMBERS, config.restart)
        seen = jax.tree.map(lambda a: a[0], observed(CYCLES))
        state, window = quick_jit(lambda key: method.step(key, method.init(key), seen))(KEY)
        assert log == [((MEMBERS, *GRID.shape), "mean")] and state.prior == 11
        assert window.omega.shape == (MEMBERS, 4, *GRID.shape) and window.diagnostics.finite
        with pytest.raises(ValueError, match="register_prior: 'still' is taken; choose another name"):
            register_prior("still", PriorKind(make, "mean"))
    with pytest.raises(ValueError, match="prior: expected one of dual, enkf-sr, lagrange, carried, lr; got 'still'"):
        DiffSRDAConfig(prior="still")
    with pytest.raises(ValueError, match="register_prior: 'lr' is taken"):
        register_prior("lr", priors.PRIORS["lr"])


def test_a_prior_with_a_filter_of_its_own_has_its_tuning(monkeypatch):
    """Traced parameters of the tuning by default, and two members or more."""
    tuning, made = dataclasses.replace(FILTERS["enkf-sr"], additive=0.3), []
    monkeypatch.setitem(priors.PRIORS, "tuned", PriorKind(lambda *given: made.append(given), "open", tuning))
    config = DiffSRDAConfig(prior="tuned", members=3)
    make_prior(small(), config)
    assert made[0][1] == 3 and made[0][3] == "open"
    assert jax.tree.map(float, made[0][2]) == jax.tree.map(float, filter_params(tuning))
    with pytest.raises(ValueError, match="members: the tuned prior filters as many cheap members, expected 2 or more"):
        DiffSRDAConfig(prior="tuned", members=1)


# In the cycle


def test_the_cycle_runs_it(name="lr-first"):
    """The scan over times is the loop over steps."""
    case = case_of(name)
    made = diffsrda(small(), case.prior, Draw(fake_draw, UNITS, MEMBERS), MEMBERS, PRIORS[name].restart)
    assert made.members == MEMBERS
    observations = observed(CYCLES)
    carry, history = quick_jit(lambda key, seen: run_cycles(made, key, seen, keep="members"))(KEY, observations)
    assert history.finite.all() and carry.index == CYCLES
    state = made.init(jax.random.fold_in(KEY, 0))
    for time in range(CYCLES):
        key = jax.random.split(jax.random.fold_in(KEY, 1 + time))[0]
        state, window, _ = case.drawn(key, state, jax.tree.map(lambda a, t=time: a[t], observations))
        np.testing.assert_allclose(history.fields.members[time], window.omega, atol=1e-8)
    assert_close(carry.state, state, atol=1e-8)


# Errors


def test_bad_choices_raise():
    with pytest.raises(
        ValueError, match="prior: expected one of dual, enkf-sr, lagrange, carried, lr; got 'enkf-srr'; did you mean"
    ):
        DiffSRDAConfig(prior="enkf-srr")
    with pytest.raises(ValueError, match="restart: expected one of open, first, mean, each; got 'last'"):
        DiffSRDAConfig(restart="last")
    with pytest.raises(ValueError, match="restart: expected one of open, first, mean, each; got 'last'"):
        recorded_step(small(), case_of("lr-first").prior, None, "last")
    with pytest.raises(ValueError, match="members: the dual prior filters as many cheap members, expected 2 or more"):
        DiffSRDAConfig(members=1)
    assert DiffSRDAConfig(prior="lr", members=1).members == 1


@pytest.mark.parametrize(
    "old, message",
    [
        ("noise", "DiffSRDAConfig: noise is now sigmas; use that name"),
        ("strength", r"strength is now guidance, a guide with its options: jaxsrda.OI\(strength=…\)"),
        ("iterations", r"iterations is now guidance, a guide with its options: jaxsrda.OI\(iterations=…\)"),
        ("blur", r"blur is now guidance, a guide with its options: jaxsrda.Blend\(blur=…\)"),
        ("hard_steps", r"hard_steps is now guidance, a guide with its options: jaxsrda.Blend\(hard_steps=…\)"),
    ],
)
def test_names_of_before_are_refused_with_the_new_ones(old, message):
    with pytest.raises(TypeError, match=message):
        DiffSRDAConfig(**{old: 1.0})
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        DiffSRDAConfig(strenght=1.0)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"guidance": "lifeted"}, ValueError, "guidance: expected one of none, blend, .*did you mean 'lifted'"),
        ({"guidance": 3}, TypeError, "guidance: expected a guide, a name of one or None, got int"),
        ({"sigmas": "edn"}, ValueError, "sigmas: expected one of edm, vp, log; got 'edn'; did you mean 'edm'"),
        ({"guide_on": "old"}, ValueError, "guide_on: expected one of new, all; got 'old'"),
        ({"sampler": "mean", "restart": "each"}, ValueError, "restart: sampler mean draws one field"),
        ({"sigma_max": 0.01}, ValueError, "sigma_max: expected more than sigma_min 0.04, got 0.01"),
        ({"eta": 1.5}, ValueError, "eta: expected a number from 0"),
        ({"chunk": 0}, ValueError, "chunk: expected at least 1, got 0"),
    ],
)
def test_bad_configurations_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        DiffSRDAConfig(**options)
    assert DiffSRDAConfig(guidance="none").guidance is None


def test_a_prior_of_ones_own_with_several_guesses_gives_as_many_means(monkeypatch):
    """How many fields sampler `mean` gives follows from the prior's guesses, whatever its name."""
    from jaxsrda.diffsrda.model import Model, ModelConfig
    from jaxsrda.diffsrda.prior import PRIORS
    from jaxsrda.experiment import registry

    monkeypatch.setitem(PRIORS, "mine", PRIORS["lr"])
    where = setup("float64")
    kind = ModelConfig.of(where.testbed, network="tiny", priors=("mine", "dual"), target="regression")
    made = []
    monkeypatch.setattr(registry, "diffsrda", lambda setup, prior, draw, members, restart: made.append(members))
    model = Model(kind, None, np.ones(kind.frames, np.float32))
    for prior, restart in (("mine", "each"), ("mine", "mean"), ("dual", "mean")):
        config = DiffSRDAConfig(prior=prior, restart=restart, members=3, sampler="mean")
        registry.make_diffsrda(where, config, model=model)
    assert made == [3, 1, 1]
