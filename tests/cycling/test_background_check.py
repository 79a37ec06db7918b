"""The background check: what it rejects, and that a method then is the method without what was rejected."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID, TESTBED, observed, parameters, quick_jit, setup
from jax.interpreters.partial_eval import dce_jaxpr

from jaxsrda.cycling.background_check import background_checked, far_off
from jaxsrda.cycling.cycle import run_cycles
from jaxsrda.diffsrda.condition import Conditioning
from jaxsrda.diffsrda.prior import dual_prior, lr_prior
from jaxsrda.diffsrda.step import Draw, diffsrda
from jaxsrda.experiment.registry import METHODS, make_assimilator
from jaxsrda.filters.config import FILTERS, FilterConfig
from jaxsrda.observing.observations import Observations

KEY, CYCLES = jax.random.key(3), 2
CONFIG = FilterConfig(members=3, localization=1.0)
ASSIMILATING = [name for name in FILTERS if METHODS[name].assimilates]


def test_departures_are_compared_with_background_and_noise():
    """√(diag HPHᵀ + R) is √(4 + 5) = 3, where the members −2, 0, 2 stand around 0 and R is 5."""
    predicted = jnp.array([-2.0, 0.0, 2.0])[:, None] + jnp.array([0.0, 0.0, 0.0, 10.0, 0.0])
    values = jnp.array([5.9, -6.1, 6.1, 4.1, 100.0])
    mask = jnp.array([True, True, True, True, False])
    seen = Observations(values, jnp.ones((5, 2)), mask, jnp.full(5, 5.0))
    assert far_off(seen, predicted, 2.0).tolist() == [False, True, True, False, False]
    assert far_off(seen, predicted, 1.9).tolist() == [True, True, True, True, False]


def method(name):
    """A filter, or diffusion models whose fake draws add what the condition and the observations say."""
    where = setup()
    if name in FILTERS:
        return make_assimilator(name, where, CONFIG)
    prior = dual_prior(where, 3, parameters()) if name == "dual" else lr_prior(where, 3 if name == "lr" else 1)

    def draw(key, conditions, observations):
        told = conditions[jnp.arange(3) % len(conditions)].sum(-1)[:, None]
        heard = jnp.where(observations.mask, observations.values, 0).sum()
        waves = jnp.cos(jnp.asarray(GRID.x))[:, None] * jnp.sin(jnp.asarray(GRID.y))
        return jnp.repeat(0.1 * told + 0.01 * heard * waves, TESTBED.window, axis=1)

    restart = "first" if name == "one" else "each" if name == "lr" else "mean"
    return diffsrda(where, prior, Draw(draw, Conditioning.of(TESTBED), 3), 3, restart)


def spoiled():
    """Observations with one gross error at each time, and the same with these masked."""
    seen, times = observed(CYCLES), jnp.arange(CYCLES)
    at = jnp.argmax(seen.mask, axis=1)
    masked = seen._replace(mask=seen.mask.at[times, at].set(False))
    return seen._replace(values=seen.values.at[times, at].add(3000.0)), masked


@quick_jit
def checked_run(observations, threshold):
    return run_cycles(background_checked(method("persistence"), threshold), KEY, observations, testbed=TESTBED)[1]


def test_the_threshold_is_traced_and_rejections_are_counted():
    seen, _ = spoiled()
    assert [checked_run(seen, threshold).rejected.tolist() for threshold in (100.0, 1e9)] == [[1, 1], [0, 0]]
    assert checked_run._cache_size() == 1
    everything = seen._replace(values=seen.values + 3000.0)
    history = checked_run(everything, 1.0)
    assert history.rejected.tolist() == seen.mask.sum(1).tolist() and history.finite.all()
    assert history.fit_background["count"].tolist() == [0, 0]


@pytest.mark.parametrize("name", ["enkf-sr", "dual", "lr"])
def test_a_gross_error_is_as_if_it_were_not_there(name):
    made = method(name)

    @quick_jit
    def checked(observations, threshold):
        return run_cycles(background_checked(made, threshold), KEY, observations, keep="members", testbed=TESTBED)[1]

    plain = quick_jit(lambda seen: run_cycles(made, KEY, seen, keep="members", testbed=TESTBED)[1])
    seen, masked = spoiled()
    got, wanted = checked(seen, 100.0), plain(masked)
    assert got.rejected.tolist() == [1] * CYCLES and wanted.rejected is None
    assert got.fit_background["count"].tolist() == wanted.fit_background["count"].tolist()
    np.testing.assert_allclose(got.fields.members, wanted.fields.members, rtol=1e-9, atol=1e-10)
    # A threshold that nothing exceeds leaves everything as it is, here off, or lost.
    first = 0, slice(None), 0
    loose, without = checked(seen, 1e9), plain(seen)
    assert not abs(without.fields.members[first] - wanted.fields.members[first]).max() < 1
    np.testing.assert_allclose(loose.fields.members, without.fields.members, rtol=1e-9, atol=1e-10)


def test_one_forecast_has_no_spread():
    with pytest.raises(ValueError, match="reject: one forecast has no spread that departures could be compared with"):
        checked = background_checked(method("one"), 5.0)
        jax.eval_shape(lambda seen: run_cycles(checked, KEY, seen, testbed=TESTBED), observed(CYCLES))


@pytest.mark.parametrize("name", [*ASSIMILATING, "dual", "lr"])
def test_no_background_depends_on_the_observations_of_its_time(name):
    """What the check relies on, by the program that is traced; analyses do depend on them."""
    made, seen = method(name), jax.tree.map(lambda a: a[0], observed(CYCLES))

    def step(values, mask):
        state = made.init(KEY)
        diagnostics = made.step(KEY, state, seen._replace(values=values, mask=mask))[1].diagnostics
        return diagnostics.background_observed, diagnostics.analysis_observed

    traced = jax.make_jaxpr(step)(seen.values, seen.mask).jaxpr
    for outputs, used in (([True, False], [False, False]), ([False, True], [True, True])):
        assert dce_jaxpr(traced, outputs)[1] == used
