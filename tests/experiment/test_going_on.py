"""Runs that begin later than time zero, and runs that go on from an earlier one's carry."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import TESTBED, setup, truth

from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.model import Model, ModelConfig, network
from jaxsrda.experiment import identity
from jaxsrda.experiment import run as run_module
from jaxsrda.experiment.carry_files import check_followed, load_carry, save_carry
from jaxsrda.experiment.experiment import Experiment
from jaxsrda.experiment.identity import belongs
from jaxsrda.experiment.registry import METHODS, make_assimilator
from jaxsrda.experiment.run import assimilate, recipe_of
from jaxsrda.experiment.scan import program_of
from jaxsrda.filters.config import FilterConfig
from jaxsrda.observing.sensors import Sensors

CYCLES, EVERY = 6, TESTBED.frames_per_cycle
CONFIG = FilterConfig(members=3, localization=1.0)
DIFFUSION = DiffSRDAConfig(prior="enkf-sr", members=3, steps=2)
MOVING = (Sensors("random-moving:9+dropout:0.3"),)


def run(method, frames, **options):
    fixed = {"testbed": TESTBED, "climatology": setup().climatology, "sensors": MOVING, "keep": "members"}
    return assimilate(method, frames, **fixed | options)


@functools.cache
def filtered():
    return halves("enkf-sr", config=CONFIG, withhold=0.2)


def halves(method, **options):
    """A run in one go, and the same in two."""
    frames = np.asarray(truth(CYCLES))
    whole, middle = run(method, frames, **options), EVERY * CYCLES // 2
    first = run(method, frames[:middle], **options)
    return whole, first, run(method, frames[middle:], carry=first.carry, **options)


GIVEN = Experiment("enkf-sr", testbed=TESTBED, climatology=setup().climatology, sensors=MOVING, config=CONFIG)


@functools.cache
def begun():
    """The carry of a run that has not taken a step; cheap, and like any other."""
    with jax.ensure_compile_time_eval():
        own = GIVEN.setup(setup().climatology)
        return program_of(recipe_of(GIVEN, own), own).begin(own, jax.random.split(jax.random.key(0), 1), True, float)


def untrained(seed=0):
    """A tiny network on the small testbed, its weights as they are drawn."""
    config = ModelConfig.of(TESTBED, network="tiny", priors=("enkf-sr",))
    return Model(config, network(config).initial(seed), np.full(TESTBED.window, 0.5, np.float32))


@pytest.mark.parametrize("method", ["enkf-sr", "enkf-lagrange", "diffsrda"])
def test_two_halves_are_one_run(smallest, method):
    """Fields, scores, sums of scores, times and observations, to the last bit."""
    options = {"config": CONFIG}
    if method == "diffsrda":
        options = {"config": DIFFUSION, "model": untrained()}
    whole, first, second = filtered() if method == "enkf-sr" else halves(method, **options)
    np.testing.assert_array_equal(np.concatenate([first.times, second.times]), whole.times)
    for name in ("members", "std", "background"):
        parts = [getattr(each, name) for each in (first, second)]
        axis = 2 if name == "members" else 1
        np.testing.assert_array_equal(np.concatenate(parts, axis), getattr(whole, name), err_msg=name)
    for one, two, all_of_them in zip(first.observations, second.observations, whole.observations):
        if all_of_them is not None:
            np.testing.assert_array_equal(np.concatenate([one, two], 1), all_of_them)
    for name, values in whole.series.items():
        np.testing.assert_array_equal(np.concatenate([first.series[name], second.series[name]], 1), values)
    jax.tree.map(np.testing.assert_array_equal, second.carry, whole.carry)
    assert second.per_truth["spread_skill"] == whole.per_truth["spread_skill"]  # of all frames so far
    assert int(second.carry.tally.frames[0]) == EVERY * (CYCLES - 1)


def test_a_carry_may_be_used_twice():
    _, first, second = filtered()
    rest = np.asarray(truth(CYCLES))[EVERY * 3 :]
    again = run("enkf-sr", rest, carry=first.carry, config=CONFIG, withhold=0.2)
    np.testing.assert_array_equal(again.members, second.members)
    shorter = run("enkf-sr", rest[:EVERY], carry=first.carry, config=CONFIG, withhold=0.2)
    np.testing.assert_allclose(shorter.members, second.members[:, :, :EVERY], rtol=1e-9, atol=1e-9)
    assert shorter.per_truth["maer"] == pytest.approx(second.series["maer"][0, :EVERY].mean())


def test_a_run_goes_on_without_a_truth():
    """The analyses do not depend on whether they are scored; sums of scores wait."""
    _, first, second = filtered()
    own = jax.tree.map(lambda a: a[0], second.observations)
    alone = run("enkf-sr", None, carry=first.carry, config=CONFIG, observations=own)
    np.testing.assert_allclose(alone.members, second.members, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(alone.times, second.times)
    jax.tree.map(np.testing.assert_array_equal, alone.carry.tally, first.carry.tally)


# What does not fit


def test_carries_that_do_not_fit_are_refused():
    carry = begun()._replace(index=begun().index + 3)
    frames = np.asarray(truth(CYCLES))[3 * EVERY :]
    later = {"frames": frames, "config": CONFIG, "carry": carry}
    for change, message in (
        ({"start": 0.0}, r"start: the carry goes on at 3, got 0; leave it out"),
        ({"frames": np.stack([frames] * 2)}, r"carry: expected that of 2 truth\(s\), got 1"),
        ({"config": dataclasses.replace(CONFIG, members=4)}, r"expected state.omega_hat to be float64 \(1, 4, .* got"),
        ({"method": "enkf-hr"}, r"carry: expected state.omega_hat to be .* it goes on with the method, settings"),
        ({"method": "enkf-dual"}, r"carry: expected state.control_hat to be .*, got none"),
        ({"carry": carry._replace(tally=None)}, "it is of a run without a truth and has no scores"),
    ):
        with pytest.raises(ValueError, match=message):
            run(**{"method": "enkf-sr"} | later | change)
    with pytest.raises(TypeError, match="carry: expected that of a Result, got dict"):
        Experiment("enkf-sr", testbed=TESTBED, carry=carry._asdict())


@pytest.mark.parametrize("start", [-1.0, 0.5, np.nan, np.inf])
def test_starts_without_an_analysis_are_refused(start):
    with pytest.raises(ValueError, match="start: expected a time of an analysis, 0 or a multiple of 1, got"):
        Experiment("enkf-sr", testbed=TESTBED, start=start)


def test_an_assimilator_has_members_of_its_own():
    made = make_assimilator("enkf-sr", setup(), CONFIG)
    with pytest.raises(ValueError, match="start: an Assimilator has members of its own; give a function"):
        Experiment(made, testbed=TESTBED, start=2.0)


# Later starts


@pytest.mark.parametrize("method", METHODS)
def test_members_of_a_later_start_are_climatological(method, smallest):
    """The ensemble's mean is the climatology's of that time, its members differ, and the state knows the time."""
    given = setup()._replace(first=1)
    config, model = CONFIG, None
    if isinstance(METHODS[method].config, DiffSRDAConfig):
        if method != "diffsrda":
            pytest.skip("the same step")
        config, model = DIFFUSION, untrained()
    state = make_assimilator(method, given, config, model=model).init(jax.random.key(3))
    state = getattr(state, "prior", state)
    assert getattr(state, "time", state) == 1
    for name in ("omega_hat", "control_hat", "members_hat"):
        states = getattr(state, name, None)
        if states is not None:
            grid = TESTBED.grid if states.shape[-2:] == TESTBED.grid.spectral_shape else TESTBED.forecast.grid
            np.testing.assert_allclose(states.mean(0), given.climatology.mean_at(1, grid), atol=1e-12)
            assert len(states) == 1 or float(jnp.abs(states - states.mean(0)).max()) > 0.1


def test_a_later_start_is_the_same_truth_later(monkeypatch):
    """Times and observations are those of the time; a truth is simulated until then first."""
    frames = np.asarray(truth(5))
    asked = []

    def simulated(testbed, seeds, frames=None, progress=None):
        asked.append(frames)
        return np.asarray(truth(5))[None]

    monkeypatch.setattr(run_module, "simulate_truth", simulated)
    monkeypatch.setattr(type(TESTBED), "frames", 3 * EVERY, raising=False)
    late = run("enkf-sr", None, config=CONFIG, start=2.0, truth_seeds=[0])
    assert asked == [2 * EVERY + TESTBED.frames]
    own = run("enkf-sr", frames[2 * EVERY :], config=CONFIG, start=2.0)
    whole = run("enkf-sr", frames, config=CONFIG)
    np.testing.assert_array_equal(late.times, whole.times[2 * EVERY :])
    for result in (late, own):
        np.testing.assert_array_equal(result.truth, whole.truth[:, 2 * EVERY :])
        np.testing.assert_array_equal(result.observations.values, whole.observations.values[:, 2:])
        assert result.config["start"] == 2.0 and np.abs(result.mean[:, 0] - whole.mean[:, 0]).max() > 0.01
        assert result.series["maer"].shape == (1, 2 * EVERY)  # the first cycle of the run is not scored


# Between processes


@pytest.fixture
def kept(tmp_path):
    """A folder that holds a carry, and the experiment that it belongs to."""
    save_carry(tmp_path / "carry", begun(), GIVEN)
    return tmp_path / "carry", GIVEN


def test_a_carry_comes_back_from_its_folder(kept):
    """To the last bit, as a tree of the same kinds; a folder has one carry a time, and the latest counts."""
    folder, given = kept
    loaded = load_carry(folder, given)
    assert jax.tree.structure(loaded) == jax.tree.structure(begun())
    jax.tree.map(np.testing.assert_array_equal, loaded, begun())
    with pytest.raises(ValueError, match="holds one of assimilation time 0 already, got 0; choose another folder"):
        save_carry(folder, begun(), given)
    save_carry(folder, begun()._replace(index=begun().index + 2), given)
    assert load_carry(folder, given).index[0] == 2


def test_one_assimilation_time_is_a_run_that_has_no_scores_yet():
    one = np.asarray(truth(CYCLES))[:EVERY]
    with pytest.raises(ValueError, match=r"expected at least .* frames \(two assimilation times\)"):
        run("persistence", one)
    first = run("persistence", one, unscored=True)
    assert not first.series and not first.statistics and "maer" not in first.scores
    second = run("persistence", np.asarray(truth(CYCLES))[EVERY : 2 * EVERY], carry=first.carry)
    assert second.series["maer"].shape == (1, EVERY) and second.scores["maer"][0] > 0


def test_a_carry_knows_the_truth_that_it_followed(tmp_path):
    """By its last frame, in either precision; without a truth there is nothing to know."""
    whole = np.asarray(truth(CYCLES), np.float64)
    given = dataclasses.replace(GIVEN, truth=whole[: 2 * EVERY])
    save_carry(tmp_path / "carry", begun(), given)
    check_followed(tmp_path / "carry", whole[None, : 2 * EVERY])
    check_followed(tmp_path / "carry", whole[None, : 2 * EVERY].astype(np.float32))
    with pytest.raises(ValueError, match="the truth before this run is not the one that it followed; go on with the"):
        check_followed(tmp_path / "carry", whole[None, : 2 * EVERY - 1])
    save_carry(tmp_path / "alone", begun(), GIVEN)
    check_followed(tmp_path / "alone", whole[None, :3])


def test_a_run_goes_on_from_a_folder(tmp_path):
    _, first, second = filtered()
    given = dataclasses.replace(GIVEN, withhold=0.2)
    save_carry(tmp_path / "carry", first.carry, given)
    rest, loaded = np.asarray(truth(CYCLES))[EVERY * 3 :], load_carry(tmp_path / "carry", given)
    again = run("enkf-sr", rest, carry=loaded, config=CONFIG, withhold=0.2)
    np.testing.assert_array_equal(again.members, second.members)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "enkf-hr"}, "its method is enkf-sr, this run's is enkf-hr; go on with what it was made with"),
        ({"config": dataclasses.replace(CONFIG, additive=0.3)}, "its option additive is 0.07, this run's is 0.3"),
        ({"testbed": TESTBED.vary(beta=0.3)}, "its testbed is small .*, this run's is small"),
        ({"sensors": (Sensors(operator="speed"),)}, "its kinds of sensors is assimilated vorticity, this run's is"),
        ({"seed": 5}, "its seed is 0, this run's is 5"),
        ({"withhold": 0.2}, "its withhold is 0.0, this run's is 0.2"),
        ({"reject": 5.0}, "its reject is None, this run's is 5.0"),
    ],
)
def test_a_carry_of_something_else_is_refused(kept, change, message):
    folder, given = kept
    with pytest.raises(ValueError, match=f"carry .*: {message}"):
        load_carry(folder, dataclasses.replace(given, **change))


def test_a_carry_belongs_to_its_precision_weights_and_version(kept, smallest, monkeypatch):
    folder, given = kept
    with jax.enable_x64(False), pytest.raises(ValueError, match="its precision is float64, this run's is float32"):
        load_carry(folder, given)
    monkeypatch.setattr(identity, "versions", lambda: {"jaxsrda": "9.9"})
    with pytest.raises(ValueError, match=r"its version of jaxsrda is .*, this run's is 9\.9"):
        load_carry(folder, given)
    diffusion = dataclasses.replace(given, method="diffsrda", config=DIFFUSION)
    drawn = [belongs(dataclasses.replace(diffusion, model=untrained(seed))) for seed in (0, 1)]
    assert [name for name in drawn[0] if drawn[0][name] != drawn[1][name]] == ["weights"]


def test_damaged_and_missing_carries_are_refused(kept, tmp_path):
    folder, given = kept
    with pytest.raises(ValueError, match="expected one that an earlier run left, found none"):
        load_carry(tmp_path / "nowhere", given)
    for data in (path for path in folder.rglob("d/*") if path.is_file()):
        whole = bytearray(data.read_bytes())
        whole[len(whole) // 2] ^= 64
        data.write_bytes(whole)
    with pytest.raises(ValueError, match=r"cannot be read|do not match their SHA-256"):
        load_carry(folder, given)
