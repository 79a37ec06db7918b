"""Autoencoders of frames: shapes, walls, what each loss contains, and that training learns and resumes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import quick_jit

from jaxsrda.flow.testbed import jet
from jaxsrda.networks.autoencoder import PRESETS, AutoencoderConfig, functions
from jaxsrda.training import autoencoder as autoencoding
from jaxsrda.training import loop
from jaxsrda.training.autoencoder import (
    batch_indices,
    fit_autoencoder,
    initial_autoencoder,
    make_autoencoder_step,
    reconstruct,
    reconstruction_loss,
    trained_space,
)
from jaxsrda.training.loss import TrainConfig

NX, NY = 16, 9
VQ = AutoencoderConfig(hidden=16, blocks=1, codes=12)
KL = AutoencoderConfig(channels=2, hidden=16, blocks=1, divergence=1e-3)
TRAIN = TrainConfig(samples=24, batch=2, learning_rate=3e-3)


@pytest.fixture
def lenient():
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32 and multiplies with it
        yield


@pytest.fixture
def presets(monkeypatch):
    monkeypatch.setitem(PRESETS, "vq", VQ)
    monkeypatch.setitem(PRESETS, "kl", KL)


def frames(count=6, seed=0):
    """Smooth fields, zero on the walls."""
    rng = np.random.default_rng(seed)
    x, y = 2 * np.pi * np.arange(NX) / NX, np.pi * np.arange(NY) / (NY - 1)
    waves = [np.cos(k * x[:, None] + rng.uniform(0, 6, (count, 1, 1))) * np.sin(k * y) for k in (1, 2)]
    return np.sum(waves, axis=0).astype(np.float16) * (np.arange(NY) % (NY - 1) > 0)


@functools.cache
def parameters(config):
    return functions(config).initial(0)


@pytest.mark.parametrize("config", [VQ, KL])
def test_frames_go_there_and_back(config, dtype):
    omega = jnp.asarray(frames(), dtype)
    network = functions(config)
    latent = network.encode(parameters(config), omega)
    assert latent.mean.shape == latent.log_variance.shape == (6, 4, 3, config.channels)
    back = network.decode(parameters(config), latent.mean)
    assert back.shape == omega.shape and latent.mean.dtype == back.dtype == dtype
    assert not np.any(back[:, :, [0, -1]]) and np.any(back[:, :, 1:-1])


@pytest.mark.parametrize("config", [VQ, dataclasses.replace(VQ, decay=0.9), KL])
def test_the_loss_is_the_sum_of_its_parts(config):
    omega, key = jnp.asarray(frames(), jnp.float32), jax.random.key(3)
    codes = jax.random.normal(jax.random.key(1), (12, 1), jnp.float32)
    loss, (metrics, z, numbers) = quick_jit(lambda *a: reconstruction_loss(config, *a))(
        parameters(config), codes, key, omega
    )
    latent = functions(config).encode(parameters(config), omega)
    np.testing.assert_allclose(z, latent.mean, rtol=1e-5, atol=1e-6)
    if config.codes:
        decoded, picked = reconstruct(config, parameters(config), codes, omega)
        np.testing.assert_array_equal(numbers, picked)
        penalty = ((z - codes[numbers]) ** 2).sum(-1).mean() * (config.commitment + (0 if config.decay else 1))
        assert metrics["used"] == len(np.unique(numbers)) / 12
    else:
        noise = jax.random.normal(key, z.shape, z.dtype)
        decoded = functions(config).decode(parameters(config), z + jnp.exp(latent.log_variance / 2) * noise)
        law = np.square(z) + np.exp(latent.log_variance) - latent.log_variance - 1
        penalty = config.divergence * law.sum(-1).mean() / 2
    off = np.abs(decoded - omega).mean()
    np.testing.assert_allclose(loss, off / config.field_scale + penalty, rtol=1e-5)
    np.testing.assert_allclose(metrics["relative_l1"], off / np.abs(omega).mean(), rtol=1e-5)


def test_codes_follow_by_averages_or_by_gradient(lenient):
    for decay in (0.0, 0.9):
        config = dataclasses.replace(VQ, decay=decay, least=0.0)
        state = initial_autoencoder(config, TRAIN)
        before = np.asarray(state.codebook.vectors)
        state, _ = make_autoencoder_step(config, TRAIN)(state, jnp.asarray(frames(), jnp.float32))
        state, _ = make_autoencoder_step(config, TRAIN)(state, jnp.asarray(frames(), jnp.float32))
        moved = np.abs(np.asarray(state.codebook.vectors) - before)
        assert moved.max() > 1e-4 and int(state.step) == 2
        if decay:
            np.testing.assert_allclose(
                state.codebook.vectors, state.codebook.sums / state.codebook.counts[:, None], rtol=1e-4
            )


@pytest.mark.parametrize("preset", ["vq", "kl"])
def test_a_few_frames_are_learned(tmp_path, monkeypatch, presets, lenient, preset):
    monkeypatch.setattr(loop, "LOG_EVERY", 60)
    training = dataclasses.replace(TRAIN, samples=480, learning_rate=1e-2)
    fitted = fit_autoencoder(tmp_path, preset, training, frames(16), frames(2, seed=9))
    errors = [row["relative_l1"] for row in fitted.milestones]
    assert errors[-1] < 0.5 * errors[0] and fitted.validation == fitted.milestones[-1]
    config = PRESETS[preset]
    assert fitted.codes.shape == (config.codes, config.channels)
    back, _ = reconstruct(config, fitted.params, jnp.asarray(fitted.codes), jnp.asarray(frames(2, seed=9), jnp.float32))
    off = np.abs(back - frames(2, seed=9)).sum() / np.abs(frames(2, seed=9)).sum(dtype=np.float32)
    assert off == pytest.approx(errors[-1], rel=1e-3)
    if config.codes:
        assert 1 / 12 <= fitted.validation["used"] <= 1 and 1 <= fitted.validation["perplexity"] <= 12


def test_a_stopped_fit_goes_on_to_the_same_end(tmp_path, monkeypatch, presets, lenient):
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(loop, "LOG_EVERY", 2)

    def stop(done, total, metrics):
        if done >= 12:
            raise KeyboardInterrupt

    def fit(folder, **options):
        return fit_autoencoder(folder, "vq", TRAIN, frames(), frames(2, seed=9), **options)

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "stopped", report=stop)
    seen = []
    resumed = fit(tmp_path / "stopped", report=lambda done, *_: seen.append(done))
    whole = fit(tmp_path / "whole")
    assert seen[0] == 12 and resumed.curve == whole.curve and resumed.milestones == whole.milestones
    np.testing.assert_array_equal(resumed.codes, whole.codes)
    with pytest.raises(ValueError, match="holds a checkpoint of other work"):
        fit_autoencoder(tmp_path / "whole", "kl", TRAIN, frames(), frames(2, seed=9))


def test_an_autoencoder_is_trained_once(tmp_path, monkeypatch, presets, lenient):
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path))
    monkeypatch.setattr(
        autoencoding, "training_runs", lambda testbed, level, runs: np.stack([frames(3, s) for s in range(runs)])
    )
    space, record = trained_space("kl", jet(), jet().analysis, 4, 1, TRAIN)
    assert record["frames"] == 9 and record["samples"] == 24 and space.codes.shape == (0, 2)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]  # no checkpoints are left
    again, _ = trained_space("kl", jet(), jet().analysis, 4, 1, TRAIN, lambda *_: pytest.fail("it was trained again"))
    jax.tree.map(np.testing.assert_array_equal, again, space)


def test_too_few_frames_are_refused(tmp_path, presets):
    with pytest.raises(ValueError, match="1 frames are less than a batch of 2; use more runs"):
        fit_autoencoder(tmp_path / "a", "kl", TRAIN, frames(1), frames(2))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change, message",
    [
        ({"channels": 0}, "channels: expected at least 1, got 0"),
        ({"codes": 1}, "codes: expected 2 or more, or 0 for a continuous latent, got 1"),
        ({"decay": 1.0}, "decay: expected a number from 0 to below 1, got 1.0"),
    ],
)
def test_bad_sizes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(VQ, **change)


def test_every_frame_comes_once_an_epoch():
    config = dataclasses.replace(TRAIN, batch=4, seed=3)
    epochs = [[batch_indices(config, 12, 3 * epoch + i) for i in range(3)] for epoch in range(2)]
    for epoch in epochs:
        assert sorted(np.concatenate(epoch)) == list(range(12))
    assert not np.array_equal(epochs[0], epochs[1])
    other = dataclasses.replace(config, seed=4)
    assert not np.array_equal(epochs[0][0], batch_indices(other, 12, 0))
    np.testing.assert_array_equal(epochs[1][2], batch_indices(config, 12, 5))
    # Where a batch does not divide the frames an epoch leaves some out, but repeats none.
    taken = np.concatenate([batch_indices(config, 14, i) for i in range(3)])
    assert len(set(taken)) == 12 and len(batch_indices(config, 14, 3)) == 4
