"""The experiment from start to finish at the testbed's own levels, with few members and few frames."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrda.cycling.cycle import History
from jaxsrda.experiment import result as result_module
from jaxsrda.experiment import run
from jaxsrda.experiment import truth as truth_module
from jaxsrda.experiment.result import DivergedError
from jaxsrda.experiment.run import assimilate
from jaxsrda.experiment.truth import prepare_truth
from jaxsrda.filters.config import FilterConfig
from jaxsrda.flow import climatology
from jaxsrda.flow.grid import ChannelGrid, regrid_hat, to_physical
from jaxsrda.flow.jet import initial_state, jet_vorticity, truth_key
from jaxsrda.flow.solver import Speeds
from jaxsrda.flow.testbed import LEVELS, level_grid
from jaxsrda.observing.layouts import parse_layout
from jaxsrda.observing.observations import Observations, observation_key, observe_run, pack
from jaxsrda.observing.operators import OPERATORS, bilinear, vorticity
from jaxsrda.scoring import point as scores

HR, FINE = level_grid(LEVELS["hr"]), level_grid(LEVELS["fine"])
CONFIG = FilterConfig(members=3, additive=0.1)


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
    np.testing.assert_array_equal(prepare_truth(truths), truths)
    one = prepare_truth(truths[0].tolist() + truths[0, :3].tolist())  # 11 frames: the last 3 are dropped
    np.testing.assert_array_equal(one, truths[:1])
    assert prepare_truth(truths.astype("float32")).dtype == "float64"
    with jax.enable_x64(False):
        assert prepare_truth(truths).dtype == "float32"


def test_finer_truths_are_truncated():
    coarse, fine = (states(1, grid)[0] for grid in (HR, FINE))
    fine[70, 3] = fine[2, 70] = 5.0  # k = 70 and l = 71: no HR field holds them
    field = np.asarray(to_physical(FINE, jnp.asarray(fine)))
    got = prepare_truth(np.stack([field] * 8))
    assert got.shape == (1, 8, 128, 65)
    np.testing.assert_allclose(got[0, 5], to_physical(HR, jnp.asarray(coarse)), atol=1e-11)
    assert abs(field[::2, ::2] - got[0, 0]).max() > 1  # not mere sampling


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t[0, 0], r"file: expected frames × nx × ny, or truths × frames × nx × ny, got shape \(128, 65\)"),
        (lambda t: t[:, :, 1:], "file: expected a grid of 128 × 65, 256 × 129, 1024 × 513 points .* got 127 × 65"),
        (lambda t: np.zeros((8, 32, 17)), "got 32 × 17; bring it to one of these first"),
        (lambda t: t[:, :7], r"file: expected at least 8 frames \(two assimilation times\), got 7"),
        (
            lambda t: np.where(np.arange(8)[:, None, None] == 3, np.nan, t[0]),
            r"file: expected finite numbers, got 8320",
        ),
    ],
)
def test_bad_truths_raise(truths, change, message):
    with pytest.raises(ValueError, match=message):
        prepare_truth(change(truths), "file")


def test_simulated_truths_and_climatologies_are_cached(monkeypatch):
    calls, simulate = [], run.simulate_resumable
    monkeypatch.setattr(run, "simulate_resumable", lambda *a, **kw: calls.append(a) or simulate(*a, **kw))
    lr = LEVELS["lr"]
    got = truth_module.simulate_truth(lr, [3, 5], frames=2)
    assert got.shape == (2, 2, 128, 65) and len(calls) == 2
    start = regrid_hat(level_grid(lr), HR, initial_state(truth_key(5), level_grid(lr)))
    np.testing.assert_allclose(got[1, 0], to_physical(HR, start), atol=1e-11)
    np.testing.assert_array_equal(truth_module.simulate_truth(lr, [5, 3], frames=2), got[::-1])
    assert len(calls) == 2
    truth_module.simulate_truth(dataclasses.replace(lr, steps=12), [3], frames=2)  # another level is another truth
    assert len(calls) == 3

    runs = []
    monkeypatch.setattr(
        run.climatologies, "simulate_climatology", lambda n: runs.append(n) or states(2 * n).reshape(n, 2, 85, 42)
    )
    first, second = truth_module.default_climatology(2), truth_module.default_climatology(2)
    assert runs == [2] and first.grid == HR
    np.testing.assert_array_equal(first.anomalies, second.anomalies)
    np.testing.assert_allclose(first.mean + first.anomalies, states(4).reshape(2, 2, 85, 42), atol=1e-12)


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
    assert analysis.method == "enkf-sr" and analysis.finite and analysis.grid == HR
    np.testing.assert_array_equal(analysis.truth, truths)
    np.testing.assert_allclose(analysis.times, np.arange(8) / 4)
    assert analysis.members.shape == (2, 3, 8, 128, 65)
    np.testing.assert_allclose(analysis.mean, analysis.members.mean(1), atol=1e-12)
    np.testing.assert_allclose(analysis.std, analysis.members.std(1, ddof=1), atol=1e-12)
    assert analysis.background.shape == (2, 2, 128, 65) and abs(analysis.background - analysis.mean[:, ::4]).max() > 0.1
    assert analysis.config["layout"] == "lattice:8" and analysis.config["seed"] == 7
    assert analysis.config["operator"] == "vorticity" and analysis.config["filter"] == dataclasses.asdict(CONFIG)
    assert analysis.seconds["compile"] > 0 and analysis.seconds["run"] > 0
    assert [r for r in reports if r[0] == "cycle"] == [("cycle", 1, 2), ("cycle", 2, 2)]
    assert {"climatology", "compile"} <= {r[0] for r in reports}


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
    assert o.values.shape == (2, 2, 128) and o.mask.all()
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
    got = assimilate("climatology", truths, config=CONFIG, climatology=clim, withhold=0.5)
    key = [observation_key(0, i) for i in range(2)]
    seen = [observe_run(k, HR, parse_layout("lattice:8", HR), jnp.asarray(t), 4) for k, t in zip(key, truths)]
    assert 80 < (~got.observations.mask[:, 1]).sum() < 176
    for i in range(2):
        held = ~got.observations.mask[i, 1]
        shown = vorticity(HR, jnp.asarray(got.mean[i, 4]), seen[i].positions[1])
        expected = np.sqrt(np.mean(np.square(shown - seen[i].values[1])[held]))
        assert got.per_truth["observation_rmse_withheld"][i] == pytest.approx(expected)


def observations_of(monkeypatch, *arguments, **options):
    """The observations that a run would meet."""

    def stop(assimilator, grid, keys, observed, *rest):
        raise Stopped(observed)

    monkeypatch.setattr(run, "run_segments", stop)
    with pytest.raises(Stopped) as stopped:
        assimilate(*arguments, **options)
    return stopped.value.args[0]


def test_every_method_meets_the_same_observations(monkeypatch, result, truths, clim):
    for method in ("enkf-dual", "climatology"):
        got = observations_of(monkeypatch, method, truths, config=CONFIG, climatology=clim, seed=7)
        for a, b in zip(got, result[0].observations):
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


def test_without_a_truth_one_is_simulated(monkeypatch, truths, clim):
    asked = []
    monkeypatch.setattr(
        truth_module, "simulate_truth", lambda level, seeds: asked.append((level.name, seeds)) or truths[:1]
    )
    got = observations_of(monkeypatch, "bicubic", climatology=clim, seed=5)
    assert asked == [("fine", [5])] and got.values.shape == (1, 2, 128)


@pytest.mark.parametrize("name, measure", [("block-mean-4", "block-mean-4"), ("speed", OPERATORS["speed"])])
def test_the_operators_name_is_recorded(monkeypatch, truths, clim, name, measure):
    seen = {}
    monkeypatch.setattr(run, "run_segments", lambda *a: (None, None, None))
    monkeypatch.setattr(result_module, "_collect", lambda method, settings, *a: seen.update(settings))
    assimilate("bicubic", truths, climatology=clim, measure=measure)
    assert seen["operator"] == name


# The user's own observations


def own_observations(truth, values=None):
    """Twenty sensors at the two times, one of them silent."""
    index = np.stack([6 * np.arange(20), 1 + 3 * np.arange(20)], -1)
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
    assert analysis.mean.shape == (1, 8, 128, 65)


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


def test_bad_options_raise_before_any_work(monkeypatch, truths):
    for name in ("simulate_truth", "default_climatology", "run_segments"):
        monkeypatch.setattr(twin, name, lambda *a: pytest.fail("worked"))
    for options, message in (
        ({"method": "enkf-lr"}, r"method: expected one of .*did you mean 'enkf-[hs]r'\?"),
        ({"observation_std": 0}, "observation_std: expected a finite number above 0"),
        ({"layout": "lattice"}, "expected name:number"),
        ({"measure": "vort"}, "operator: expected one of"),
        ({"truth": truths[:, :4]}, "expected at least 8 frames"),
        ({"truth": truths, "truth_seeds": [1]}, "truth_seeds: expected 2, one for each truth, got 1"),
        ({"truth": truths, "observations": own_observations(truths[0])}, r"got 2 for 2 truth\(s\)"),
    ):
        with pytest.raises(ValueError, match=message):
            assimilate(**{"method": "bicubic"} | options)


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
        result_module.check_healthy(history, 6)
    result_module.check_healthy(history._replace(finite=np.ones((2, 2), bool)))
    assert issubclass(DivergedError, ValueError)


def test_types_are_what_they_say(result):
    analysis, _ = result
    assert isinstance(analysis.observations, Observations) and isinstance(analysis.grid, ChannelGrid)
    assert all(isinstance(a, np.ndarray) for a in (analysis.mean, analysis.std, *analysis.observations[:4]))
