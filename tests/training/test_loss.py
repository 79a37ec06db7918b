"""Training: the loss against its definition, one step against a loop, and runs that a kill does not change."""

import csv
import dataclasses
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import quick_jit

from jaxsrda.core.trees import flatten
from jaxsrda.diffsrda.condition import Conditioning
from jaxsrda.diffsrda.model import ModelConfig, network
from jaxsrda.diffusion.denoiser import edm_loss_sigma, training_loss, vp_loss_sigma
from jaxsrda.training import fit as fits
from jaxsrda.training import loop
from jaxsrda.training.dataset import WindowSet
from jaxsrda.training.fit import Origin, fit
from jaxsrda.training.loss import TrainConfig, batch_indices, initial_state, make_train_step, optimizer, window_loss
from jaxsrda.training.windows import Windows, augment

UNITS = Conditioning()
CHANNELS, FRAMES = UNITS.channels, UNITS.frames
NX, NY = 16, 9
SMALLEST = {"widths": (32,), "blocks": 1, "denoiser_widths": (16,)}
MODEL = ModelConfig("tiny", nx=NX, ny=NY)
TRAIN = TrainConfig(samples=24, batch=2, half_lives=(4, 64), learning_rate=1e-2)
KEY = jax.random.key(0)


pytestmark = pytest.mark.usefixtures("smallest")


@pytest.fixture
def lenient():
    """Types may promote: Optax counts in int32 and multiplies with it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def smooth_windows(count, seed=0):
    """Windows of one wave each, whose correction is half of the guess's five frames."""
    rng = np.random.default_rng(seed)
    x, y = 2 * np.pi * np.arange(NX) / NX, np.pi * np.arange(NY) / (NY - 1)
    phases = 2 * np.pi * rng.random((count, 1, 1, CHANNELS))
    condition = np.cos(x[:, None, None] + phases) * np.sin(y[:, None])
    condition[..., -1] = np.cos(y)
    return Windows(*(a.astype(np.float16) for a in (condition, 0.5 * condition[..., :FRAMES])))


@functools.cache
def windows():
    parts = smooth_windows(7)
    return WindowSet([jax.tree.map(lambda a: a[:4], parts), jax.tree.map(lambda a: a[4:], parts)])


@functools.cache
def held_out():
    return WindowSet([smooth_windows(3, seed=1)])


@functools.cache
def loud_params():
    """Random weights of order one, so that every part of the network has its say in the loss."""
    leaves, tree = jax.tree.flatten(jax.eval_shape(lambda: network(ModelConfig("tiny")).initial(0)))
    rng = np.random.default_rng(2)
    loud = [rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])) for leaf in leaves]
    return jax.tree.unflatten(tree, [jnp.asarray(a, jnp.float32) for a in loud])


def batch(count=2):
    return jax.tree.map(jnp.asarray, smooth_windows(count))


def values(params):
    return {name: np.array(leaf) for name, leaf in flatten(params).items()}


# The loss -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target, parametrization, loss, sigmas",
    [
        ("residual", "edm", "l2", "lognormal"),
        ("direct", "velocity", "l2", "lognormal"),
        ("direct", "noise", "l1", "vp"),
    ],
)
def test_the_loss_is_that_of_single_samples(target, parametrization, loss, sigmas):
    """The batch, repeated for two noise levels, against `training_loss` of each sample and level by itself."""
    model = dataclasses.replace(MODEL, target=target, parametrization=parametrization)
    config, norm = (
        dataclasses.replace(TRAIN, regression=0.25, loss=loss, sigmas=sigmas),
        jnp.linspace(0.5, 1.5, FRAMES, dtype=jnp.float32),
    )
    params, data = loud_params(), batch()
    total, metrics = quick_jit(functools.partial(window_loss, model, config, norm))(params, KEY, data)

    @quick_jit
    def single(params):
        net = network(ModelConfig("tiny"))
        noise_key, level_key, _ = jax.random.split(KEY, 3)
        noises = jax.random.normal(noise_key, (4, NX, NY, FRAMES), jnp.float32)
        levels = {"lognormal": edm_loss_sigma, "vp": vp_loss_sigma}[config.sigmas]
        options = (config.p_mean, config.p_std) if config.sigmas == "lognormal" else ()
        drawn = levels(level_key, (4, 1, 1, 1), *options, dtype=jnp.float32)
        truth = data.correction.astype(jnp.float32) / norm
        regression, local, diffusion = [], [], []
        for i in range(2):
            features = net.encode(params, data.condition[i : i + 1].astype(jnp.float32))
            off, scale = truth[i] - features.mean[0], features.scale[0]
            regression.append(jnp.abs(off).mean())
            local.append((jnp.abs(off) / scale + jnp.log(scale)).mean())
            clean = off / scale if target == "residual" else truth[i]

            def raw(x, level, features=features):
                return net.denoise(params, x[None], level[None], features)[0]

            for n in (2 * i, 2 * i + 1):
                one = training_loss(
                    parametrization, raw, clean, noises[n], drawn[n, 0, 0, 0], loss, sigma_data=model.sigma_data
                )
                diffusion.append(one)
        return [jnp.stack(parts).mean() for parts in (regression, local, diffusion)]

    regression, local, diffusion = single(params)
    assert total.dtype == jnp.float32
    assert metrics["regression"] == pytest.approx(float(regression), rel=1e-5)
    assert metrics["diffusion"] == pytest.approx(float(diffusion), rel=1e-5)
    assert metrics["scale"] == pytest.approx(float(local), rel=1e-5)
    assert total == metrics["loss"] == pytest.approx(float(diffusion + 0.25 * (regression + local)), rel=1e-5)


def test_a_regression_has_no_diffusion_in_it():
    scale = jnp.ones(FRAMES, jnp.float32)
    losses = {
        target: quick_jit(functools.partial(window_loss, dataclasses.replace(MODEL, target=target), TRAIN, scale))(
            loud_params(), KEY, batch()
        )[1]
        for target in ("regression", "residual")
    }
    assert set(losses["regression"]) == {"loss", "regression", "scale"}
    for part in ("regression", "scale"):
        assert losses["regression"][part] == pytest.approx(float(losses["residual"][part]), rel=1e-6)
    whole = losses["regression"]["regression"] + losses["regression"]["scale"]
    assert losses["regression"]["loss"] == pytest.approx(float(whole), rel=1e-6)


def test_the_gradient_is_finite_and_the_mean_is_the_regressions_alone():
    """Diffusion teaches the features but not the mean, which it is told to take as given."""
    scale = jnp.ones(FRAMES, jnp.float32)

    @quick_jit
    def gradient(params, weight):
        config = dataclasses.replace(TRAIN, regression=weight)
        return jax.grad(lambda p: window_loss(MODEL, config, scale, p, KEY, batch())[0])(params)

    with_it, without = (values(gradient(loud_params(), weight)) for weight in (jnp.float32(1), jnp.float32(0)))
    assert all(np.isfinite(leaf).all() for leaf in with_it.values())
    silent = {name.split(".")[0] for name, leaf in without.items() if not leaf.any()}
    assert silent == {"mean_head", "mean_norm"} and all(leaf.any() for leaf in with_it.values())


# A step ---------------------------------------------------------------------------------------


def test_averages_are_those_of_a_loop(lenient):
    """keep = min(2^(−batch/half-life), (1 + n)/(10 + n)): short half-lives meet the first bound, long the second."""
    config = dataclasses.replace(TRAIN, half_lives=(1, 1000))
    state = initial_state(MODEL, config, jax.tree.map(jnp.copy, loud_params()))
    step = make_train_step(MODEL, config, np.ones(FRAMES))
    expected = [values(state.params) for _ in config.half_lives]
    for count in range(5):
        state, _ = step(state, KEY, batch())
        now = values(state.params)
        for i, half_life in enumerate(config.half_lives):
            keep = min(0.5 ** (2 / half_life), (1 + count) / (10 + count))
            expected[i] = {name: keep * expected[i][name] + (1 - keep) * now[name] for name in now}
    assert state.step == 5
    for average, wanted in zip(state.averages, expected, strict=True):
        for name, leaf in values(average).items():
            np.testing.assert_allclose(leaf, wanted[name], rtol=1e-4, atol=1e-5, err_msg=name)
    apart = [np.abs(expected[0][name] - expected[1][name]).max() for name in now]
    assert max(apart) > 1e-3


def test_a_step_is_the_gradient_of_the_augmented_windows(lenient):
    config = dataclasses.replace(TRAIN, warmup=0.0)
    state = initial_state(MODEL, config, jax.tree.map(jnp.copy, loud_params()))
    _, metrics = make_train_step(MODEL, config, np.ones(FRAMES))(state, KEY, batch())
    augment_key, loss_key = jax.random.split(jax.random.fold_in(KEY, 0))
    moved = augment(augment_key, batch(), UNITS)

    def loss(params):
        return window_loss(MODEL, config, jnp.ones(FRAMES, jnp.float32), params, loss_key, moved)[0]

    expected, gradient = quick_jit(jax.value_and_grad(loss))(loud_params())
    assert metrics["loss"] == pytest.approx(float(expected), rel=1e-4)
    assert metrics["gradient"] == pytest.approx(float(optax.global_norm(gradient)), rel=1e-3)


def test_biases_and_norms_do_not_decay(lenient):
    config = dataclasses.replace(TRAIN, samples=20, weight_decay=0.1)
    params = {"kernel": jnp.ones((2, 2), jnp.float32), "bias": jnp.ones(2, jnp.float32)}
    rule, still = optimizer(config), jax.tree.map(jnp.zeros_like, params)
    state = rule.init(params)
    for _ in range(2):  # the warm-up's first rate is zero
        updates, state = rule.update(still, state, params)
    np.testing.assert_allclose(updates["kernel"], -config.learning_rate * 0.1, rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], 0)


def test_gradients_are_clipped(lenient):
    """From the second step on Adam's first moment tells: a clipped spike weighs as little as its bound."""
    params = {"kernel": jnp.zeros((2, 2), jnp.float32)}
    moments = []
    for size in (1e3, 1e6):
        rule = optimizer(dataclasses.replace(TRAIN, clip=0.5))
        _, state = rule.update(jax.tree.map(lambda a, s=size: a + s, params), rule.init(params), params)
        moments.append(optax.tree_utils.tree_get(state, "mu")["kernel"])
    np.testing.assert_allclose(moments[0], 0.1 * 0.5 / 2, rtol=1e-5)
    np.testing.assert_allclose(moments[1], moments[0], rtol=1e-5)


def test_the_rate_warms_up_and_falls_to_a_hundredth(lenient):
    config = TrainConfig(samples=1000, batch=10, warmup=0.1, learning_rate=1e-2, weight_decay=1.0)
    rule, params = optimizer(config), {"kernel": jnp.ones((2, 2), jnp.float32)}
    state, rates = rule.init(params), []
    still = jax.tree.map(jnp.zeros_like, params)
    step = quick_jit(lambda state: rule.update(still, state, params))
    for _ in range(config.steps + 1):
        updates, state = step(state)
        rates.append(-float(updates["kernel"][0, 0]))  # nothing but decay moves these
    assert rates[0] == 0 and int(np.argmax(rates)) == 10
    np.testing.assert_allclose([rates[5], rates[10], rates[100]], [5e-3, 1e-2, 1e-4], rtol=1e-4)


def test_every_window_comes_once_an_epoch():
    config = TrainConfig(batch=4, seed=3)
    epochs = [[batch_indices(config, 12, 3 * epoch + i) for i in range(3)] for epoch in range(2)]
    for epoch in epochs:
        assert sorted(np.concatenate(epoch)) == list(range(12))
    assert not np.array_equal(epochs[0], epochs[1])
    other = dataclasses.replace(config, seed=4)
    assert not np.array_equal(epochs[0][0], batch_indices(other, 12, 0))
    np.testing.assert_array_equal(epochs[1][2], batch_indices(config, 12, 5))
    # Where a batch does not divide the windows an epoch leaves some out, but repeats none.
    taken = np.concatenate([batch_indices(config, 14, i) for i in range(3)])
    assert len(set(taken)) == 12 and len(batch_indices(config, 14, 3)) == 4


# Learning -------------------------------------------------------------------------------------


def test_a_handful_of_windows_is_learned(tmp_path, monkeypatch, lenient, unscored):
    monkeypatch.setattr(loop, "LOG_EVERY", 20)
    config = TrainConfig(samples=560, batch=4, learning_rate=5e-3, warmup=0.1, p_mean=2.0)  # noise hides the target
    four = WindowSet([smooth_windows(4)])
    # What is left around a mean, in units of its own size, never gets small; the target itself does.
    direct = dataclasses.replace(MODEL, target="direct", sigma_data=1.0)
    curve = fit(tmp_path, direct, config, four, four).curve
    assert curve[-1]["regression"] < 0.15 * curve[0]["regression"], curve
    assert curve[-1]["diffusion"] < 0.4 * curve[0]["diffusion"], curve


# The loop -------------------------------------------------------------------------------------


@functools.cache
def compiled_step(model, config, scale):
    return make_train_step(model, config, np.array(scale))


def size(loss, params, held, batch):
    """A loss that compiles nothing."""
    return {"loss": float(sum(np.abs(leaf).sum() for leaf in values(params).values()))}


@pytest.fixture
def often(monkeypatch, lenient):
    """A checkpoint and a line of the curve every two steps, each kind of step compiled once for all tests."""
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    monkeypatch.setattr(fits, "make_train_step", lambda m, c, scale, *_: compiled_step(m, c, tuple(scale.tolist())))


@pytest.fixture
def unscored(monkeypatch):
    monkeypatch.setattr(fits, "evaluate", size)


def undisturbed(folder, config=TRAIN, **options):
    return fit(folder, MODEL, config, windows(), held_out(), **options)


def same(one, other):
    assert one.curve == other.curve and one.validation == other.validation
    assert one.milestones == other.milestones and len(one.milestones) >= 3
    for name, leaf in values(one.model.params).items():
        np.testing.assert_array_equal(leaf, values(other.model.params)[name], err_msg=name)


def test_a_fit_reports_what_it_did(tmp_path, often):
    reports = []
    fitted = undisturbed(tmp_path, report=lambda *row: reports.append(row))
    assert [row["samples"] for row in fitted.curve] == [4, 8, 12, 16, 20, 24]
    assert [done for done, total, _ in reports] == [4, 8, 12, 16, 20, 24] and {r[1] for r in reports} == {24}
    assert all(
        row[2]["samples_per_s"] > 0 and row[2]["loss"] == kept["loss"] for row, kept in zip(reports, fitted.curve)
    )
    with open(tmp_path / "curve.csv", newline="", encoding="utf-8") as file:
        read = [{name: float(number) for name, number in row.items()} for row in csv.DictReader(file)]
    assert read == fitted.curve and set(read[0]) == {"samples", "loss", "regression", "scale", "diffusion", "gradient"}
    np.testing.assert_allclose(fitted.model.scale, windows().correction_scale())
    (best,) = fitted.validation["chosen"]
    losses = {name: row["loss"] for name, row in fitted.validation.items() if name != "chosen"}
    assert set(losses) == {"half-life 4", "half-life 64", "last"} and losses[best] == min(losses.values())
    # What was chosen is what was returned.
    again = fits.evaluate(
        fits.validation_loss(MODEL, TRAIN, fitted.model.scale), fitted.model.params, held_out(), TRAIN.batch
    )
    assert again["loss"] == pytest.approx(losses[best], rel=1e-6)
    # A finished folder is only read.
    same(undisturbed(tmp_path, report=lambda *_: pytest.fail("it trained again")), fitted)


def interrupt(at):
    """A report that stops the fit once so many samples are done."""

    def report(done, total, metrics):
        if done >= at:
            raise KeyboardInterrupt

    return report


def test_a_stopped_fit_goes_on_to_the_same_end(tmp_path, often, unscored):
    for at in (8, 16):
        with pytest.raises(KeyboardInterrupt):
            undisturbed(tmp_path / "stopped", report=interrupt(at))
    first = []
    resumed = undisturbed(tmp_path / "stopped", report=lambda done, *_: first.append(done))
    assert first[0] == 16  # the line at 12 was kept, that at 16 was not yet
    same(resumed, undisturbed(tmp_path / "whole"))


@pytest.mark.slow
def test_a_fit_goes_on_after_kill_9(tmp_path, often, unscored):
    code = (
        "import sys, time; from pathlib import Path; sys.path[:0] = sys.argv[1:3];"
        "import conftest, jax, test_loss as t; jax.config.update('jax_numpy_dtype_promotion', 'standard');"
        "from jaxsrda.networks.unet import PRESETS; PRESETS['tiny'] = t.SMALLEST;"
        "t.loop.SAVE_EVERY, t.loop.LOG_EVERY, t.fits.evaluate = 0.0, 2, t.size;"
        "t.undisturbed(Path(sys.argv[3]), report=lambda *_: time.sleep(0.2))"
    )
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, Path(__file__).parents[:2]), str(folder)], env=dict(os.environ)
    )
    deadline = time.monotonic() + 120
    while not (folder / "6").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL and not (folder / "curve.csv").exists()
    first = []
    resumed = undisturbed(folder, report=lambda done, *_: first.append(done))
    assert first[0] >= 16  # three checkpoints of two steps of two were there
    same(resumed, undisturbed(tmp_path / "whole"))


def test_weights_to_go_on_from(tmp_path, often, unscored):
    """A fit from given weights starts from these and keeps their normalization."""
    scale = np.full(FRAMES, 0.3, np.float32)
    slow = dataclasses.replace(TRAIN, learning_rate=1e-9, samples=4)
    before, given = values(loud_params()), jax.tree.map(jnp.copy, loud_params())
    fitted = undisturbed(tmp_path, slow, origin=Origin(given, scale))
    np.testing.assert_array_equal(fitted.model.scale, scale)
    for name, leaf in values(fitted.model.params).items():
        np.testing.assert_allclose(leaf, before[name], atol=1e-5)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(given))


# What is refused ------------------------------------------------------------------------------


def test_a_folder_of_another_training_is_refused(tmp_path, often):
    with pytest.raises(KeyboardInterrupt):
        undisturbed(tmp_path, report=interrupt(8))
    other = WindowSet([smooth_windows(7, seed=5)])
    for model, config, data in [
        (MODEL, dataclasses.replace(TRAIN, seed=1), windows()),
        (dataclasses.replace(MODEL, sigma_data=0.5), TRAIN, windows()),
        (MODEL, TRAIN, other),
    ]:
        with pytest.raises(ValueError, match="holds a checkpoint of other work"):
            fit(tmp_path, model, config, data, held_out())


@pytest.mark.parametrize("part", ["notes", "state"])
def test_a_corrupt_checkpoint_is_refused(tmp_path, often, part):
    with pytest.raises(KeyboardInterrupt):
        undisturbed(tmp_path, report=interrupt(8))
    files = [path for path in (tmp_path / "2" / part).rglob("*") if path.is_file()]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:5])
    with pytest.raises(ValueError, match=r"its checkpoint 2 cannot be read .*; remove the folder"):
        undisturbed(tmp_path)


def test_too_few_windows_are_refused(tmp_path, lenient):
    with pytest.raises(ValueError, match="7 windows are less than a batch of 8; use more runs"):
        undisturbed(tmp_path, dataclasses.replace(TRAIN, batch=8))
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_finite_stops_the_fit(tmp_path, often):
    holed = smooth_windows(7)
    holed.condition[:, 3, 4, 0] = np.nan
    with pytest.raises(ValueError, match="the loss is no longer finite at step 2; lower learning_rate"):
        fit(tmp_path, MODEL, TRAIN, WindowSet([holed]), held_out())
    assert not (tmp_path / "curve.csv").exists() and not (tmp_path / "2").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch": 0}, "batch: expected at least 1, got 0"),
        ({"samples": 0}, "samples: expected at least 1, got 0"),
        ({"noises": 0}, "noises: expected at least 1, got 0"),
        ({"learning_rate": -1.0}, "learning_rate: expected a finite number above 0, got -1.0"),
    ],
)
def test_bad_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**change)


def test_old_names_are_refused():
    with pytest.raises(TypeError, match="TrainConfig: levels is now sigmas; use that name"):
        TrainConfig(levels="vp")
