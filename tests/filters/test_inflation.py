"""An inflation that follows the departures: its formula, what it keeps, and that it finds the right spread."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import parameters, quick_jit

from jaxsrda.filters.config import FilterConfig
from jaxsrda.filters.inflation import BOUNDS, adapted
from jaxsrda.observing.observations import Observations

SENSORS, MEMBERS = 60, 7
VARIANCE = np.linspace(0.02, 0.3, SENSORS)
adapt = quick_jit(adapted)


def case(seed=0, error=1.0, masked=0):
    """Members of unit variance, and values whose departures have error² + R; masked ones hold huge numbers."""
    rng = np.random.default_rng(seed)
    predicted = rng.normal(size=(MEMBERS, SENSORS))
    departure = error * rng.normal(size=SENSORS) + np.sqrt(VARIANCE) * rng.normal(size=SENSORS)
    values, mask = predicted.mean(0) + departure, np.arange(SENSORS) >= masked
    values = np.where(mask, values, 1e6)
    places = jnp.zeros((SENSORS, 2))
    return jnp.asarray(predicted), Observations(jnp.asarray(values), places, jnp.asarray(mask), jnp.asarray(VARIANCE))


@pytest.mark.parametrize("masked", [0, 25])
@pytest.mark.parametrize("weight", [0.2, 0.9])
def test_the_factor_is_that_of_departures_covariances_and_noise(masked, weight):
    predicted, observations = case(error=1.4, masked=masked)
    params = parameters(adaptive=weight, representativeness=0.05)
    got = adapt(jnp.asarray(1.3), predicted, observations, params)
    seen = np.arange(SENSORS) >= masked
    covariance = np.cov(np.asarray(predicted)[:, seen].T)
    noise = np.diag(1 / (VARIANCE[seen] + 0.05))
    departure = (np.asarray(observations.values) - np.asarray(predicted).mean(0))[seen]
    estimate = 1.3**2 * (departure @ noise @ departure - seen.sum()) / np.trace(noise @ covariance)
    np.testing.assert_allclose(got, np.sqrt((1 - weight) * 1.3**2 + weight * estimate), rtol=1e-12)
    assert BOUNDS[0] < estimate < BOUNDS[1]


def test_a_weight_of_zero_and_silence_keep_it():
    predicted, observations = case(error=3.0)
    assert adapt(jnp.asarray(1.3), predicted, observations, parameters()) == pytest.approx(1.3, abs=1e-15)
    params = parameters(adaptive=0.5)
    silent = observations._replace(mask=jnp.zeros(SENSORS, bool))
    assert adapt(jnp.asarray(1.3), predicted, silent, params) == 1.3
    alike = jnp.zeros((MEMBERS, SENSORS))
    assert adapt(jnp.asarray(1.3), alike, observations, params) == 1.3
    slope = jax.grad(lambda w: adapted(jnp.asarray(1.3), alike, observations, params._replace(adaptive=w)))
    assert slope(jnp.asarray(0.5)) == 0


@pytest.mark.parametrize(("error", "bound"), [(0.0, BOUNDS[0]), (50.0, BOUNDS[1])])
def test_one_time_asks_for_no_more_than_the_bounds(error, bound):
    predicted, observations = case(error=error)
    got = adapt(jnp.asarray(1.0), predicted, observations, parameters(adaptive=0.5))
    np.testing.assert_allclose(got, np.sqrt(0.5 + 0.5 * bound), rtol=1e-12)


@pytest.mark.parametrize("error", [0.7, 1.0, 1.8])
def test_times_after_each_other_lead_to_the_spread_that_the_errors_have(error):
    """Members of unit variance around a mean whose error is `error`: λ ends there."""
    factor, last = jnp.asarray(1.0), []
    for seed in range(400):
        members, observations = case(seed, error)
        mean = members.mean(0, keepdims=True)
        factor = adapt(factor, mean + factor * (members - mean), observations, parameters(adaptive=0.05))
        last.append(float(factor))
    assert np.mean(last[100:]) == pytest.approx(error, rel=0.03)


def test_a_weight_that_is_none_is_refused():
    for weight in (1.5, -0.1, np.nan):
        with pytest.raises(ValueError, match="adaptive: expected a weight from 0 to 1, got"):
            FilterConfig(adaptive=weight)
    assert FilterConfig(adaptive=1.0).adaptive == 1
