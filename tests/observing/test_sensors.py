"""Sensors that guide: apart from those that are assimilated, through the whole experiment, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import COARSE, FINE, GRID, quick_jit, setup, truth
from jaxsrda.experiment.checks import check_guidance

from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.experiment.registry import CONFIGS
from jaxsrda.filters.config import FilterConfig, filter_params
from jaxsrda.filters.ensemble import ensemble_filter
from jaxsrda.observing import operators, sensors
from jaxsrda.observing.layouts import parse_layout
from jaxsrda.observing.observations import (
    Observations,
    check_observations,
    observation_key,
    predict,
    sees_vorticity,
    with_guides,
)
from jaxsrda.observing.operators import speed, vorticity
from jaxsrda.observing.sensors import Sensors, observe_truths

LATTICE = Sensors(parse_layout("lattice:8", GRID), vorticity, 0.1)
SPEEDS = Sensors(parse_layout("random-fixed:5", GRID), speed, 0.3)


def observed(guides=None):
    keys = jax.vmap(lambda number: observation_key(0, number))(jnp.arange(2, dtype=jnp.uint32))
    return observe_truths(keys, GRID, jnp.stack([truth(), truth(seed=1)]), LATTICE, guides)


def test_guides_stand_behind_the_others_and_change_nothing_of_them():
    alone, both = observed(), observed(SPEEDS)
    count = alone.values.shape[-1]
    assert both.values.shape == (2, 3, count + 5) and both.positions.shape == (2, 3, count + 5, 2)
    for name in ("values", "positions", "mask", "variance"):
        np.testing.assert_array_equal(getattr(both, name)[:, :, :count], getattr(alone, name))
    assert not both.mask[..., count:].any() and both.guides[..., count:].all() and not both.guides[..., :count].any()
    np.testing.assert_allclose(both.variance[..., count:], 0.09)
    fields = jnp.stack([truth(), truth(seed=1)])[:, ::4]
    exact = jax.vmap(jax.vmap(lambda field, at: speed(GRID, field, at)))(fields, both.positions[:, :, count:])
    off = both.values[..., count:] - exact
    assert 0.1 < np.sqrt(np.mean(off**2)) < 0.6


def test_guides_are_checked_like_sensors():
    ones = jax.tree.map(lambda a: np.array(a[0]), observed(SPEEDS))
    assert check_observations(ones).guides.sum() == 15
    spoilt = ones._replace(values=np.where(ones.guides, np.nan, ones.values))
    with pytest.raises(ValueError, match=r"observations\.values"):
        check_observations(spoilt)
    for variance in (0.0, -1.0):
        with pytest.raises(ValueError, match=r"observations\.variance: expected numbers above 0"):
            check_observations(ones._replace(variance=np.where(ones.guides, variance, ones.variance)))
    outside = np.where(ones.guides[..., None], 7.0, ones.positions)
    with pytest.raises(ValueError, match="positions"):
        check_observations(ones._replace(positions=outside))
    with pytest.raises(ValueError, match=r"observations\.guides"):
        check_observations(ones._replace(guides=ones.guides[:, :-1]))


def test_observations_join_with_any_leading_axes():
    one = jax.tree.map(lambda a: a[0, 0], observed())
    both = with_guides(one, one)
    assert both.values.shape == (2 * one.capacity,) and both.positions.shape == (2 * one.capacity, 2)


LAYOUT = parse_layout("lattice:4", GRID)
OWN = Observations(np.zeros((2, 1)), np.zeros((2, 1, 2)), np.ones((2, 1), bool), np.ones((2, 1)))


@pytest.mark.parametrize(
    "method, changes, guides, own, message",
    [
        ("enkf-sr", {}, LAYOUT, None, "guide_layout: enkf-sr is not guided; choose a guidance"),
        ("diffsrda", {}, LAYOUT, None, "guide_layout: diffsrda is not guided"),
        ("diffsrda", {"guidance": "mmps"}, LAYOUT, OWN, "guide_layout: with your own observations, mark those"),
        (
            "diffsrda",
            {"guidance": "mmps"},
            None,
            None,
            "guidance: mmps has no new sensors to follow; give a guide_layout",
        ),
        ("diffsrda", {"guidance": "mmps"}, None, OWN, "guidance: mmps has no new sensors"),
        (
            "enkf-sr",
            {},
            None,
            OWN._replace(guides=OWN.mask),
            r"observations\.guides: enkf-sr is not guided; choose a guidance, or guides_assimilated",
        ),
    ],
)
def test_guides_without_a_guidance_and_the_reverse_are_refused(method, changes, guides, own, message):
    with pytest.raises(ValueError, match=message):
        check_guidance(method, dataclasses.replace(CONFIGS[method], **changes), guides, own)


@pytest.mark.parametrize(
    "changes, guides, own, message",
    [
        ({"guidance": "mmps"}, LAYOUT, None, "guides_assimilated: sensors are assimilated or they guide, got .* mmps"),
        ({}, None, None, "guides_assimilated: there are no further sensors; give a guide_layout"),
        ({}, None, OWN, "guides_assimilated: there are no further sensors"),
        ({}, LAYOUT, OWN, "guide_layout: with your own observations, mark those"),
    ],
)
def test_a_second_set_is_there_and_used_once(changes, guides, own, message):
    config = dataclasses.replace(CONFIGS["diffsrda"], **changes)
    with pytest.raises(ValueError, match=message):
        check_guidance("diffsrda", config, guides, own, assimilated=True)
    check_guidance("enkf-sr", CONFIGS["enkf-sr"], LAYOUT, None, assimilated=True)


def test_options_of_guides_need_guides():
    config = dataclasses.replace(CONFIGS["diffsrda"], guidance="oi", guide_on="all")
    with pytest.raises(ValueError, match="guide_std: there are no further sensors that it could be of"):
        check_guidance("diffsrda", config, None, OWN, guide_measure=None, guide_std=0.2)
    check_guidance("diffsrda", config, LAYOUT, None, guide_measure="speed", guide_std=0.2)


@pytest.mark.parametrize(
    "operator, message",
    [
        (lambda grid, omega, positions: omega, r"measure: expected one value a sensor, \(3,\), got shape \(32, 17\)"),
        (
            lambda grid, omega, positions: jnp.log(vorticity(grid, omega, positions) - 9),
            "measure: expected finite values",
        ),
        (
            lambda grid, omega, positions: jnp.sqrt(0 * vorticity(grid, omega, positions)),
            "expected finite values and deriv",
        ),
        (lambda grid, omega, positions: np.asarray(omega)[:3, 3], "measure: expected a differentiable function"),
        (lambda omega: omega, "measure: expected a differentiable function"),
        (
            lambda grid, omega, positions: omega[:3, 10],
            r"measure: expected one value a sensor, \(2,\), got shape \(3,\)",
        ),
        (
            lambda grid, omega, positions: jnp.round(vorticity(grid, omega, positions)),
            "measure: its derivative is zero everywhere",
        ),
        (
            lambda grid, omega, positions: jax.lax.stop_gradient(vorticity(grid, omega, positions)),
            "measure: its derivative is zero everywhere",
        ),
        (
            lambda grid, omega, positions: jnp.log(vorticity(grid, omega, positions) + 5),
            "measure: expected finite values and derivatives on a smooth field of vorticity up to",
        ),
    ],
)
def test_operators_that_cannot_guide_are_refused(operator, message):
    with pytest.raises(ValueError, match=message):
        operators.check_operator("measure", operator, GRID, differentiable=True)


@pytest.mark.parametrize("shape", [jnp.arctan, lambda w: jnp.log1p(w * w), lambda w: jax.nn.relu(w - 2)])
def test_nonlinear_operators_of_the_users_own_will_do(shape):
    operators.check_operator(
        "measure", lambda grid, omega, positions: shape(vorticity(grid, omega, positions)), GRID, True
    )


def test_a_method_without_guidance_needs_no_derivative():
    def rounded(grid, omega, positions):
        zero = jax.ShapeDtypeStruct((len(positions),), omega.dtype)
        return jax.pure_callback(lambda w: np.round(np.asarray(w)), zero, vorticity(grid, omega, positions))

    operators.check_operator("measure", rounded, GRID, differentiable=False)
    with pytest.raises(ValueError, match="measure: expected a function"):
        operators.check_operator("measure", lambda grid, omega, at: (omega, at), GRID, differentiable=False)
    with pytest.raises(ValueError, match="measure: expected a differentiable function"):
        operators.check_operator("measure", rounded, GRID, differentiable=True)


def test_observations_of_the_truth_have_to_be_finite():
    seen = observed(SPEEDS)
    sensors.check_values(seen._replace(values=jnp.where(seen.mask | seen.guides, seen.values, jnp.nan)))
    with pytest.raises(ValueError, match=r"measure, guide_measure: 30 of .* observations of the truth are NaN or inf"):
        sensors.check_values(seen._replace(values=jnp.where(seen.guides, jnp.inf, seen.values)))


def test_each_set_keeps_its_operator_from_the_others_places():
    """An operator without a derivative there spoils no gradient."""
    both = jax.tree.map(lambda a: a[0, 1], observed(SPEEDS))
    field, count = truth()[4], len(both.values) - 5

    def depth(grid, omega, positions):  # finite at the guides alone
        far = jnp.abs(positions[:, None] - both.positions[count:]).sum(-1).min(1) > 1e-12
        return vorticity(grid, omega, positions) + jnp.sqrt(jnp.where(far, 0.0, 1.0) + 0 * omega[0, 0])

    def total(omega):
        return predict(GRID, omega, both, vorticity, depth).sum()

    assert jnp.isnan(jax.grad(lambda omega: depth(GRID, omega, both.positions).sum())(field)).any()
    assert jnp.isfinite(jax.grad(total)(field)).all()


def test_each_set_is_seen_through_its_own_operator():
    both = jax.tree.map(lambda a: a[0, 1], observed(SPEEDS))
    field, count = truth()[4], len(both.values) - 5
    got = predict(GRID, field, both, vorticity, speed)
    np.testing.assert_array_equal(got[:count], vorticity(GRID, field, both.positions[:count]))
    np.testing.assert_array_equal(got[count:], speed(GRID, field, both.positions[count:]))
    np.testing.assert_array_equal(predict(GRID, field, both, vorticity, None), vorticity(GRID, field, both.positions))
    first, second = (np.asarray(sees_vorticity(both, *pair)) for pair in ((vorticity, speed), (speed, vorticity)))
    assert first[:count].all() and not first[count:].any() and (second == ~first).all()
    assert sees_vorticity(both, vorticity, None).all() and not sees_vorticity(both, speed, None).any()


@pytest.mark.parametrize("analysis, level", [("enkf", FINE), ("letkf", COARSE)])
def test_sets_that_measure_different_things_are_assimilated_together(analysis, level):
    """As by one operator that knows which slots measure what."""
    both = sensors.assimilated(jax.tree.map(lambda a: a[0, 0], observed(SPEEDS)))
    count = len(both.values) - 5
    assert both.mask[count:].all()

    def concatenated(grid, omega, positions):
        return jnp.concatenate([vorticity(grid, omega, positions[:count]), speed(grid, omega, positions[count:])])

    def analysed(where, observations):
        params = filter_params(FilterConfig(members=4, localization=1.0))
        assimilator = ensemble_filter(where, analysis, level, 4, params)
        state = quick_jit(assimilator.init)(jax.random.key(0))
        return quick_jit(assimilator.step)(jax.random.key(1), state, observations)[1].omega[:, 0]

    wanted = analysed(setup()._replace(operator=concatenated), both._replace(guides=None))
    got = analysed(setup()._replace(guide_operator=speed), both)
    np.testing.assert_allclose(got, wanted, atol=1e-10)
    alone = analysed(setup(), both._replace(mask=both.mask & ~both.guides))
    assert abs(got - alone).max() > 0.01


def test_the_ensemble_score_filter_refuses_other_operators_in_either_set():
    params = filter_params(FilterConfig(members=4))
    for where in (setup()._replace(operator=speed), setup()._replace(guide_operator=speed)):
        with pytest.raises(ValueError, match="ensf: its likelihood acts on vorticity"):
            ensemble_filter(where, "ensf", FINE, 4, params)


def test_the_second_set_is_verified_by_its_own_operator():
    both = sensors.assimilated(observed(SPEEDS))
    fields = jnp.stack([truth(), truth(seed=1)])[:, ::4]
    used, withheld = sensors.split(both, jax.random.split(jax.random.key(0), 2), 0.5)
    assert withheld.mask[both.guides].any() and not (used.guides & withheld.mask).any()
    assert ((used.mask | withheld.mask) == both.mask).all()
    misfit = sensors.misfit(GRID, both._replace(mask=both.guides), fields, vorticity, speed)
    assert ((0.15 < misfit) & (misfit < 0.5)).all()  # the truth, off by the noise of std 0.3 at ten sensors


def test_what_is_allowed_is():
    guided = DiffSRDAConfig(guidance="mmps")
    check_guidance("diffsrda", guided, LAYOUT, None)
    check_guidance("diffsrda", dataclasses.replace(guided, guide_on="all"), None, None)
    check_guidance("diffsrda", guided, None, OWN._replace(guides=np.ones((2, 1), bool)))
    check_guidance("enkf-sr", CONFIGS["enkf-sr"], None, None)


def test_withheld_sensors_are_not_those_that_guide():
    both = observed(SPEEDS)
    keys = jax.random.split(jax.random.key(0), 2)
    used, withheld = sensors.split(both, keys, 0.5)
    assert (used.guides == both.guides).all() and not (withheld.mask & both.guides).any()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"guidance": "magic"}, "guidance: expected one of none, blend, lifted"),
        ({"guide_on": "some"}, "guide_on: expected one of new, all; got 'some'"),
        ({"blur": (1.0,)}, r"blur: expected two widths, at the first and the last level, got \(1.0,\)"),
        ({"blur": (2.0, 0.0)}, "blur: expected a finite number above 0, got 0.0"),
        ({"hard_steps": 1}, "blur, hard_steps: these are options of guidance blend, got none"),
        ({"guidance": "oi", "blur": (4.0, 1.0)}, "blur, hard_steps: these are options of guidance blend, got oi"),
        ({"hard_steps": 5}, "hard_steps: expected 0 to as many as there are steps, 4, got 5"),
        ({"strength": 0.0}, "strength: expected a finite number above 0, got 0.0"),
    ],
)
def test_bad_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DiffSRDAConfig(**changes)
