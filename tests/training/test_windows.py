"""Training data: windows that add up to the truth, exact symmetries, which runs with which sensors, and the cache."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import COARSE, GRID, TESTBED, quick_jit, setup, truth

from jaxsrda.diffsrda.condition import Conditioning, channels
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.prior import make_prior
from jaxsrda.diffsrda.step import Draw, recorded_step, start
from jaxsrda.filters.config import FilterConfig, filter_params
from jaxsrda.flow.climatology import training_key
from jaxsrda.flow.grid import regrid, regrid_hat, to_physical, to_spectral
from jaxsrda.flow.simulate import integrate, simulate
from jaxsrda.flow.solver import UnstableStepError
from jaxsrda.flow.testbed import Level, jet
from jaxsrda.observing.layouts import parse_layout
from jaxsrda.observing.observations import observe_run
from jaxsrda.observing.sensors import Sensors
from jaxsrda.training import truths as training_runs
from jaxsrda.training import windows as data
from jaxsrda.training.dataset import DataConfig
from jaxsrda.training.sources import Sensing
from jaxsrda.training.windows import (
    Windows,
    augment,
    cycle_windows,
    forecast_windows,
    mix_nearest,
    training_observations,
)

UNITS, PAPER = Conditioning(), Conditioning.of(TESTBED, "paper")
CHANNELS, FRAMES, PAST, FIELD_SCALE = UNITS.channels, UNITS.frames, UNITS.past, UNITS.field_scale
CYCLES, STD = 3, 1e-3
PRECISE = (Sensors("lattice:4", noise_std=STD),)
KEY = jax.random.key(11)
LAYOUT = parse_layout("lattice:4", GRID)
ANALYSES = FRAMES + 7  # the channels of the memory begin here
PARAMS = FilterConfig(members=3, localization=1.0, additive=0.1)


def the_truth(seed=0, dtype="float64"):
    """Frames (4 · CYCLES + 1, nx, ny)."""
    return truth(CYCLES + 1, dtype, seed)[: 4 * CYCLES + 1]


def prior_of(name):
    config = {
        "enkf-sr": DiffSRDAConfig(prior="enkf-sr", members=3),
        "lr-each": DiffSRDAConfig(prior="lr", restart="each", members=2),
        "lr-first": DiffSRDAConfig(prior="lr", restart="first", members=2),
    }[name]
    return make_prior(setup("float64"), config, filter_params(PARAMS))


def fake_draw(key, conditions, *_):
    return 0.2 * jax.random.normal(key, (2, FRAMES, 1, 1)) * jnp.ones(GRID.shape)


@functools.cache
def windows_of(name, draw=None):
    where, prior = setup("float64", PRECISE), prior_of(name)
    restart = "open" if draw is None else "each"
    run = functools.partial(cycle_windows, where, prior, LAYOUT, draw=draw, restart=restart, dtype=jnp.float64)
    return quick_jit(run)(KEY, the_truth())


# Windows


@pytest.mark.parametrize("name, guesses", [("enkf-sr", 1), ("lr-each", 2)])
def test_guess_and_correction_add_up_to_the_truth(name, guesses):
    windows = windows_of(name)
    assert windows.condition.shape == (CYCLES, guesses, *GRID.shape, CHANNELS)
    assert windows.correction.shape == (CYCLES, guesses, *GRID.shape, FRAMES)
    guess = FIELD_SCALE * windows.condition[..., :FRAMES]
    for time in range(CYCLES):
        frames = jnp.moveaxis(the_truth()[4 * time : 4 * time + FRAMES], 0, -1)
        for one in range(guesses):
            np.testing.assert_allclose(guess[time, one] + windows.correction[time, one], frames, atol=1e-12)
    assert abs(windows.correction).max((1, 2, 3, 4)).min() > 0.1


def test_sensors_tell_of_the_correction():
    """Where a sensor is, its departure is the correction of the first frame but for the noise."""
    windows = windows_of("enkf-sr")
    value, there = 0.5 * windows.condition[..., FRAMES + 5], windows.condition[..., FRAMES + 6]
    np.testing.assert_allclose(value, there * windows.correction[..., 0], atol=6 * STD)
    assert (there.sum((2, 3)) > 20).all()
    assert abs(value - there * windows.correction[..., 0]).max() > STD  # and the noise is there


def test_memory_channels_are_the_windows_before():
    condition = windows_of("enkf-sr").condition
    blank = condition[0, ..., ANALYSES : ANALYSES + 3 * PAST]
    assert not blank[..., : 2 * PAST].any() and (blank[..., 2 * PAST :] == 1).all()
    for time in range(1, CYCLES):
        for back in range(min(time, PAST)):
            past = condition[time - 1 - back]
            for group, now in enumerate((0, FRAMES + 3, FRAMES + 4)):  # analysis, departure, uncertainty
                kept = condition[time, ..., ANALYSES + group * PAST + back]
                np.testing.assert_array_equal(kept, past[..., now])
    assert not condition[1, ..., ANALYSES + 1].any()  # only one time before


def test_windows_are_those_of_the_cycle(draw=fake_draw):
    """The scan is the loop over steps, with a model in it."""
    where, prior = setup("float64", PRECISE), prior_of("lr-each")
    windows = windows_of("lr-each", draw)
    state_key, sensor_key, step_key = jax.random.split(KEY, 3)
    seen = training_observations(sensor_key, where, LAYOUT, the_truth())
    step = quick_jit(recorded_step(where, prior, draw, "each"))
    state = start(where, prior, state_key, float)
    for time in range(CYCLES):
        memory = state.memory
        now_seen = jax.tree.map(lambda a, t=time: a[t], seen)
        state, _, now = step(jax.random.fold_in(step_key, time), state, now_seen)
        wanted = jax.vmap(lambda n, m: channels(GRID, n, m, UNITS))(now, memory)
        np.testing.assert_allclose(windows.condition[time], wanted, atol=1e-9)
    # From the second time on these are other windows than the prior's own.
    alone = windows_of("lr-each").correction
    np.testing.assert_allclose(windows.correction[0], alone[0], atol=1e-9)
    assert abs(windows.correction[1:] - alone[1:]).max((1, 2, 3, 4)).min() > 0.01


def test_half_precision_by_default():
    for maker, given in ((cycle_windows, (prior_of("lr-each"), LAYOUT)), (forecast_windows, (observed_runs(),))):
        truths = the_truth() if maker is cycle_windows else jnp.stack(3 * [the_truth()])
        shapes = jax.eval_shape(functools.partial(maker, setup("float64"), *given), KEY, truths)
        assert {a.dtype for a in shapes} == {np.dtype("float16")}


def test_training_observations_leave_the_last_frame_out():
    where, frames = setup("float64", PRECISE), the_truth()
    for extra in (0, 3):
        seen = training_observations(KEY, where, LAYOUT, frames[: len(frames) - 4 + extra])
        assert seen.values.shape[0] == CYCLES - 1
        wanted = observe_run(KEY, GRID, LAYOUT, frames[: 4 * (CYCLES - 1)], 4, STD)
        for a, b in zip(jax.tree.leaves(seen), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_array_equal(a, b)


# Windows of bare forecasts


@functools.cache
def forecasts(starts, units=None):
    where, truths = setup("float64", PRECISE), jnp.stack([the_truth(seed) for seed in range(3)])
    run = functools.partial(forecast_windows, where, starts=starts, dtype=jnp.float64, units=units)
    return quick_jit(run)(observed_runs(), KEY, truths)


def observed_runs():
    """What is observed of the three truths of `forecasts`."""
    each = [training_observations(KEY, setup("float64", PRECISE), LAYOUT, the_truth(run)) for run in range(3)]
    return jax.tree.map(lambda *a: jnp.stack(a), *each)


@functools.cache
def low_passed_forecast(run, time):
    """The LR forecast (9, nx, ny) that starts exactly at the assimilation time `time` of truth number `run`."""
    lr = COARSE.grid
    begin = regrid_hat(GRID, lr, to_spectral(GRID, the_truth(run)[4 * time]))
    frames = quick_jit(lambda a: integrate(TESTBED, COARSE, a, 9).omega_hat)(begin)
    return jnp.stack([to_physical(GRID, regrid_hat(lr, GRID, a)) for a in frames])


@pytest.mark.parametrize("starts", data.STARTS)
def test_forecast_windows_add_up_to_the_truth(starts):
    windows = forecasts(starts)
    assert windows.condition.shape == (CYCLES - 1, 3, *GRID.shape, CHANNELS)
    guess = FIELD_SCALE * windows.condition[..., :FRAMES]
    for time in range(1, CYCLES):
        for run in range(3):
            frames = jnp.moveaxis(the_truth(run)[4 * time : 4 * time + FRAMES], 0, -1)
            np.testing.assert_allclose(guess[time - 1, run] + windows.correction[time - 1, run], frames, atol=1e-12)
    there = windows.condition[..., FRAMES + 6]
    departure = 0.5 * windows.condition[..., FRAMES + 5]
    np.testing.assert_allclose(departure, there * windows.correction[..., 0], atol=6 * STD)
    assert not windows.condition[..., FRAMES : FRAMES + 3].any()  # no increment, no spread
    # One earlier time is remembered: the forecast's start.
    memory = windows.condition[..., ANALYSES : ANALYSES + 3 * PAST]
    assert not memory[..., 1].any() and not memory[..., 3].any() and (memory[..., 5] == 1).all()
    assert (memory[..., 4].min((2, 3)) < 0.5).all()


def test_forecasts_start_from_the_truth():
    """Clean: exactly from its low-passed state; perturbed: from another field, near it."""
    clean, perturbed = forecasts("clean").condition, forecasts("perturbed").condition
    for time in range(1, CYCLES):
        for run in range(3):
            wanted = low_passed_forecast(run, time - 1)
            condition = clean[time - 1, run]
            np.testing.assert_allclose(
                FIELD_SCALE * condition[..., :FRAMES], jnp.moveaxis(wanted[4:], 0, -1), atol=1e-9
            )
            np.testing.assert_allclose(FIELD_SCALE * condition[..., ANALYSES], wanted[0], atol=1e-9)
    anomaly = FIELD_SCALE * (perturbed - clean)[..., ANALYSES]
    rms = jnp.sqrt((anomaly**2).mean((2, 3)))
    typical = jnp.sqrt(
        jax.vmap(jax.vmap(lambda a: (to_physical(GRID, a) ** 2).mean()))(setup("float64").climatology.anomalies)
    )
    assert (rms < data.PERTURBATION * typical.max()).all() and rms.max() > 0.01
    assert len(np.unique(np.asarray(rms).round(6))) == rms.size  # each of its own size


def test_mixup_joins_the_nearest_runs():
    """Each forecast moves towards its nearest other by one weight below 1, the same at all its frames."""
    rng = np.random.default_rng(0)
    centres = np.array([0.0, 0.1, 5.0, 5.2, 9.0])
    fields = jnp.asarray(centres[:, None, None] + 0.01 * rng.normal(size=(5, 3, 4)))
    drawn = quick_jit(jax.vmap(mix_nearest, (0, None)))(jax.random.split(KEY, 400), fields)
    mixed = drawn[0]
    weights = []
    for run, other in enumerate([1, 0, 3, 2, 3]):
        weight = (mixed[run] - fields[run]) / (fields[other] - fields[run])
        np.testing.assert_allclose(weight, weight[0, 0], rtol=1e-6)
        weights.append(float(weight[0, 0]))
    assert 0 < min(weights) < max(weights) < 1 and len(set(weights)) == 5
    weight = (drawn - fields)[:, 4] / (fields[3] - fields[4])
    np.testing.assert_allclose([weight.mean(), weight.std()], [2 / 7, np.sqrt(10 / (49 * 8))], atol=0.03)
    # Windows with it are mixtures of the clean ones.
    clean, windows = forecasts("clean").condition, forecasts("mixup").condition
    assert abs(windows - clean)[..., :FRAMES].max((2, 3, 4)).min() > 1e-3


def test_bad_forecast_windows_raise():
    with pytest.raises(ValueError, match="starts: expected one of perturbed, mixup, clean; got 'mix'"):
        forecast_windows(setup("float64"), observed_runs(), KEY, the_truth()[None], starts="mix")
    with pytest.raises(ValueError, match="mix_nearest: expected at least 2 runs to mix, got 1"):
        mix_nearest(KEY, jnp.zeros((1, 3, 4)))


# The paper's conditions


def test_the_papers_windows_hold_the_forecast_before_and_the_sensors():
    """The forecast at its start, four and eight frames later, and at each sensor what that measured then and now."""
    windows, full = forecasts("clean", PAPER), forecasts("clean")
    assert windows.condition.shape == (CYCLES - 1, 3, *GRID.shape, 5)
    np.testing.assert_allclose(windows.correction, full.correction, atol=1e-12)
    for run in range(3):
        seen = jax.tree.map(lambda a, run=run: a[run], observed_runs())
        for time in range(1, CYCLES):
            condition = PAPER.field_scale * windows.condition[time - 1, run]
            wanted = low_passed_forecast(run, time - 1)[jnp.array([0, 4, 8])]
            np.testing.assert_allclose(condition[..., :3], jnp.moveaxis(wanted, 0, -1), atol=1e-9)
            for channel, when in ((3, time - 1), (4, time)):
                mask = seen.mask[when]
                i, j = jnp.rint(seen.positions[when][mask] / jnp.asarray(GRID.spacing)).astype(int).T
                close = np.abs(condition[i, j, channel] - seen.values[when][mask]).max()
                assert close < 0.02, (run, time, channel)
                frame = the_truth(run)[4 * when]
                np.testing.assert_allclose(condition[i, j, channel], frame[i, j], atol=0.02 + 6 * STD)
    # The times differ, so that another one's values are not there by chance.
    assert abs(jnp.diff(windows.condition, axis=0))[..., 1:].max((2, 3)).min() > 0.01


def test_the_papers_cycle_has_the_conditions_of_training():
    """A model that finds the truth at each time makes the cycle that bare forecasts from the truth are windows of."""
    where, prior, seen = setup("float64", PRECISE), prior_of("lr-first"), jax.tree.map(lambda a: a[0], observed_runs())
    heard = []

    def perfect(truth):
        def draw(key, conditions, observations):
            heard.append(conditions)
            guess = PAPER.field_scale * conditions[..., PAPER.first]
            return jnp.zeros((2, FRAMES, *GRID.shape)).at[:, 0].set(truth - guess)

        return Draw(draw, PAPER, 2)

    @quick_jit
    def step(key, state, observations, truth):
        state = recorded_step(where, prior, perfect(truth), "first")(key, state, observations)[0]
        return state, heard.pop()[0]

    state = start(where, prior, KEY, float, PAPER)
    for time in range(CYCLES):
        now = jax.tree.map(lambda a, t=time: a[t], seen)
        state, condition = step(KEY, state, now, the_truth()[4 * time])
        if time > 0:  # the first forecast starts from another field
            wanted = forecasts("clean", PAPER).condition[time - 1, 0]
            np.testing.assert_allclose(condition, wanted, atol=1e-9, err_msg=f"time {time}")


def test_the_papers_conditions_of_other_priors():
    """Windows of a cycle hold the window before; units that are not the model's are refused."""
    where, prior = setup("float64", PRECISE), prior_of("lr-each")
    run = functools.partial(cycle_windows, where, prior, LAYOUT, dtype=jnp.float64)
    condition = quick_jit(functools.partial(run, draw=PAPER))(KEY, the_truth()).condition
    assert condition.shape == (CYCLES, 2, *GRID.shape, 5)
    for now, before in ((0, 1), (3, 4)):
        np.testing.assert_array_equal(condition[1:, ..., now], condition[:-1, ..., before])
    np.testing.assert_allclose(condition[1:, ..., 1], condition[:-1, ..., 2], atol=1e-9)  # nothing is corrected
    with pytest.raises(
        ValueError, match=r"conditioning: the model's is Conditioning\(.*'full'\), got .*'paper'\); leave"
    ):
        recorded_step(where, prior, Draw(fake_draw, UNITS, 2), "each", PAPER)


# Symmetries


def random_windows(count, nx=4, ny=5, dtype="float64", seed=3):
    rng = np.random.default_rng(seed)
    return Windows(*(jnp.asarray(rng.normal(size=(count, nx, ny, n)), dtype) for n in (CHANNELS, FRAMES)))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_augmented_windows_are_shifts_and_reflections(dtype):
    """Each is one of the 2 · nx images of its window, condition and correction alike; all of them occur."""
    windows = random_windows(80, dtype=dtype)
    augmented = quick_jit(lambda key, w: augment(key, w, UNITS))(KEY, windows)
    assert {a.dtype for a in augmented} == {np.dtype(dtype)}
    signs, found = np.asarray(UNITS.signs, dtype), []
    for number in range(80):
        condition, correction = (np.asarray(a[number]) for a in windows)
        images = []
        for shift in range(4):
            rolled = np.roll(condition, shift, 0), np.roll(correction, shift, 0)
            images += [rolled, (signs * rolled[0][:, ::-1], -rolled[1][:, ::-1])]
        same = [all(np.array_equal(a[number], b) for a, b in zip(augmented, image)) for image in images]
        assert sum(same) == 1, number
        found.append(same.index(True))
    counts = np.bincount(found, minlength=8)
    assert (counts > 2).all() and counts[1::2].sum() > 20 < counts[::2].sum(), counts


def test_one_key_one_augmentation():
    windows = random_windows(20)
    run = quick_jit(lambda key, w: augment(key, w, UNITS))
    first, again, other = (run(key, windows) for key in (KEY, KEY, jax.random.key(12)))
    for a, b, c in zip(first, again, other):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


# Sets


def test_three_quarters_of_the_runs_have_the_main_layout():
    """The others have equal parts, and those that need more slots a program of their own."""
    config = DataConfig(
        layout="lattice:8", extra_layouts=("track:4", "lattice:4", "lattice:12"), noise_range=(0.1, 0.2)
    )
    usual, dense = config.sensings.values()
    assert list(config.sensings) == ["", ", dense"]
    assert (usual.layouts, usual.shares) == (("lattice:8", "track:4", "lattice:12"), (9, 1, 1))
    assert (dense.layouts, dense.shares) == (("lattice:4",), (1,))
    assert usual.noise_range == dense.noise_range == (0.1, 0.2)
    alone = DataConfig(extra_layouts=(), noise_std=0.2).sensings
    assert alone == {"": Sensing(("lattice:8",), (1,), 0.2)}


def test_early_times_are_the_first_frames_of_a_run():
    assert DataConfig().frames == jet().frames + 1
    assert DataConfig(times=3).frames == 4 * 4 + 1  # the first time, three more, and the frame after them
    assert DataConfig(times=1000).frames == jet().frames + 1


@pytest.mark.parametrize("runs", [0, 4, 12, -8])
def test_runs_come_in_blocks(runs):
    with pytest.raises(ValueError, match=f"runs: expected a multiple of 8, at least 8; got {runs}"):
        DataConfig(runs=runs)


def test_bad_data_choices_raise():
    with pytest.raises(ValueError, match=r"prior: expected one of dual, .*, lr; got 'hr'"):
        DataConfig(prior="hr")
    with pytest.raises(
        ValueError, match="starts: expected one of cycle, perturbed, mixup, clean; got 'cleaner'; did you"
    ):
        DataConfig(starts="cleaner")
    with pytest.raises(ValueError, match="starts: bare forecasts are those of prior lr, got clean with dual"):
        DataConfig(starts="clean")
    with pytest.raises(ValueError, match="times: expected 1 or more, or 0 for all, got -1"):
        DataConfig(times=-1)


def test_old_names_are_refused():
    with pytest.raises(TypeError, match="DataConfig: others is now extra_layouts; use that name"):
        DataConfig(others=())
    with pytest.raises(TypeError, match="DataConfig: observation_std is now noise_std; use that name"):
        DataConfig(observation_std=0.2)
    with pytest.raises(TypeError, match="DataConfig: repeats is now none: windows are made anew all the time"):
        DataConfig(repeats=2)


@pytest.mark.parametrize("symmetries", [("shift",), ("reflection",), ()])
def test_windows_move_by_the_symmetries_of_the_flow_alone(symmetries):
    windows = random_windows(40)
    moved = quick_jit(lambda key, w: augment(key, w, UNITS, symmetries))(KEY, windows)
    signs, found = np.asarray(UNITS.signs), set()
    for number in range(40):
        condition = np.asarray(windows.condition[number])
        shifts = range(4) if "shift" in symmetries else (0,)
        images = {(s, 0): np.roll(condition, s, 0) for s in shifts}
        if "reflection" in symmetries:
            images |= {(s, 1): signs * image[:, ::-1] for (s, _), image in images.items()}
        same = [place for place, image in images.items() if np.array_equal(moved.condition[number], image)]
        assert len(same) == 1, number
        found.add(same[0])
    assert len(found) == (4 if "shift" in symmetries else 1) * (2 if "reflection" in symmetries else 1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path))
    return tmp_path


# Runs

TINY = Level("tiny", 16, 9, 1e-3, steps=4, rk2_steps=100)
BED = dataclasses.replace(TESTBED, finer=(TINY,))


def count_blocks(monkeypatch):
    made, block = [], training_runs._block
    monkeypatch.setattr(training_runs, "_block", lambda *a: (made.append(a[3]), block(*a))[1])
    return made


def test_runs_are_the_levels_own_on_the_analysis_grid(folder):
    frames = training_runs.training_runs(BED, TINY, 10, frames=2)
    assert frames.shape == (10, 2, *GRID.shape) and frames.dtype == np.float16
    for number in (0, 9):
        begin = BED.start(training_key(training_runs.FIRST_SEED + number), TINY.grid)
        run = simulate(BED, TINY, begin[None], 2)[0]
        wanted = np.stack([regrid(TINY.grid, GRID, to_physical(TINY.grid, state)) for state in run])
        np.testing.assert_allclose(frames[number].astype(float), wanted, rtol=1e-3, atol=1e-4)
    assert len(np.unique(frames[:, 1].reshape(10, -1), axis=0)) == 10  # ten different runs


def test_the_same_number_is_the_same_run(tmp_path, monkeypatch):
    """Whatever run is asked for first, and however many."""
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path / "a"))
    many = training_runs.training_runs(BED, TINY, 12, frames=2)
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path / "b"))
    np.testing.assert_array_equal(training_runs.training_runs(BED, TINY, 3, frames=2, first=8), many[8:11])


def test_runs_are_cached_by_block(folder, monkeypatch):
    made, stages = count_blocks(monkeypatch), []
    first = training_runs.training_runs(BED, TINY, 9, 2, progress=lambda *a: stages.append(a))
    assert made == [0, 1] and stages == [(0, 9), (8, 9), (9, 9)]
    np.testing.assert_array_equal(training_runs.training_runs(BED, TINY, 16, 2)[:9], first)
    assert made == [0, 1] and len(list(folder.iterdir())) == 2
    next(folder.glob("training-small-tiny-0000-*")).unlink()  # a killed job: only what is missing is run
    np.testing.assert_array_equal(training_runs.training_runs(BED, TINY, 9, 2), first)
    assert made == [0, 1, 0]
    # Other lengths and levels are other runs.
    training_runs.training_runs(BED, TINY, 1, 1)
    training_runs.training_runs(BED, Level("tiny", 16, 9, 2e-3, steps=4, rk2_steps=100), 1, 1)
    training_runs.training_runs(BED.vary(beta=0.3), TINY, 1, 1)
    assert made == [0, 1, 0, 0, 0, 0]


def test_a_fast_run_takes_half_the_step(folder, monkeypatch):
    steps, run = [], training_runs.simulate

    def unstable_at_first(testbed, level, start, frames, **more):
        steps.append(more.get("steps"))
        if more.get("steps") is None:
            raise UnstableStepError("too fast")
        return run(testbed, level, start, frames, **more)

    monkeypatch.setattr(training_runs, "simulate", unstable_at_first)
    assert np.isfinite(training_runs.training_runs(BED, TINY, 1, 2)).all()
    assert steps == [None, 2 * TINY.steps]


@pytest.mark.parametrize("count, first", [(0, 0), (-1, 0), (1, 4), (1, -8)])
def test_bad_counts_raise(count, first):
    with pytest.raises(ValueError, match=f"expected at least 1, from a multiple of 8; got {count} from {first}"):
        training_runs.training_runs(BED, TINY, count, first=first)
