"""Derivatives through the cycle: `grad` agrees with finite differences for every method, in all that is traced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SENSORS, observed, quick_jit, setup, truth

from jaxsrda.cycling.assimilator import Setup
from jaxsrda.cycling.cycle import run_cycles, start
from jaxsrda.experiment.registry import METHODS, make_assimilator
from jaxsrda.filters.config import FilterConfig, FilterParams

FILTER_METHODS = [name for name, method in METHODS.items() if isinstance(method.config, FilterConfig)]
QUICK = ("enkf-sr", "letkf-sr")
VALUES = {
    "localization": 1.1,
    "inflation": 1.05,
    "adaptive": 0.3,
    "additive": 0.2,
    "initial": 0.4,
    "rtps": 0.4,
    "rtpp": 0.2,
    "representativeness": 0.05,
    "assumed_std": 0.3,
    "viscosity": 0.0,  # the level's own, which is differentiated in instead
}
CYCLES = 2


def run(method, inputs):
    """Every score and fit of two cycles, summed, as a function of a method's traced numbers, β, ν, and first state."""
    params, beta, viscosity, offset = inputs
    testbed = setup().testbed.vary({"hr": viscosity, "lr": 10 * viscosity}, beta=beta)
    config = FilterConfig(members=4)
    assimilator = make_assimilator(method, Setup(testbed, setup().climatology, SENSORS), config, params)
    carry = start(assimilator, jax.random.key(3), testbed.grid)
    carry = carry._replace(state=jax.tree.map(lambda a, b: a + b, carry.state, offset))
    carry, history = run_cycles(assimilator, jax.random.key(3), observed(CYCLES), truth(CYCLES), carry, testbed=testbed)
    rows = [*history.scores.values(), *(fit[k] for fit in history[1:3] for k in ("rmse", "chi2"))]
    return sum(row.mean() for row in rows) + carry.tally.variance


def inputs_of(method):
    """Numbers to differentiate in, and a direction; integers of a state stay as they are."""
    params = FilterParams(**{name: jnp.asarray(VALUES[name]) for name in FilterParams._fields})
    config = FilterConfig(members=4)
    made = make_assimilator(method, setup(), config, params)
    state = jax.eval_shape(made.init, jax.random.key(0))
    offset = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), state)
    inputs = (params, jnp.asarray(0.1), jnp.asarray(1e-4), offset)
    rng = np.random.default_rng(2)

    def along(leaf):
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype) if floating else jnp.zeros_like(leaf)

    direction = jax.tree.map(along, inputs)
    direction = (direction[0]._replace(viscosity=jnp.asarray(0.0)), *direction[1:])
    # Viscosity in units of its own size, amplitudes in those of a perturbation.
    sizes = (1.0, 1.0, 1e-4, 0.01)
    scaled = [jax.tree.map(lambda a: jnp.asarray(s, a.dtype) * a, d) for s, d in zip(sizes, direction)]  # noqa: B023
    return inputs, tuple(scaled)


@pytest.mark.parametrize(
    "method", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FILTER_METHODS]
)
def test_grad_is_the_finite_difference(method):
    inputs, direction = inputs_of(method)

    @quick_jit
    @jax.value_and_grad
    def along(step):
        return run(method, jax.tree.map(lambda a, d: a + step.astype(a.dtype) * d, inputs, direction))

    step = 1e-5
    slope, (ahead, _), (behind, _) = along(jnp.asarray(0.0))[1], along(jnp.asarray(step)), along(jnp.asarray(-step))
    difference = (ahead - behind) / (2 * step)
    assert jnp.isfinite(slope)
    np.testing.assert_allclose(slope, difference, rtol=2e-4, atol=1e-6)
    assert method == "climatology" or abs(slope) > 1e-3
