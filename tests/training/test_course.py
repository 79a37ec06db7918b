"""The learning rate on the way, the direction of steps, and averages of weights by relative length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrda.training import course


def test_the_rate_warms_up_stays_and_cools_down():
    def rate(fraction, step):
        return float(course.learning_rate(2.0, fraction, step, warmup=10, cooling=0.25))

    rates = [rate(0, 0), rate(0, 4), rate(0, 9), rate(0.5, 100), rate(0.75, 100)]
    np.testing.assert_allclose(rates, [0.2, 1.0, 2.0, 2.0, 2.0], rtol=1e-6)
    # A quarter of the cool-down leaves 1 − √¼.
    np.testing.assert_allclose(rate(0.8125, 100), 1.0, rtol=1e-6)
    assert rate(1, 100) == 0
    assert course.learning_rate(2.0, 1.0, 100, 10, 0.0) == 2.0


@pytest.mark.parametrize("length", [0.03, 0.1, 0.25])
def test_an_average_has_the_relative_length_asked_for(length):
    # The average of t itself and of t² give mean and deviation of the weights that steps have.
    steps = 4000
    mean = square = 0.0
    for step in range(steps):
        old = float(course.keep(jnp.int32(step), length))
        mean, square = old * mean + (1 - old) * (step + 1), old * square + (1 - old) * (step + 1) ** 2
    np.testing.assert_allclose(np.sqrt(square - mean**2) / steps, length, rtol=0.02)


def test_an_average_starts_with_the_first_weights():
    assert course.keep(jnp.int32(0), 0.1) == 0


@pytest.mark.parametrize("length", [0.0, 0.3, 1.0])
def test_lengths_beyond_those_of_powers_are_refused(length):
    with pytest.raises(ValueError, match="average length: expected"):
        course.exponent(length)


def directions(params, *gradients, clip=1.0, weight_decay=0.0):
    """What `direction` makes of the last of several gradients."""
    rule = course.direction(clip, weight_decay)
    with jax.numpy_dtype_promotion("standard"):  # optax counts in int32 and multiplies with it
        moments = rule.init(params)
        for gradient in gradients:
            found, moments = rule.update(gradient, moments, params)
    return found


def test_a_direction_is_adams_of_clipped_gradients():
    """A first gradient of norm 5, clipped to 1, and a second one that is short enough."""
    params, one, two = (jnp.asarray(a) for a in ([0.0, 0.0], [3.0, 4.0], [0.3, -0.1]))
    found = directions(params, one, two)
    mean = (0.9 * 0.1 * one / 5 + 0.1 * two) / (1 - 0.9**2)
    square = (0.99 * 0.01 * (one / 5) ** 2 + 0.01 * two**2) / (1 - 0.99**2)
    np.testing.assert_allclose(found, mean / np.sqrt(square), rtol=1e-5)


def test_matrices_decay_and_biases_do_not():
    params = {"matrix": jnp.full((2, 2), 3.0), "bias": jnp.full(2, 3.0)}
    found = directions(params, jax.tree.map(jnp.zeros_like, params), weight_decay=0.1)
    np.testing.assert_allclose(found["matrix"], 0.3)
    np.testing.assert_allclose(found["bias"], 0)
