"""Training on a stream: the buffer, many steps in one program, refills by the model's own cycling, and the budget."""

import dataclasses
import functools
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import TESTBED, fill, quick_jit

from jaxsrda.app.cli.faults import remedy
from jaxsrda.core.checkpoints import Checkpoints
from jaxsrda.core.interrupts import Interrupted
from jaxsrda.diffsrda.model import Model, ModelConfig, denoiser_part, encode, network
from jaxsrda.training import buffer as buffers
from jaxsrda.training import stream, stream_run
from jaxsrda.training.buffer import empty_buffer, write
from jaxsrda.training.course import keep
from jaxsrda.training.loss import TrainConfig, objective
from jaxsrda.training.programs import Programs
from jaxsrda.training.sources import Policy
from jaxsrda.training.stream import Fixed, StreamConfig
from jaxsrda.training.stream_run import Origin
from jaxsrda.training.windows import Windows

MODEL = ModelConfig.of(TESTBED, network="tiny")
TRAINING = TrainConfig(samples=48, batch=4, learning_rate=1e-3, warmup=2, cooling=0.25, noises=1)
STREAM = StreamConfig(capacity=12, dispatch=3, validate=2)


@pytest.fixture(autouse=True)
def promotion():
    """Optax counts in int32 and multiplies with it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def windows(count, seed=0, size=1.0):
    """Windows whose corrections are a part of their conditions, so that there is something to learn."""
    keys = jax.random.split(jax.random.key(seed))
    condition = jax.random.normal(keys[0], (count, MODEL.nx, MODEL.ny, MODEL.channels), jnp.float16)
    return Windows(condition, (size * condition[..., : MODEL.frames]).astype(jnp.float16))


def numbered(count, first=0):
    """Windows that hold their number."""
    number = jnp.arange(first, first + count, dtype=jnp.float16)[:, None, None, None]
    shape = count, MODEL.nx, MODEL.ny
    return Windows(jnp.broadcast_to(number, (*shape, MODEL.channels)), jnp.broadcast_to(number, (*shape, MODEL.frames)))


def held(buffer):
    return buffer.windows.correction[:, 0, 0, 0].tolist()


def lots(buffer):
    return [tuple(fill) for fill in buffer.fills]


def test_new_windows_take_the_place_of_the_oldest():
    buffer = write(empty_buffer(5, MODEL), numbered(3, 1))
    assert (buffer.filled, held(buffer)) == (3, [1, 2, 3, 0, 0])
    buffer = write(buffer, numbered(2, 4))
    assert (buffer.filled, held(buffer)) == (5, [1, 2, 3, 4, 5])
    buffer = write(buffer, numbered(3, 6))
    assert (buffer.filled, held(buffer), lots(buffer)) == (5, [6, 7, 8, 4, 5], [(1, 3, 2), (2, 0, 3)])
    buffer = write(buffer, numbered(4, 9))  # four do not fit behind them
    assert (buffer.filled, held(buffer), lots(buffer)) == (5, [9, 10, 11, 12, 5], [(1, 3, 2), (3, 0, 4)])
    with pytest.raises(ValueError, match="buffer: 6 windows do not fit a capacity of 5"):
        write(buffer, numbered(6))


def test_a_buffer_comes_back_from_its_lots(tmp_path):
    buffer = empty_buffer(5, MODEL)
    for number, new in enumerate((numbered(3, 1), numbered(2, 4), numbered(4, 6))):
        buffers.save_fill(tmp_path, number, new)
        buffer = write(buffer, new)
    buffers.tidy(tmp_path, buffer.fills)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["windows-000001.npz", "windows-000002.npz"]
    back = buffers.restored(tmp_path, empty_buffer(5, MODEL), list(buffer.fills))
    assert (held(back), back.fills) == (held(buffer), buffer.fills)
    (tmp_path / "windows-000001.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"windows-000001\.npz: cannot be read .* remove the folder to start anew"):
        buffers.restored(tmp_path, empty_buffer(5, MODEL), list(buffer.fills))


def test_the_scale_is_that_of_the_windows_there():
    made = windows(6, size=2.0)
    full = write(empty_buffer(9, MODEL), made)
    found = stream.correction_scale(full.windows.correction, jnp.int32(6))
    np.testing.assert_allclose(found, np.asarray(made.correction, float).std((0, 1, 2)), rtol=0.01)


@functools.cache
def programs(part="all", loss="l2"):
    model = dataclasses.replace(MODEL, distilled=1 if loss == "crps" else 0)
    training = dataclasses.replace(TRAINING, part=part, loss=loss, noises=2)
    return model, training, quick_jit(stream.make_steps(model, training, STREAM.dispatch))


@functools.cache
def single():
    """One step in one program, as a function of a state, windows, how many of them are there, and a rate."""
    model, training, _ = programs()
    one = quick_jit(stream.make_steps(model, training, 1))
    scale = jnp.full(model.frames, 0.7, jnp.float32)
    return lambda state, held, filled, rate: one(
        state, Fixed(), held, jnp.int32(filled), jnp.float32(rate), scale, jax.random.key(3)
    )


def test_steps_are_those_of_the_objective():
    """One dispatch of one step: the loss is the objective's on windows that it drew, and the average starts there."""
    model, training, _ = programs()
    one = single()
    state = stream.first_state(model, training)
    same = jax.tree.map(lambda a: jnp.repeat(a, 3, axis=0), windows(1))
    later, metrics = one(state, same, 3, 0)
    assert later.step == 1 and jnp.isfinite(metrics["loss"])
    for a, b in zip(jax.tree.leaves(later.params), jax.tree.leaves(state.params)):
        np.testing.assert_array_equal(a, b)  # at a rate of zero
    faster, _ = one(state, same, 3, 1e-3)
    for a, b in zip(jax.tree.leaves(faster.averages[0]), jax.tree.leaves(faster.params)):
        np.testing.assert_allclose(a, b)
    moved = [float(jnp.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (faster.params, state.params)))]
    assert max(moved) > 5e-4  # Adam's first step is the rate


def test_steps_draw_windows_that_are_there():
    """Windows beyond those filled are not numbers here; all of those filled are drawn."""
    model, training, _ = programs()
    held = jax.tree.map(lambda a: a.at[1:].set(jnp.nan), windows(3))
    state, losses = stream.first_state(model, training), []
    for filled in (1, 2):
        for _ in range(3):
            state, metrics = single()(state, held, filled, 0)
            losses.append(float(metrics["loss"]))
    assert np.isfinite(losses[:3]).all() and np.isnan(losses[3:]).any(), losses


def test_steps_go_down_the_gradient():
    """A step along it would raise the loss of a window that comes again and again."""
    model, training, _ = programs()
    same = jax.tree.map(lambda a: jnp.repeat(a, 3, axis=0), windows(1))
    state, losses = stream.first_state(model, training), []
    for _ in range(12):
        state, metrics = single()(state, same, 3, 3e-3)
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3]), losses


def test_averages_are_those_of_a_loop():
    """Each with its own length."""
    model, training, _ = programs()
    state, averages = stream.first_state(model, training), [0.0, 0.0]
    for step in range(3):
        state, _ = single()(state, windows(3), 3, 1e-2)
        leaf = np.concatenate([np.asarray(a, float).ravel() for a in jax.tree.leaves(state.params)])
        olds = [float(keep(jnp.int32(step), length)) for length in TRAINING.averages]
        averages = [old * average + (1 - old) * leaf for old, average in zip(olds, averages)]
    for found, wanted in zip(state.averages, averages, strict=True):
        found = np.concatenate([np.asarray(a, float).ravel() for a in jax.tree.leaves(found)])
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.abs(averages[0] - averages[1]).max() > 1e-4


def test_a_denoiser_alone_leaves_the_rest():
    model, training, steps = programs("denoiser", "crps")
    params = network(model).initial(0)
    state = stream.first_state(model, training, params)
    assert set(state.params) == set(denoiser_part(model, params))
    later, metrics = steps(
        state, Fixed(params), windows(4), jnp.int32(4), jnp.float32(1e-3), jnp.ones(model.frames, jnp.float32), key()
    )
    assert {"crps_points", "crps_block4", "crps_change"} <= set(metrics)
    joined = Fixed(params).whole(later.params)
    assert jax.tree.structure(joined) == jax.tree.structure(params)
    policy = Policy(joined, jnp.ones(model.frames, jnp.float32))
    error = stream.window_errors(model, training, policy, None, windows(4), 2)
    loss = objective(model, training, np.ones(model.frames, np.float32), joined)
    keys = jax.random.split(jax.random.key(1), 2)
    parts = [jax.tree.map(lambda a, i=i: a[2 * i : 2 * i + 2], windows(4)) for i in range(2)]
    wanted = np.mean([loss(denoiser_part(model, joined), k, w, False)[0] for k, w in zip(keys, parts)])
    np.testing.assert_allclose(error["loss"], wanted, rtol=1e-4)


def key():
    return jax.random.key(5)


def made(name, log):
    """A maker of 4 windows that notes the truths and the policy it was given."""

    def make(key, truths, policy):
        log.append((name, np.asarray(truths)[:, 0, 0, 0].tolist(), policy))
        return windows(4, seed=int(jax.random.bits(key) % 2**31))

    return make, 2


@functools.cache
def error_of_four():
    model, training, _ = programs()
    return quick_jit(lambda policy, space, w: stream.window_errors(model, training, policy, space, w, 2))


class Killed(Exception):
    """A kill, for what is called in the middle of a training."""


def run(folder=None, kill=None, samples=96, minutes=0.0, what=None, press=None, **options):
    """A training of makers a, b in turn on six truths; kill: samples at which it stops; press: at which Ctrl-C is."""
    model, training, steps = programs()
    training = dataclasses.replace(training, samples=samples, minutes=minutes)
    log, lines = [], []
    makers = {name: made(name, log) for name in ("a", "b")}
    own = Programs(steps, makers, {"a": (error_of_four(), 4)}, what)
    truths = jnp.broadcast_to(jnp.arange(6.0)[:, None, None, None], (6, 2, 3, 3))
    config = dataclasses.replace(STREAM, **options)

    def report(line):
        lines.append(line)
        if kill is not None and line["kind"] == "curve" and line["samples"] >= kill:
            raise Killed
        if press is not None and line["kind"] == "curve" and line["samples"] == press:
            signal.raise_signal(signal.SIGINT)

    data = stream_run.Truths(truths, truths[:1] - 1)
    done = stream_run.run(model, training, config, own, data, report=report, folder=folder)
    return done, log, lines


def test_a_training_spends_its_samples_and_visits_all_truths():
    done, log, lines = run(data_share=0.5)
    assert done.state.step * TRAINING.batch == 96
    training = [(name, truths) for name, truths, _ in log if truths[0] >= 0]
    # Each maker in turn; all six truths before any comes again.
    assert [name for name, _ in training][:4] == ["a", "b", "a", "b"]
    assert sorted(number for _, truths in training[:3] for number in truths) == [0, 1, 2, 3, 4, 5]
    assert [row["truths"] for row in done.validations].count("held out") == 1
    assert {line["kind"] for line in lines} == {"refill", "curve", "validation"}
    assert [row["samples"] for row in done.curve] == list(range(12, 97, 12))
    again, *_ = run(data_share=0.5)
    assert [row["loss"] for row in again.curve] == [row["loss"] for row in done.curve]


def test_the_policy_that_cycles_is_the_first_average():
    done, log, _ = run(samples=48, data_share=0.5)
    first, last = log[0][2], log[-1][2]
    np.testing.assert_array_equal(first.scale, 0.5)  # before the scale of corrections is known
    np.testing.assert_allclose(last.scale, done.scale)
    start = jax.tree.leaves(network(MODEL).initial(TRAINING.seed))
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(first.params), start))
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(last.params), start))
    model, training, steps = programs()
    own = Programs(steps, {}, {})
    truths = stream_run.Truths(jnp.zeros((2, 2, 3, 3)), jnp.zeros((1, 2, 3, 3)))
    work = stream_run.Work(model, training, STREAM, own, truths, Origin(), print)
    work.state = work.state._replace(averages=("first", "second"))
    assert work.policy().params == "first"


def test_new_windows_have_their_share_of_samples():
    """Half a window for each sample, those at the start not counted; of lots of 4, one at most before a dispatch."""
    _, log, _ = run(data_share=0.5)
    wanted, made_so_far = 2, 0
    for samples in range(0, 96, STREAM.dispatch * TRAINING.batch):
        if made_so_far < 0.5 * samples:
            wanted, made_so_far = wanted + 1, made_so_far + 4
    assert sum(truths[0] >= 0 for _, truths, _ in log) == wanted


def test_a_killed_training_goes_on_to_the_same_curve(tmp_path, monkeypatch):
    whole, *_ = run(data_share=0.5)
    monkeypatch.setattr(stream_run, "SAVE_EVERY", 0.0)
    with pytest.raises(Killed):
        run(tmp_path, kill=60, data_share=0.5)
    again, log, _ = run(tmp_path, data_share=0.5)
    assert 0 < len(log) < 8  # not from the start
    assert [row["loss"] for row in again.curve] == [row["loss"] for row in whole.curve]
    assert [row["maer"] for row in again.validations] == [row["maer"] for row in whole.validations]
    with pytest.raises(ValueError, match="holds a checkpoint of other work"):
        run(tmp_path, data_share=0.25)
    with pytest.raises(ValueError, match="holds a checkpoint of other work"):
        run(tmp_path, data_share=0.5, what="windows of other sensors")


def test_an_interrupted_training_keeps_what_is_done(tmp_path):
    """It ends after the steps that are under way, with a checkpoint that another second would not have brought."""
    whole, *_ = run(data_share=0.5)
    with pytest.raises(Interrupted, match="train, and the same command goes on from there"):
        run(tmp_path / "train", press=36, data_share=0.5)
    assert Checkpoints(tmp_path / "train", "").steps() == [48]
    again, _, lines = run(tmp_path / "train", data_share=0.5)
    assert next(line["samples"] for line in lines if line["kind"] == "curve") == 60
    assert [row["loss"] for row in again.curve] == [row["loss"] for row in whole.curve]


def test_a_training_on_a_full_disk_goes_on_to_the_same_curve(disk, monkeypatch):
    """What was kept before stays, and with space the training ends as one that had it all the time."""
    whole, *_ = run(data_share=0.5)
    monkeypatch.setattr(stream_run, "SAVE_EVERY", 0.0)
    with pytest.raises(Killed):
        run(disk / "train", kill=36, data_share=0.5)
    kept, ballast = Checkpoints(disk / "train", "").steps(), fill(disk, 8_000)
    with pytest.raises(Exception, match="No space left on device") as caught:
        run(disk / "train", data_share=0.5)
    assert "no space left on the disk" in str(remedy(caught.value))
    assert kept == Checkpoints(disk / "train", "").steps() != []
    ballast.unlink()
    again, *_ = run(disk / "train", data_share=0.5)
    assert [row["loss"] for row in again.curve] == [row["loss"] for row in whole.curve]


def test_a_larger_budget_goes_on(tmp_path):
    first, *_ = run(tmp_path / "new", samples=48)
    later, *_ = run(tmp_path / "new", samples=96)
    assert [row["samples"] for row in later.curve] == list(range(12, 97, 12))
    assert later.curve[:4] == first.curve
    assert later.seconds["training"] >= first.seconds["training"]


def test_a_training_of_minutes_ends_in_time():
    run(samples=12)  # compiles
    done, *_ = run(minutes=0.05)
    assert 3 <= done.seconds["all"] < 6 and done.state.step > 0
    assert done.seconds["data"] + done.seconds["training"] <= done.seconds["all"]


def test_errors_of_an_analysis_are_relative_to_the_truth():
    """A mean of zero leaves the guess's error, Σ|correction| / Σ|truth| over the frames of the cycle."""
    params = jax.tree.map(jnp.zeros_like, network(MODEL).initial(0))
    some = windows(4)
    found = errors_of(Policy(params, jnp.full(MODEL.frames, 2.0, jnp.float32)), some)
    condition, correction = (np.asarray(a, float)[..., : MODEL.frames - 1] for a in some)
    truth = condition * MODEL.conditioning.field_scale + correction
    wanted = np.abs(correction).sum() / np.abs(truth).sum()
    np.testing.assert_allclose([found["maer"], found["guess_maer"]], wanted, rtol=2e-3)
    np.testing.assert_allclose(found["regression"], np.abs(np.asarray(some.correction, float)).mean() / 2, rtol=2e-3)


def test_a_model_without_a_mean_has_no_error_of_it():
    policy = Policy(network(MODEL).initial(0), jnp.ones(MODEL.frames, jnp.float32))
    assert {"loss", "diffusion"} <= set(errors := errors_of(policy, windows(2), target="direct"))
    assert "maer" not in errors


def errors_of(policy, some, **changes):
    model = dataclasses.replace(MODEL, **changes)
    return quick_jit(lambda policy, some: stream.window_errors(model, TRAINING, policy, None, some, 2))(policy, some)


@pytest.mark.usefixtures("smallest")
def test_errors_of_an_analysis_are_those_of_its_mean():
    """The mean in units of the scale of corrections is what is taken off them."""
    leaves, tree = jax.tree.flatten(network(MODEL).initial(0))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    params = jax.tree.unflatten(tree, [a + 0.1 * jax.random.normal(k, a.shape, a.dtype) for k, a in zip(keys, leaves)])
    policy, some = Policy(params, jnp.linspace(0.5, 2.0, MODEL.frames, dtype=jnp.float32)), windows(2)
    found = errors_of(policy, some)
    condition, correction = (np.asarray(a, float) for a in some)
    mean = np.asarray(encode(Model(MODEL, *policy), some.condition.astype(jnp.float32)).mean)
    off = np.abs(correction - mean * np.asarray(policy.scale))
    truth = np.abs(condition[..., : MODEL.frames] * MODEL.conditioning.field_scale + correction)
    np.testing.assert_allclose(found["maer"], off[..., :-1].sum() / truth[..., :-1].sum(), rtol=2e-3)
    loss = objective(MODEL, TRAINING, policy.scale)(params, jax.random.split(jax.random.key(1), 1)[0], some, False)[1]
    np.testing.assert_allclose([found[name] for name in loss], list(loss.values()), rtol=1e-3)
    assert np.abs(mean).max() > 0.1


def test_a_loss_that_is_lost_is_said(monkeypatch):
    model, training, _ = programs()

    def steps(state, *inputs):
        return state, {"loss": jnp.float32(np.nan)}

    own = Programs(steps, {"a": made("a", [])}, {})
    truths = stream_run.Truths(jnp.zeros((2, 2, 3, 3)), jnp.zeros((1, 2, 3, 3)))
    with pytest.raises(ValueError, match="the loss is no longer finite at step 3; lower learning_rate"):
        stream_run.run(model, training, STREAM, own, truths)
