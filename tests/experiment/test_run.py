"""The experiment from start to finish on the small jet, with few members and few frames."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrda.core.records import described
from jaxsrda.cycling.cycle import Carry, History
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.model import Model, ModelConfig
from jaxsrda.experiment import result as result_module
from jaxsrda.experiment import run
from jaxsrda.experiment import truth as truth_module
from jaxsrda.experiment.experiment import Experiment
from jaxsrda.experiment.result import DivergedError
from jaxsrda.experiment.run import assimilate as assimilate_anywhere
from jaxsrda.experiment.truth import default_climatology, prepare_truth, simulate_truth
from jaxsrda.filters.config import FilterConfig
from jaxsrda.flow import climatology
from jaxsrda.flow.grid import ChannelGrid, regrid_hat, to_physical
from jaxsrda.flow.jet import jet_vorticity, truth_key
from jaxsrda.flow.solver import Speeds
from jaxsrda.flow.testbed import jet, jet_small
from jaxsrda.observing.layouts import parse_layout
from jaxsrda.observing.observations import Observations, observation_key, observe_run, pack
from jaxsrda.observing.operators import OPERATORS, bilinear, vorticity
from jaxsrda.observing.sensors import Sensors
from jaxsrda.scoring import joint
from jaxsrda.scoring import point as scores

SMALL = jet_small()
HR, FINE = SMALL.grid, SMALL.truth.grid
CONFIG = FilterConfig(members=3, additive=0.1)
SENSORS = 32
"""Of the default layout, lattice:8."""

assimilate = functools.partial(assimilate_anywhere, testbed=SMALL)


def states(count, grid=HR):
    """The jet with large waves on it: (count, 2K+1, L), the same waves on every grid."""
    waves = np.random.default_rng(0).normal(size=(count, 9, 6)) / (1 + np.arange(6))
    hat = np.zeros((count, *grid.spectral_shape))
    rows = [*range(5), *range(grid.kmax + 1, grid.kmax + 5)]
    hat[:, rows, :6] = waves
    hat[:, 0, : HR.lmax] += 3 * jet_vorticity(HR)
    return hat


@pytest.fixture(scope="module")
def clim():
    return climatology.from_runs(HR, jnp.asarray(states(4).reshape(2, 2, *HR.spectral_shape)))


@pytest.fixture(scope="module")
def truths():
    """Two truths of 8 frames that drift from one state to the next."""
    a, b, c = (np.asarray(to_physical(HR, jnp.asarray(s))) for s in states(3))
    part = np.linspace(0, 1, 8)[:, None, None]
    return np.stack([(1 - part) * a + part * b, (1 - part) * b + part * c])


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path))


# Truth


def test_truths_are_prepared(truths):
    np.testing.assert_array_equal(prepare_truth(truths, SMALL), truths)
    with pytest.warns(UserWarning, match="truth: the last 3 of 11 frames dropped: they make no whole cycle of 4"):
        one = prepare_truth(truths[0].tolist() + truths[0, :3].tolist(), SMALL)
    np.testing.assert_array_equal(one, truths[:1])
    assert prepare_truth(truths.astype("float32"), SMALL).dtype == "float64"
    with jax.enable_x64(False):
        assert prepare_truth(truths, SMALL).dtype == "float32"
    longer = dataclasses.replace(SMALL, frames_per_cycle=3)  # 8 frames: two cycles of three
    with pytest.warns(UserWarning, match="the last 2 of 8 frames dropped"):
        np.testing.assert_array_equal(prepare_truth(truths, longer), truths[:, :6])


def test_finer_truths_are_truncated():
    coarse, fine = (states(1, grid)[0] for grid in (HR, FINE))
    fine[35, 3] = fine[2, 36] = 5.0  # k = 35 and l = 37: no field of the analysis grid holds them
    field = np.asarray(to_physical(FINE, jnp.asarray(fine)))
    got = prepare_truth(np.stack([field] * 8), SMALL)
    assert got.shape == (1, 8, 64, 33)
    np.testing.assert_allclose(got[0, 5], to_physical(HR, jnp.asarray(coarse)), atol=1e-11)
    assert abs(field[::2, ::2] - got[0, 0]).max() > 1  # not mere sampling


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t[0, 0], r"file: expected at least 8 frames \(two assimilation times\), got 1"),
        (lambda t: t[0, 0, 0], r"file: expected the axes truth, time, x, y or the last of them, got shape \(33,\)"),
        (lambda t: t[:, :, 1:], r"file: expected a grid of 64 × 33, 128 × 65 points \(both walls .* got 63 × 33"),
        (lambda t: t[0, :, :16, :9], "got 16 × 9; bring it to one of these first, or describe its flow as a Test"),
        (lambda t: t[:, :7], r"file: expected at least 8 frames \(two assimilation times\), got 7"),
        (
            lambda t: np.where(np.arange(8)[:, None, None] == 3, np.nan, t[0]),
            r"file: expected finite numbers, got 2112",
        ),
    ],
)
def test_bad_truths_raise(truths, change, message):
    with pytest.raises(ValueError, match=message):
        prepare_truth(change(truths), SMALL, "file")


def test_truths_are_of_the_jet_unless_told():
    with pytest.raises(ValueError, match="expected a grid of 128 × 65, 256 × 129, 1024 × 513 points"):
        prepare_truth(np.ones((8, 64, 1)) * np.sin(HR.y))
    assert prepare_truth(np.ones((8, 128, 1)) * np.sin(FINE.y)).shape == (1, 8, 128, 65)


def test_simulated_truths_and_climatologies_are_cached(monkeypatch):
    calls, simulate = [], truth_module.simulate_resumable
    monkeypatch.setattr(truth_module, "simulate_resumable", lambda *a, **kw: calls.append(a) or simulate(*a, **kw))
    lr = SMALL.forecast
    got = simulate_truth(SMALL, [3, 5], "lr", frames=2)
    assert got.shape == (2, 2, 64, 33) and len(calls) == 2
    start = regrid_hat(lr.grid, HR, SMALL.start(truth_key(5), lr.grid))
    np.testing.assert_allclose(got[1, 0], to_physical(HR, start), atol=1e-11)
    np.testing.assert_array_equal(simulate_truth(SMALL, [5, 3], "lr", frames=2), got[::-1])
    assert len(calls) == 2
    # Another level, another length and other physics are other truths.
    stepped = dataclasses.replace(SMALL, forecast=dataclasses.replace(lr, steps=12))
    for made, (testbed, frames) in enumerate([(stepped, 2), (SMALL, 3), (SMALL.vary(beta=0.3), 2)], start=3):
        simulate_truth(testbed, [3], "lr", frames=frames)
        assert len(calls) == made

    runs = []

    def simulated(testbed, n):
        runs.append((testbed.name, n))
        return states(2 * n).reshape(n, 2, *HR.spectral_shape)

    monkeypatch.setattr(truth_module, "simulate_climatology", simulated)
    first, second = default_climatology(SMALL, 2), default_climatology(SMALL, 2)
    assert runs == [("jet-small", 2)] and first.grid == HR
    np.testing.assert_array_equal(first.anomalies, second.anomalies)
    expected = states(4).reshape(2, 2, *HR.spectral_shape)
    np.testing.assert_allclose(first.mean + first.anomalies, expected, atol=1e-12)
    straight = default_climatology(dataclasses.replace(SMALL, symmetries=()), 2)  # the same runs, moved otherwise
    assert runs == [("jet-small", 2)] and straight.symmetries == ()


def test_the_level_of_truths_is_said_by_name():
    with pytest.raises(TypeError, match=r"simulate_truth: expected a testbed first, .* got Level; its level goes by"):
        simulate_truth(SMALL.truth, [0])
    with pytest.raises(ValueError, match="level: expected one of lr, hr, fine; got 'uhr'"):
        simulate_truth(SMALL, [0], "uhr")


# The experiment


@pytest.fixture(scope="module")
def result(truths, clim):
    """One run of a filter on two truths, members kept, and what it reported."""
    reports = []
    analysis = assimilate(
        "enkf-sr",
        truths,
        config=CONFIG,
        climatology=clim,
        seed=7,
        keep_members=True,
        progress=lambda *report: reports.append(report),
    )
    return analysis, reports


def test_the_result_is_of_the_run(result, truths):
    analysis, reports = result
    assert analysis.method == "enkf-sr" and analysis.finite and analysis.grid == HR and analysis.testbed is SMALL
    np.testing.assert_array_equal(analysis.truth, truths)
    np.testing.assert_allclose(analysis.times, np.arange(8) / 4)
    assert analysis.members.shape == (2, 3, 8, 64, 33)
    np.testing.assert_allclose(analysis.mean, analysis.members.mean(1), atol=1e-12)
    np.testing.assert_allclose(analysis.std, analysis.members.std(1, ddof=1), atol=1e-12)
    assert analysis.background.shape == (2, 2, 64, 33) and abs(analysis.background - analysis.mean[:, ::4]).max() > 0.1
    assert analysis.config["layout"] == "lattice:8" and analysis.config["seed"] == 7
    assert analysis.config["testbed"] == "jet-small" and analysis.config["withhold"] == 0
    (sensors,) = analysis.config["sensors"]
    expected = {"layout": "lattice:8", "operator": "vorticity", "linear": True, "noise_std": 0.1, "role": "assimilated"}
    assert sensors == expected
    assert analysis.config["filter"] == described(CONFIG)
    assert analysis.seconds["compile"] > 0 and analysis.seconds["run"] > 0
    assert [r for r in reports if r[0] == "cycle"] == [("cycle", 1, 2), ("cycle", 2, 2)]
    assert {"climatology", "compile"} <= {r[0] for r in reports}


def test_the_last_carry_is_kept(result):
    analysis, _ = result
    assert isinstance(analysis.carry, Carry)
    np.testing.assert_array_equal(analysis.carry.index, [2, 2])
    assert analysis.carry.state.omega_hat.shape == (2, 3, *SMALL.forecast.grid.spectral_shape)


def test_the_scores_are_of_the_frames_from_the_second_cycle_on(result, truths):
    analysis, _ = result
    error = abs(analysis.mean - truths).sum((2, 3)) / abs(truths).sum((2, 3))
    np.testing.assert_allclose(analysis.series["maer"], error[:, 4:], rtol=1e-9)
    np.testing.assert_allclose(analysis.per_truth["maer"], error[:, 4:].mean(1), rtol=1e-9)
    mean, low, high = analysis.scores["maer"]
    np.testing.assert_allclose(mean, error[:, 4:].mean(), rtol=1e-9)
    assert low <= mean <= high and low < high
    expected = np.mean([scores.crps(jnp.asarray(analysis.members[0, :, t]), jnp.asarray(truths[0, t])) for t in (4, 5)])
    np.testing.assert_allclose(analysis.series["crps"][0, :2].mean(), expected, rtol=1e-9)
    assert analysis.statistics[1]["frames"] == 4
    ratio = np.sqrt(
        4 / 3 * (analysis.std[:, 4:] ** 2).mean((1, 2, 3)) / ((analysis.mean - truths)[:, 4:] ** 2).mean((1, 2, 3))
    )
    np.testing.assert_allclose(analysis.per_truth["spread_skill"], ratio, rtol=1e-6)


def test_the_fit_to_the_observations(result):
    analysis, _ = result
    o = analysis.observations
    assert o.values.shape == (2, 2, SENSORS) and o.mask.all() and o.sets is None
    for name, fields in (("background", analysis.background[:, 1]), ("analysis", analysis.mean[:, 4])):
        shown = jnp.stack([bilinear(HR, jnp.asarray(f), jnp.asarray(p)) for f, p in zip(fields, o.positions[:, 1])])
        expected = np.sqrt(((o.values[:, 1] - shown) ** 2).mean(1))
        np.testing.assert_allclose(analysis.per_truth[f"observation_rmse_{name}"], expected, rtol=1e-9)
    fit = analysis.per_truth
    assert np.all(fit["observation_rmse_analysis"] < 0.8 * fit["observation_rmse_background"])


class Stopped(Exception):
    pass


def test_withheld_sensors_verify(truths, clim):
    """They are kept from the method, are about the fraction asked for, and their misfit is the mean analysis's."""
    got = assimilate("climatology", truths, config=CONFIG, climatology=clim, withhold=0.5, layout="lattice:4")
    key = [observation_key(0, i) for i in range(2)]
    seen = [observe_run(k, HR, parse_layout("lattice:4", HR), jnp.asarray(t), 4) for k, t in zip(key, truths)]
    assert 80 < (~got.observations.mask[:, 1]).sum() < 176 and got.observations.mask[0, 0].size == 128
    for i in range(2):
        held = ~got.observations.mask[i, 1]
        shown = vorticity(HR, jnp.asarray(got.mean[i, 4]), seen[i].positions[1])
        expected = np.sqrt(np.mean(np.square(shown - seen[i].values[1])[held]))
        assert got.per_truth["observation_rmse_withheld"][i] == pytest.approx(expected)


def observations_of(monkeypatch, *arguments, **options):
    """The observations that a run would meet."""

    def stop(recipe, inputs, *rest):
        raise Stopped(inputs.observed)

    monkeypatch.setattr(run, "run_parts", stop)
    with pytest.raises(Stopped) as stopped:
        assimilate(*arguments, **options)
    return stopped.value.args[0]


def test_every_method_meets_the_same_observations(monkeypatch, result, truths, clim):
    for method in ("enkf-dual", "climatology"):
        got = observations_of(monkeypatch, method, truths, config=CONFIG, climatology=clim, seed=7)
        for a, b in zip(got[:4], result[0].observations):
            np.testing.assert_array_equal(a, b)
    # A truth brought alone meets those that it met among others; another seed, others.
    alone = observations_of(monkeypatch, "bicubic", truths[1], climatology=clim, seed=7, truth_seeds=[1])
    np.testing.assert_allclose(alone.values[0], got.values[1], atol=1e-12)
    other = observations_of(monkeypatch, "bicubic", truths, climatology=clim, seed=8)
    assert not np.any(other.values == got.values)
    noisy = observations_of(
        monkeypatch, "bicubic", truths, climatology=clim, seed=7, observation_std=0.3, layout="track:2"
    )
    np.testing.assert_allclose(noisy.variance, 0.09)
    assert noisy.values.shape == (2, 2, 64)


def test_a_second_set_leaves_the_first_as_it_was(monkeypatch, truths, clim):
    alone = observations_of(monkeypatch, "bicubic", truths, climatology=clim)
    sets = (Sensors(), Sensors("lattice:4", "speed", 0.02))
    both = observations_of(monkeypatch, "bicubic", truths, climatology=clim, sensors=sets)
    np.testing.assert_array_equal(both.values[..., :SENSORS], alone.values)
    np.testing.assert_array_equal(both.sets[0, 0], SENSORS * [0] + 128 * [1])
    np.testing.assert_allclose(both.variance[..., SENSORS:], 0.0004)


def test_the_first_set_does_not_depend_on_the_role_of_the_second(monkeypatch, truths, clim):
    """Both roles of a second set see the same numbers, whether assimilated or guiding."""
    config = DiffSRDAConfig(guidance="oi", members=2)
    model = Model(ModelConfig.of(SMALL, network="tiny"), None, np.ones(5, np.float32))
    seen = {}
    for role, more in (("guiding", {"config": config, "model": model}), ("assimilated", {})):
        sets = (Sensors(), Sensors("lattice:4", role=role))
        method = "diffsrda" if more else "enkf-sr"
        seen[role] = observations_of(monkeypatch, method, truths, climatology=clim, sensors=sets, **more)
    for a, b in zip(seen["guiding"], seen["assimilated"]):
        np.testing.assert_array_equal(a, b)


def test_without_a_truth_one_is_simulated(monkeypatch, truths, clim):
    asked = []

    def simulated(testbed, seeds, frames, progress):
        asked.append((testbed.truth.name, list(seeds), frames))
        return truths[:1]

    monkeypatch.setattr(run, "simulate_truth", simulated)
    got = observations_of(monkeypatch, "bicubic", climatology=clim, seed=5)
    assert asked == [("fine", [5], SMALL.frames)] and got.values.shape == (1, 2, SENSORS)


def test_the_testbeds_own_climatology_is_used(monkeypatch, truths, clim):
    asked = []
    monkeypatch.setattr(run, "default_climatology", lambda testbed: asked.append(testbed) or clim)
    observations_of(monkeypatch, "bicubic", truths)
    assert asked == [SMALL]


@pytest.mark.parametrize("name, measure", [("block-mean-4", "block-mean-4"), ("speed", OPERATORS["speed"])])
def test_the_operators_name_is_recorded(monkeypatch, truths, clim, name, measure):
    seen = {}
    monkeypatch.setattr(run, "run_parts", lambda *a: (None, None, None))
    monkeypatch.setattr(run, "collect", lambda method, settings, *a: seen.update(settings))
    assimilate("bicubic", truths, climatology=clim, measure=measure)
    (sensors,) = seen["sensors"]
    assert sensors["operator"] == name and sensors["linear"] == (name != "speed")


# The user's own observations


def own_observations(truth, values=None):
    """Twenty sensors at the two times, one of them silent."""
    index = np.stack([3 * np.arange(20), 1 + np.arange(20)], -1)
    p = index * np.array(HR.spacing)
    times = [pack(truth[t][tuple(index.T)][: 20 - i], p[: 20 - i], 0.01, 20) for i, t in enumerate((0, 4))]
    stacked = jax.tree.map(lambda *a: np.stack(a), *times)
    return stacked if values is None else stacked._replace(values=values)


def test_own_observations_without_a_truth(truths, clim):
    own = own_observations(truths[0])
    values = own.values.astype("float32")
    values[1, 19] = np.nan  # silent, so that its number is not read
    analysis = assimilate("persistence", observations=own._replace(values=values), config=CONFIG, climatology=clim)
    assert analysis.truth is None and analysis.series == {} and analysis.statistics == [] and analysis.members is None
    assert set(analysis.scores) == {
        f"observation_{a}_{b}" for a in ("rmse", "chi2") for b in ("background", "analysis")
    }
    o = analysis.observations
    shown = bilinear(HR, jnp.asarray(analysis.mean[0, 4]), jnp.asarray(o.positions[0, 1]))
    expected = np.sqrt(np.mean((o.values[0, 1] - shown)[:19] ** 2))
    np.testing.assert_allclose(analysis.scores["observation_rmse_analysis"][0], expected, rtol=1e-9)
    assert analysis.config["layout"] == "own observations"
    assert analysis.mean.shape == (1, 8, 64, 33)


def test_own_observations_of_two_sets(monkeypatch, truths, clim):
    """Each set is measured by the operator of its sensors, and named in the record."""
    own = own_observations(truths[0])
    sets = np.broadcast_to(np.arange(20) % 2, own.mask.shape)
    sensors = (Sensors(), Sensors(operator="speed"))
    given = Experiment(
        "climatology",
        observations=own._replace(sets=sets),
        sensors=sensors,
        config=CONFIG,
        climatology=clim,
        testbed=SMALL,
    )
    analysis = run.run(given)
    np.testing.assert_array_equal(analysis.observations.sets[0], sets)
    assert [each["operator"] for each in analysis.config["sensors"]] == ["vorticity", "speed"]
    assert {each["layout"] for each in analysis.config["sensors"]} == {"own observations"}
    plain = assimilate("climatology", observations=own, config=CONFIG, climatology=clim)
    assert plain.scores["observation_rmse_analysis"] != analysis.scores["observation_rmse_analysis"]


def replaced(field, index, value):
    def change(own):
        array = np.array(getattr(own, field))
        array[index] = value
        return own._replace(**{field: array})

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda o: jax.tree.map(lambda a: a[:1], o),
            r"observations: expected 2 assimilation times, .* got 1 for 1 truth",
        ),
        (lambda o: jax.tree.map(lambda a: a[0], o), "observations.values: expected 2 dimensions .*stack them over"),
        (lambda o: o._replace(mask=o.mask[:, 1:]), r"observations.mask: expected shape \(2, 20\), got \(2, 19\)"),
        (lambda o: o._replace(positions=o.positions[..., 0]), "observations.positions: expected 3 dimensions"),
        (replaced("values", (0, 3), np.nan), r"observations.values: expected finite numbers, got 1 .*\(0, 3\)"),
        (replaced("positions", (1, 2, 1), 4.0), "expected x in .* got 1 outside"),
        (replaced("positions", (1, 2, 1), np.inf), "observations.positions: expected finite numbers"),
        (replaced("variance", (0, 0), 0.0), "observations.variance: expected numbers above 0, got 0"),
    ],
)
def test_bad_own_observations_raise(truths, clim, change, message):
    with pytest.raises(ValueError, match=message):
        assimilate("bicubic", truths[0], observations=change(own_observations(truths[0])), climatology=clim)


@pytest.fixture
def no_work(monkeypatch):
    """Anything that takes long fails the test."""
    for name in ("simulate_truth", "default_climatology", "run_parts", "observe_truths"):
        monkeypatch.setattr(run, name, lambda *a, **kw: pytest.fail("worked"))


@pytest.mark.usefixtures("no_work")
def test_bad_options_raise_before_any_work(truths):
    for options, message in (
        ({"method": "enkf-lr"}, r"method: expected one of .*did you mean 'enkf-[hs]r'\?"),
        ({"observation_std": 0}, "noise_std: expected a finite number above 0"),
        ({"layout": "lattice"}, "expected name:number"),
        ({"measure": "vort"}, "operator: expected one of"),
        ({"truth": truths[:, :4]}, "expected at least 8 frames"),
        ({"truth": truths, "truth_seeds": [1]}, "truth_seeds: expected 2, one for each truth, got 1"),
        ({"truth": truths, "observations": own_observations(truths[0])}, r"got 2 for 2 truth\(s\)"),
    ):
        with pytest.raises(ValueError, match=message):
            assimilate(**{"method": "bicubic"} | options)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    "testbed, config, message",
    [
        (SMALL, DiffSRDAConfig(), r"the weights are for windows of 5 frames on 128 × 65 points, this testbed has 5 on"),
        (
            dataclasses.replace(jet(), frames_per_cycle=2),
            DiffSRDAConfig(),
            "windows of 5 frames on 128 × 65 points, this testbed has 3 on 128 × 65; train for it",
        ),
        (jet(), DiffSRDAConfig(weights="4dsrda-small", prior="lr"), "prior: these weights were trained for"),
        (jet(), DiffSRDAConfig(weights="nope"), "weights: expected one of"),
    ],
)
def test_weights_that_do_not_fit_are_said_before_any_work(testbed, config, message):
    with pytest.raises(ValueError, match=message):
        assimilate_anywhere("diffsrda", testbed=testbed, config=config)


# Divergence


def test_a_diverged_run_stops_and_says_when(truths, clim):
    own = own_observations(truths[0])
    huge = np.where(np.arange(2)[:, None] == 1, 1e200, own.values) * own.mask
    reports = []
    with pytest.raises(
        DivergedError, match=r"truth 0, time 1: the ensemble is no longer finite .*check the observations"
    ):
        assimilate(
            "enkf-sr",
            observations=own._replace(values=huge),
            config=CONFIG,
            climatology=clim,
            progress=lambda *report: reports.append(report),
        )
    assert ("cycle", 1, 2) in reports and ("cycle", 2, 2) not in reports


def test_check_healthy_names_the_truth_and_the_time():
    speed = np.array([[[3.0] * 5] * 2, [[3.0] * 5, [4.0, 8.0, np.nan, np.nan, np.nan]]])
    history = History(None, {}, {}, np.array([[True, True], [True, False]]), Speeds(speed, speed), None)
    with pytest.raises(DivergedError, match=r"truth 1, time 7: .*\(largest speed seen 8\); lower the additive noise"):
        result_module.check_healthy(history, 1.0, 6)
    with pytest.raises(DivergedError, match=r"truth 1, time 0\.5: "):
        result_module.check_healthy(history, 0.5)
    result_module.check_healthy(history._replace(finite=np.ones((2, 2), bool)), 1.0)
    assert issubclass(DivergedError, ValueError)


def test_types_are_what_they_say(result):
    analysis, _ = result
    assert isinstance(analysis.observations, Observations) and isinstance(analysis.grid, ChannelGrid)
    assert all(isinstance(a, np.ndarray) for a in (analysis.mean, analysis.std, *analysis.observations[:4]))


def test_joint_scores_are_of_the_members_that_are_kept(clim, truths):
    """Those of the record are the scores of the kept members; calibration by block is a ratio of means over frames."""
    options = {"config": CONFIG, "climatology": clim, "truth_seeds": (0,), "keep": "members", "joint": True}
    result = assimilate("enkf-sr", truths[:1], **options)
    members, truth = jnp.asarray(result.members[0]), jnp.asarray(result.truth[0])
    frames = range(4, 8)  # the first cycle is not scored
    energies = [joint.energy_score(members[:, i], truth[i]) for i in frames]
    np.testing.assert_allclose(result.series["energy"][0], energies, rtol=1e-4)
    changes = [scores.crps(members[:, i] - members[:, 4], truth[i] - truth[4]) for i in frames]
    np.testing.assert_allclose(result.series["crps_change"][0], changes, rtol=1e-4, atol=1e-6)
    assert result.series["crps_change"][0][0] == 0
    variance, error = (result.series[f"{name}_block8"].mean(1) for name in ("variance", "error"))
    np.testing.assert_allclose(result.per_truth["spread_skill_block8"], np.sqrt(variance / error), rtol=1e-6)
    assert "energy" not in assimilate("enkf-sr", truths[:1], **options | {"joint": False}).per_truth
