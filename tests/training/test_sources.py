"""Windows made on the device: sensors padded to one program, and the same windows as a single run's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID, TESTBED, quick_jit, setup, truth

from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.model import Model, ModelConfig, network
from jaxsrda.diffsrda.prior import make_prior
from jaxsrda.diffsrda.sampling import mean_draw
from jaxsrda.flow.testbed import Testbed
from jaxsrda.observing.layouts import parse_layout
from jaxsrda.observing.observations import observe_run, padded
from jaxsrda.training import sources
from jaxsrda.training.sources import Policy, Sensing, cycled, forecasts, observe_runs, of_policy
from jaxsrda.training.truths import training_runs
from jaxsrda.training.windows import forecast_windows, observed_windows

MODEL = ModelConfig.of(TESTBED, network="tiny", priors=("enkf-sr",))
MIXED = Sensing(("lattice:4", "random-moving:6"), (1, 1))


def truths():
    """Two truths (2, 9, nx, ny): two cycles, and the frame after them."""
    return jnp.stack([truth(3, "float32", seed)[:9] for seed in (0, 1)])


def policy():
    return Policy(network(MODEL).initial(0), jnp.full(MODEL.frames, 0.3))


def test_truths_are_those_of_the_training_runs():
    testbed: Testbed = dataclasses.replace(TESTBED, frames=3)
    program = quick_jit(sources.truth_program(testbed, testbed.truth, 4))
    made = sources.make_truths(program, 3, 2)
    assert made.shape == (3, 4, *GRID.shape)
    np.testing.assert_allclose(made, training_runs(testbed, testbed.truth, 3, 4), atol=2e-3)


def test_truths_that_are_lost_are_left_out():
    def program(seeds):
        fields = jnp.broadcast_to((seeds % 100).astype(float)[:, None, None, None], (len(seeds), 2, 3, 3))
        return jnp.where(fields == 1, jnp.nan, fields)

    assert sources.make_truths(program, 4, 2)[:, 0, 0, 0].tolist() == [0, 2, 3]


def test_padding_adds_masked_slots_only():
    layout = parse_layout("random-moving:6", GRID)
    plain = observe_run(jax.random.key(0), GRID, layout, truth(3, "float32"), 4)
    more = padded(plain, 9)
    assert more.capacity == 9 and not more.mask[:, 6:].any()
    for before, after in zip(plain[:4], more[:4], strict=True):
        np.testing.assert_array_equal(before, after[:, :6])


def test_runs_have_their_share_of_each_layout():
    assert Sensing(("a", "b"), (3, 1)).parts(8) == [("a", slice(0, 6)), ("b", slice(6, 8))]
    with pytest.raises(ValueError, match="expected runs in multiples of 4, got 6"):
        Sensing(("a", "b"), (3, 1)).parts(6)
    for wrong in ({"shares": (1, 2)}, {"shares": (0,)}):
        with pytest.raises(ValueError, match="expected a share of 1 or more for each layout"):
            Sensing(**wrong)
    with pytest.raises(ValueError, match="noise_range: expected two numbers above 0 in order"):
        Sensing(noise_range=(0.5, 0.1))
    seen = observe_runs(jax.random.key(0), setup("float32"), MIXED, truths())
    lattice, random = (parse_layout(name, GRID).capacity for name in MIXED.layouts)
    assert seen.values.shape == (2, 2, max(lattice, random))
    assert seen.mask[0].sum() == 2 * lattice and seen.mask[1].sum() == 2 * random


def test_half_of_the_runs_have_noise_of_the_range():
    many = jnp.repeat(truths()[:1], 64, axis=0)
    sensing = Sensing(("random-moving:6",), (1,), 0.1, (0.2, 0.4))
    deviation = np.sqrt(observe_runs(jax.random.key(0), setup("float32"), sensing, many).variance[:, 0, 0])
    other = deviation > 0.11
    assert 20 < other.sum() < 44
    assert (deviation[other] >= 0.199).all() and (deviation[other] <= 0.401).all()
    np.testing.assert_allclose(deviation[~other], 0.1, rtol=1e-6)
    # Log-uniform: half of them on either side of √(0.2 · 0.4), to three standard errors.
    np.testing.assert_allclose(np.log(deviation[other]).mean(), np.log(0.2 * 0.4) / 2, atol=0.11)


def test_windows_are_those_of_each_run_alone():
    here, key = setup("float32"), jax.random.key(3)
    made = quick_jit(cycled(here, MODEL, "enkf-sr", MIXED, 4))(key, truths(), policy())
    assert made.condition.shape == (2, *GRID.shape, MODEL.channels)  # the first of two cycles is left out
    sensor_key, run_key = jax.random.split(key)
    seen = observe_runs(sensor_key, here, MIXED, truths())
    prior = make_prior(here, DiffSRDAConfig(prior="enkf-sr", members=4))
    draw = mean_draw(Model(MODEL, policy().params, np.asarray(policy().scale)))
    keys = tuple(jax.random.split(jax.random.split(run_key, 2)[1]))
    one = jax.tree.map(lambda a: a[1], seen)
    alone = quick_jit(lambda: observed_windows(here, prior, keys, truths()[1], one, draw, "open"))()
    for a, b in zip(made, alone, strict=True):
        np.testing.assert_allclose(a[1].astype(float), b[1, 0].astype(float), atol=4e-3)


def test_a_run_that_was_lost_is_replaced():
    broken = truths().at[0].set(jnp.nan)
    made = quick_jit(cycled(setup("float32"), MODEL, "enkf-sr", Sensing(("lattice:4",)), 4))(
        jax.random.key(0), broken, policy()
    )
    assert jnp.isfinite(made.condition).all()
    np.testing.assert_array_equal(made.correction[0], made.correction[1])


def test_forecast_windows_need_no_policy():
    here = setup("float32")
    longer = jnp.stack([truth(4, "float32", seed) for seed in (0, 1)])
    made = quick_jit(forecasts(here, MODEL, MIXED, "clean"))(jax.random.key(0), longer, policy())
    sensor_key, start_key = jax.random.split(jax.random.key(0))
    seen = observe_runs(sensor_key, here, MIXED, longer)
    wanted = quick_jit(lambda: forecast_windows(here, seen, start_key, longer, "clean"))()
    times = len(wanted.condition)
    assert made.condition.shape[0] == 2 * times
    for run in range(2):  # one after the other
        np.testing.assert_array_equal(made.condition[run * times : (run + 1) * times], wanted.condition[:, run])


def test_a_prior_left_alone_hears_no_model():
    make = quick_jit(cycled(setup("float32"), MODEL, "enkf-sr", Sensing(("lattice:4",)), 4, looped=False))
    other = Policy(jax.tree.map(lambda a: a + 1, policy().params), policy().scale)
    one, two = (make(jax.random.key(0), truths(), each) for each in (policy(), other))
    np.testing.assert_array_equal(one.condition, two.condition)


def test_a_policy_of_its_own_takes_the_place_of_the_one_given():
    made = of_policy(lambda key, truths, policy: (key, truths, policy), policy())
    assert made("key", "truths", "another")[2].scale is not None and made("key", "truths", "another")[:2] == (
        "key",
        "truths",
    )


def test_cycling_goes_on_from_the_policys_mean():
    """Another policy gives other guesses at later times, by the scale of its corrections."""
    here = setup("float32")
    make = quick_jit(cycled(here, MODEL, "carried", Sensing(("lattice:4",)), 1))
    leaves, tree = jax.tree.flatten(policy().params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    params = jax.tree.unflatten(
        tree, [a + 0.05 * jax.random.normal(key, a.shape, a.dtype) for key, a in zip(keys, leaves)]
    )
    guesses = []
    for scale in (0.0, 1e-3, 0.3):
        made = make(jax.random.key(0), truths(), Policy(params, jnp.full(MODEL.frames, scale)))
        guesses.append(np.asarray(made.condition[..., : MODEL.frames], float))
    small, large = (np.abs(guess - guesses[0]).max() for guess in guesses[1:])
    assert large > 0.02 and small < 0.1 * large, (small, large)
