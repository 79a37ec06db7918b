"""Vector quantization: nearest codes, the gradient straight through, running averages against a loop, dead codes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrda.networks.codebook import (
    Codebook,
    codebook_losses,
    counted,
    first_codebook,
    follow,
    nearest,
    quantize,
    restart_dead,
    tallied,
    usage,
)


def normal(*shape, dtype="float32", seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


@pytest.mark.parametrize("codes, channels", [(2, 1), (37, 1), (500, 1), (37, 3)])
def test_the_nearest_code_is_that_of_all_comparisons(codes, channels, dtype):
    vectors, z = normal(codes, channels, dtype=dtype), 1.5 * normal(4, 25, channels, dtype=dtype, seed=1)
    apart = ((np.asarray(z, np.float64)[..., None, :] - np.asarray(vectors, np.float64)) ** 2).sum(-1)
    got = nearest(vectors, z)
    assert got.shape == (4, 25) and got.dtype == "int32" and len(np.unique(got)) > min(codes, 9) / 2
    chosen = np.take_along_axis(apart, np.asarray(got)[..., None], -1)[..., 0]
    np.testing.assert_allclose(chosen, apart.min(-1), atol=1e-5 if dtype == "float32" else 1e-12)


def test_a_code_is_nearest_to_itself_whatever_the_order():
    vectors = normal(64, 1)
    np.testing.assert_array_equal(nearest(vectors, vectors), np.arange(64))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_gradient_passes_straight_through(channels):
    vectors, z, weights = normal(9, channels), normal(5, channels, seed=1), normal(5, channels, seed=2)
    quantized, numbers = quantize(vectors, z)
    np.testing.assert_allclose(quantized, vectors[numbers], atol=1e-6)
    to_z = jax.grad(lambda z: (weights * jnp.tanh(quantize(vectors, z)[0])).sum())(z)
    np.testing.assert_allclose(to_z, weights / jnp.cosh(quantized) ** 2, rtol=1e-5)
    to_codes = jax.grad(lambda vectors: (weights * quantize(vectors, z)[0]).sum())(vectors)
    assert not np.any(to_codes)


def test_losses_move_codes_and_encoder_apart():
    vectors, z = normal(4, 2), normal(6, 2, seed=1)
    numbers = nearest(vectors, z)
    moved, committed = codebook_losses(vectors, z, numbers)
    expected = ((np.asarray(z) - np.asarray(vectors)[numbers]) ** 2).sum(-1).mean()
    np.testing.assert_allclose([moved, committed], expected, rtol=1e-6)
    both = jax.jacobian(lambda vectors, z: jnp.stack(codebook_losses(vectors, z, numbers)), (0, 1))(vectors, z)
    assert np.any(both[0][0]) and not np.any(both[0][1])  # the first moves codes alone
    assert not np.any(both[1][0]) and np.any(both[1][1])  # the second the encoder alone


def test_running_averages_are_those_of_a_loop():
    codes, decay = 6, 0.8
    codebook = first_codebook(jax.random.key(0), codes, 2)
    vectors, counts, sums = (np.array(a, np.float64) for a in codebook)
    for batch in range(4):
        z = normal(3, 7, 2, seed=batch)
        numbers = nearest(codebook.vectors, z)
        codebook = follow(counted(codebook, z, numbers, decay))
        for code in range(codes):
            chosen = [v for v, n in zip(np.asarray(z).reshape(-1, 2), np.asarray(numbers).ravel()) if n == code]
            counts[code] = decay * counts[code] + (1 - decay) * len(chosen)
            sums[code] = decay * sums[code] + (1 - decay) * np.sum(chosen, axis=0, initial=0.0, dtype=float)
            vectors[code] = sums[code] / counts[code]
        np.testing.assert_allclose(codebook.counts, counts, rtol=1e-5)
        np.testing.assert_allclose(codebook.vectors, vectors, rtol=1e-4, atol=1e-5)


def test_a_code_that_nothing_ever_chose_stays():
    codebook = Codebook(normal(3, 1), jnp.array([0.0, 2.0, 1e-6], jnp.float32), normal(3, 1, seed=1))
    moved = follow(codebook)
    np.testing.assert_array_equal(moved.vectors[jnp.array([0, 2])], codebook.vectors[jnp.array([0, 2])])
    np.testing.assert_allclose(moved.vectors[1], codebook.sums[1] / 2)


def test_dead_codes_start_again_from_the_batch():
    counts = jnp.array([0.001, 1.0, 0.02, 5.0], jnp.float32)
    codebook = Codebook(10 + normal(4, 2), counts, 10 + normal(4, 2, seed=1))
    z = normal(5, 3, 2, seed=2)
    fresh = restart_dead(codebook, jax.random.key(0), z, 0.03)
    rows = {tuple(row) for row in np.asarray(z).reshape(-1, 2).tolist()}
    for code, dead in enumerate([True, False, True, False]):
        assert (tuple(np.asarray(fresh.vectors[code]).tolist()) in rows) == dead
        assert (fresh.vectors[code] == codebook.vectors[code]).all() != dead
    np.testing.assert_array_equal(fresh.counts, jnp.array([1.0, 1.0, 1.0, 5.0], jnp.float32))
    np.testing.assert_array_equal(follow(fresh).vectors[0], fresh.vectors[0])


def test_usage_counts_codes():
    share, perplexity = usage(tallied(jnp.array([[0, 1], [1, 0]]), 8))
    np.testing.assert_allclose([share, perplexity], [0.25, 2.0], rtol=1e-6)
    share, perplexity = usage(tallied(jnp.arange(8), 8))
    np.testing.assert_allclose([share, perplexity], [1.0, 8.0], rtol=1e-6)
    np.testing.assert_allclose(
        usage(tallied(jnp.array([3, 3, 3, 1]), 4))[1], np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))
    )
