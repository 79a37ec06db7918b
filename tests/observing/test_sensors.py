"""Sets of sensors: what each measures, apart from the others; which guide, which are assimilated; what is refused."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID, TESTBED, quick_jit, setup, states, truth

from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffusion.guidance import OI, Blend, guide
from jaxsrda.experiment.experiment import Experiment, from_options
from jaxsrda.filters.config import FilterConfig, filter_params
from jaxsrda.filters.ensemble import EnsembleState, ensemble_filter
from jaxsrda.flow.grid import regrid_hat
from jaxsrda.observing import operators, sensors
from jaxsrda.observing.layouts import at_positions, parse_layout
from jaxsrda.observing.observations import Observations, check_observations, join, observation_key, observe_run
from jaxsrda.observing.operators import speed, vorticity
from jaxsrda.observing.sensors import Sensors, observe_truths, predict

LATTICE = Sensors("lattice:8")
SPEEDS = Sensors("random-fixed:5", "speed", 0.3, "guiding")
TOGETHER = (LATTICE, dataclasses.replace(SPEEDS, role="assimilated"))
KEYS = jax.vmap(lambda number: observation_key(0, number))(jnp.arange(2, dtype=jnp.uint32))


@functools.cache
def truths():
    return jnp.stack([truth(), truth(seed=1)])


@functools.cache
def observed(*sets):
    return quick_jit(lambda frames: observe_truths(KEYS, GRID, frames, sets or (LATTICE,), 4))(truths())


def one_of(observations, *index):
    return jax.tree.map(lambda a: a[index], observations)


# What a set is


@pytest.mark.parametrize(
    "options, message",
    [
        ({"role": "guide"}, "role: expected one of assimilated, guiding; got 'guide'"),
        ({"noise_std": 0.0}, r"noise_std: expected a finite number above 0, got 0\.0"),
        ({"noise_std": -1}, "noise_std: expected a finite number above 0, got -1"),
        ({"noise_std": [0.1, 0.0]}, r"noise_std: expected a finite number above 0, got 0\.0"),
        ({"noise_std": [[0.1]]}, "noise_std: expected 1 dimensions .*; one number, or one for each sensor"),
        ({"operator": "vortcity"}, r"operator: expected one of .*got 'vortcity'; did you mean 'vorticity'"),
    ],
)
def test_bad_sets_raise(options, message):
    with pytest.raises(ValueError, match=message):
        Sensors(**options)
    with pytest.raises(ValueError, match="layout: expected one of lattice"):
        Sensors("latice:8").placed(GRID)


def test_names_and_functions_mean_the_same():
    assert Sensors(operator="speed").measure is speed and Sensors(operator=speed).measure is speed
    assert Sensors(operator="speed").operator_name == Sensors(operator=speed).operator_name == "speed"
    assert Sensors("lattice:4").placed(GRID).name == "lattice:4"
    own = parse_layout("lattice:4", GRID)
    assert Sensors(own).placed(GRID) is own
    found = [name for name in operators.OPERATORS if Sensors(operator=name).measures_vorticity]
    assert found == ["vorticity", "vorticity-spectral"] and Sensors(operator=vorticity).measures_vorticity
    assert LATTICE == Sensors() and hash(LATTICE) == hash(Sensors())


def test_sensors_may_have_a_noise_each():
    """The same draws as with one noise for all, each of its own size."""
    p = np.stack([np.arange(1.0, 4), np.ones(3)], 1)
    sizes = np.array([0.1, 0.2, 0.4])
    each, same = Sensors(at_positions(p), noise_std=sizes), Sensors(at_positions(p), noise_std=1.0)
    assert each.noise_std == (0.1, 0.2, 0.4) and hash(each) == hash(dataclasses.replace(each))
    got, plain = (observe_truths(KEYS, GRID, truths(), (sensors,), 4) for sensors in (each, same))
    exact = quick_jit(jax.vmap(jax.vmap(lambda omega: vorticity(GRID, omega, jnp.asarray(p)))))(truths()[:, ::4])
    np.testing.assert_allclose(got.variance, np.broadcast_to(sizes**2, got.values.shape))
    np.testing.assert_allclose(got.values - exact, (plain.values - exact) * sizes, atol=1e-12)
    with pytest.raises(
        ValueError, match="noise_std: expected one number, or one for each of the 5 sensors of random-f"
    ):
        Sensors("random-fixed:5", noise_std=[0.1] * 4).placed(GRID)


def test_one_set_is_observed_as_ever():
    got = observed(LATTICE)
    assert got.sets is None
    layout = parse_layout("lattice:8", GRID)
    observe = quick_jit(lambda key, frames: observe_run(key, GRID, layout, frames, 4, 0.1, vorticity))
    for number in range(2):
        alone = observe(KEYS[number], truths()[number])
        for a, b in zip(jax.tree.leaves(one_of(got, number)), jax.tree.leaves(alone)):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_sets_stand_one_behind_the_other_and_change_nothing_of_them():
    alone, both = observed(), observed(LATTICE, SPEEDS)
    count = alone.values.shape[-1]
    assert both.values.shape == (2, 3, count + 5) and both.positions.shape == (2, 3, count + 5, 2)
    for name in ("values", "positions", "mask", "variance"):
        # To the rounding of noise that is drawn in float32.
        np.testing.assert_allclose(getattr(both, name)[:, :, :count], getattr(alone, name), atol=1e-6)
    assert both.mask[..., count:].all() and both.sets.dtype == jnp.int32
    assert (both.sets[..., count:] == 1).all() and not both.sets[..., :count].any()
    np.testing.assert_allclose(both.variance[..., count:], 0.09)
    exact = jax.vmap(jax.vmap(lambda f, at: speed(GRID, f, at)))(truths()[:, ::4], both.positions[:, :, count:])
    off = both.values[..., count:] - exact
    assert 0.1 < np.sqrt(np.mean(off**2)) < 0.6
    # A third set changes nothing of the second, and two sets alike are not at the same places.
    three = observed(LATTICE, SPEEDS, SPEEDS)
    np.testing.assert_array_equal(three.values[..., : count + 5], both.values)
    assert (three.sets[..., count + 5 :] == 2).all()
    places = {tuple(position) for position in np.asarray(three.positions[0, 0, count:])}
    assert len(places) > 6  # five each, and hardly one in common


def test_all_sets_are_checked_alike():
    ones = jax.tree.map(lambda a: np.array(a[0]), observed(LATTICE, SPEEDS))
    second = ones.sets == 1
    assert (check_observations(ones).sets == 1).sum() == 15 == second.sum()
    spoilt = ones._replace(values=np.where(second, np.nan, ones.values))
    with pytest.raises(ValueError, match=r"observations\.values"):
        check_observations(spoilt)
    silent = check_observations(spoilt._replace(mask=ones.mask & ~second))
    assert np.isfinite(silent.values).all()
    for variance in (0.0, -1.0):
        with pytest.raises(ValueError, match=r"observations\.variance: expected numbers above 0"):
            check_observations(ones._replace(variance=np.where(second, variance, ones.variance)))
    outside = np.where(second[..., None], 7.0, ones.positions)
    with pytest.raises(ValueError, match="positions"):
        check_observations(ones._replace(positions=outside))
    with pytest.raises(ValueError, match=r"observations\.sets"):
        check_observations(ones._replace(sets=ones.sets[:, :-1]))
    assert check_observations(ones._replace(sets=None)).sets is None


def test_observations_join_with_any_leading_axes():
    one = one_of(observed(), 0, 0)
    both = join(one, one, one)
    assert both.values.shape == (3 * one.capacity,) and both.positions.shape == (3 * one.capacity, 2)
    np.testing.assert_array_equal(both.sets, np.repeat([0, 1, 2], one.capacity))
    np.testing.assert_array_equal(both.positions[one.capacity : 2 * one.capacity], one.positions)
    assert join(one) is one


# Each set by its own operator


def test_each_set_is_seen_through_its_own_operator():
    both = one_of(observed(LATTICE, SPEEDS), 0, 1)
    field, count = truth()[4], len(both.values) - 5
    got = predict(GRID, field, both, (LATTICE, SPEEDS))
    np.testing.assert_array_equal(got[:count], vorticity(GRID, field, both.positions[:count]))
    np.testing.assert_array_equal(got[count:], speed(GRID, field, both.positions[count:]))
    alike = (LATTICE, Sensors("random-fixed:5", role="guiding"))
    np.testing.assert_array_equal(predict(GRID, field, both, alike), vorticity(GRID, field, both.positions))
    for pair in ((LATTICE, SPEEDS), (SPEEDS, LATTICE)):
        flags = [each.measures_vorticity for each in pair]
        shown = np.asarray(sensors.belongs(both, flags))
        assert (shown[:count] == flags[0]).all() and (shown[count:] == flags[1]).all()
    one = both._replace(sets=None)
    assert sensors.belongs(one, [True]).all() and not sensors.belongs(one, [False]).any()


def test_sets_may_be_mixed_in_any_order():
    """As observations of one's own come: the number of its set is all that a slot needs."""
    both = one_of(observed(LATTICE, SPEEDS), 0, 1)
    order = np.random.default_rng(0).permutation(both.capacity)
    mixed = jax.tree.map(lambda a: a[order], both)
    field = truth()[4]
    expected = predict(GRID, field, both, (LATTICE, SPEEDS))[order]
    np.testing.assert_allclose(predict(GRID, field, mixed, (LATTICE, SPEEDS)), expected, atol=1e-12)
    # A set without a slot, and a third operator.
    three = (LATTICE, SPEEDS, Sensors(operator="streamfunction"))
    np.testing.assert_allclose(predict(GRID, field, mixed, three), expected, atol=1e-12)


def test_each_set_keeps_its_operator_from_the_others_places():
    """An operator without a derivative there spoils no gradient."""
    both = one_of(observed(LATTICE, SPEEDS), 0, 1)
    field, count = truth()[4], len(both.values) - 5

    def depth(grid, omega, positions):  # finite at the second set alone
        far = jnp.abs(positions[:, None] - both.positions[count:]).sum(-1).min(1) > 1e-12
        return vorticity(grid, omega, positions) + jnp.sqrt(jnp.where(far, 0.0, 1.0) + 0 * omega[0, 0])

    def total(omega):
        return predict(GRID, omega, both, (LATTICE, Sensors(operator=depth))).sum()

    assert jnp.isnan(jax.grad(lambda omega: depth(GRID, omega, both.positions).sum())(field)).any()
    assert jnp.isfinite(jax.grad(total)(field)).all()


def test_observations_of_the_truth_have_to_be_finite():
    seen = observed(LATTICE, SPEEDS)
    sensors.check_values(seen._replace(values=jnp.where(seen.mask, seen.values, jnp.nan)))
    with pytest.raises(ValueError, match=r"operator: 30 of .* observations of the truth are NaN or infinite"):
        sensors.check_values(seen._replace(values=jnp.where(seen.sets == 1, jnp.inf, seen.values)))


# Roles


def test_a_role_masks_the_others():
    both = observed(LATTICE, SPEEDS)
    second = both.sets == 1
    for role, own in (("assimilated", ~second), ("guiding", second)):
        got = sensors.with_role(both, (LATTICE, SPEEDS), role)
        np.testing.assert_array_equal(got.mask, both.mask & own)
        np.testing.assert_array_equal(got.values, both.values)
    assert sensors.with_role(both, TOGETHER, "assimilated") is both
    assert not sensors.with_role(both, TOGETHER, "guiding").mask.any()
    alone = observed()
    assert sensors.with_role(alone, (LATTICE,), "assimilated") is alone
    assert not sensors.with_role(alone, (LATTICE,), "guiding").mask.any()


@pytest.mark.parametrize("analysis, upward", [("enkf", False), ("letkf", True)])
def test_sets_that_measure_different_things_are_assimilated_together(analysis, upward):
    """As by one operator that knows which slots measure what."""
    both = one_of(observed(*TOGETHER), 0, 0)
    count = len(both.values) - 5
    assert both.mask[count:].all()

    def concatenated(grid, omega, positions):
        return jnp.concatenate([vorticity(grid, omega, positions[:count]), speed(grid, omega, positions[count:])])

    def analyser(sets):
        params, where = filter_params(FilterConfig(members=4, localization=1.0)), setup(sensors=sets)
        model = where.forecast_model() if upward else where.analysis_model()
        members = jax.vmap(lambda a: regrid_hat(GRID, model.grid, a))(states())
        step = quick_jit(ensemble_filter(where, model, analysis, 4, params).step)
        return lambda observations: step(
            jax.random.key(1), EnsembleState(members, jnp.int32(0), jnp.ones(())), observations
        )[1]

    wanted = analyser((Sensors(operator=concatenated),))(both._replace(sets=None)).omega[:, 0]
    analysed = analyser(TOGETHER)
    got = analysed(both)
    np.testing.assert_allclose(got.omega[:, 0], wanted, atol=1e-10)
    np.testing.assert_array_equal(got.diagnostics.assimilated, both.mask)
    # Sensors that guide are not assimilated: as if they were silent.
    guided = analyser((LATTICE, SPEEDS))(both)
    alone = analysed(both._replace(mask=both.mask & (both.sets == 0)))
    np.testing.assert_allclose(guided.omega, alone.omega, atol=1e-12)
    np.testing.assert_array_equal(guided.diagnostics.assimilated, both.mask & (both.sets == 0))
    assert abs(got.omega[:, 0] - alone.omega[:, 0]).max() > 0.01


def test_the_ensemble_score_filter_refuses_other_operators_in_any_assimilated_set():
    params, model = filter_params(FilterConfig(members=4)), setup().forecast_model()
    for sets in ((dataclasses.replace(LATTICE, operator="speed"),), TOGETHER):
        with pytest.raises(ValueError, match="ensf: its likelihood acts on vorticity"):
            ensemble_filter(setup(sensors=sets), model, "ensf", 4, params)
    assert ensemble_filter(setup(sensors=(LATTICE, SPEEDS)), model, "ensf", 4, params).members == 4


# Sensors that are withheld


def test_the_second_set_is_verified_by_its_own_operator():
    both = observed(*TOGETHER)
    second = both.sets == 1
    used, withheld = sensors.withhold(both, jax.random.split(jax.random.key(0), 2), 0.5, TOGETHER)
    assert withheld.mask[second].any() and withheld.mask[~second].any() and not (used.mask & withheld.mask).any()
    assert ((used.mask | withheld.mask) == both.mask).all()
    misfit = sensors.misfit(GRID, both._replace(mask=second), truths()[:, ::4], TOGETHER)
    assert ((0.15 < misfit) & (misfit < 0.5)).all()  # the truth, off by the noise of std 0.3 at ten sensors
    nothing = sensors.misfit(GRID, both._replace(mask=jnp.zeros_like(second)), truths()[:, ::4], TOGETHER)
    assert np.isnan(nothing).all()  # no number for what was not verified


def test_withheld_sensors_are_not_those_that_guide():
    both, keys = observed(LATTICE, SPEEDS), jax.random.split(jax.random.key(0), 2)
    used, withheld = sensors.withhold(both, keys, 0.5, (LATTICE, SPEEDS))
    second = both.sets == 1
    assert used.mask[second].all() and not withheld.mask[second].any() and withheld.mask.any()
    np.testing.assert_array_equal(used.sets, both.sets)
    none, all_used = sensors.withhold(both, keys, 0.0, (LATTICE, SPEEDS))[::-1]
    assert not none.mask.any() and (all_used.mask == both.mask).all()


# What an experiment refuses

GUIDING = Sensors("lattice:4", role="guiding")
MARKED = Observations(
    np.zeros((2, 2)), np.zeros((2, 2, 2)), np.ones((2, 2), bool), np.ones((2, 2)), np.tile(np.arange(2), (2, 1))
)
OWN = Observations(np.zeros((2, 1)), np.zeros((2, 1, 2)), np.ones((2, 1), bool), np.ones((2, 1)))
GUIDED = DiffSRDAConfig(guidance="mmps")


def experiment(method, **options):
    return from_options(method, testbed=TESTBED, **options)


@pytest.mark.parametrize(
    "method, options, message",
    [
        ("enkf-sr", {"guide_layout": "lattice:4"}, "guide_layout: enkf-sr is not guided; choose a guidance"),
        ("diffsrda", {"guide_layout": "lattice:4"}, "guide_layout: diffsrda is not guided"),
        (
            "diffsrda",
            {"config": GUIDED, "guide_layout": "lattice:4", "observations": OWN},
            "guide_layout: of no effect beside your own observations; leave it out, or describe their sets as sensors",
        ),
        ("diffsrda", {"config": GUIDED}, "guidance: it has no new sensors to follow; give a guide_layout"),
        ("diffsrda", {"config": GUIDED, "observations": OWN}, "guidance: it has no new sensors"),
        (
            "enkf-sr",
            {"observations": MARKED, "sensors": (LATTICE, GUIDING)},
            "guide_layout: enkf-sr is not guided; choose a guidance, or give these sensors the role assimilated",
        ),
        (
            "enkf-sr",
            {"observations": MARKED},
            r"observations\.sets: 1 set\(s\) of sensors are described, .* belong to sets up to number 1",
        ),
        (
            "enkf-sr",
            {"observations": OWN, "sensors": TOGETHER},
            r"observations\.sets: 2 set\(s\) .* belong to no set in particular",
        ),
        ("diffsrda", {"config": GUIDED, "sensors": (GUIDING,)}, "sensors: expected at least one set that is assimi"),
        ("enkf-sr", {"sensors": ()}, "sensors: expected at least one set, got none"),
        ("enkf-sr", {"sensors": TOGETHER, "layout": "lattice:4"}, "layout: of no effect beside sensors"),
    ],
)
def test_guides_without_a_guidance_and_the_reverse_are_refused(method, options, message):
    with pytest.raises(ValueError, match=message):
        experiment(method, **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"config": GUIDED, "guide_layout": "lattice:4"}, "guidance: it has no new sensors to follow"),
        ({}, "guides_assimilated: there are no further sensors that it could be of; give a guide_layout"),
        ({"observations": OWN}, "guides_assimilated: of no effect beside your own observations"),
        ({"guide_layout": "lattice:4", "observations": OWN}, "guide_layout: of no effect beside your own observations"),
    ],
)
def test_a_second_set_is_there_and_used_once(options, message):
    with pytest.raises(ValueError, match=message):
        experiment("diffsrda", guides_assimilated=True, **options)
    made = experiment("enkf-sr", guide_layout="lattice:4", guides_assimilated=True)
    assert made.sensors == (LATTICE, Sensors("lattice:4"))


def test_options_of_guides_need_guides():
    config = DiffSRDAConfig(guidance="oi", guide_on="all")
    with pytest.raises(ValueError, match="guide_noise_std: there are no further sensors that it could be of"):
        experiment("diffsrda", config=config, guide_std=0.2)
    with pytest.raises(ValueError, match="guide_noise_std: of no effect beside your own observations"):
        experiment("diffsrda", config=config, guide_std=0.2, observations=OWN)
    options = {"guide_layout": "lattice:4", "guide_measure": "speed", "guide_std": 0.2}
    made = experiment("diffsrda", config=config, **options)
    assert made.sensors == (LATTICE, Sensors("lattice:4", "speed", 0.2, "guiding"))


def test_what_is_allowed_is():
    experiment("diffsrda", config=GUIDED, guide_layout="lattice:4")
    experiment("diffsrda", config=dataclasses.replace(GUIDED, guide_on="all"))
    made = Experiment("diffsrda", observations=MARKED, sensors=(LATTICE, GUIDING), config=GUIDED, testbed=TESTBED)
    np.testing.assert_array_equal(made.observations.sets, MARKED.sets)
    assert experiment("enkf-sr").sensors == (LATTICE,)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: DiffSRDAConfig(guidance="magic"), "guidance: expected one of none, blend, lifted"),
        (lambda: DiffSRDAConfig(guide_on="some"), "guide_on: expected one of new, all; got 'some'"),
        (lambda: Blend(blur=(1.0,)), r"blur: expected two widths, at the first and the last level, got \(1.0,\)"),
        (lambda: Blend(blur=(2.0, 0.0)), "blur: expected a finite number above 0, got 0.0"),
        (lambda: guide("none", hard_steps=1), "hard_steps: not an option of guidance none, which has no options"),
        (lambda: guide("oi", blur=(4.0, 1.0)), "blur: not an option of guidance oi, whose options are strength"),
        (
            lambda: DiffSRDAConfig(guidance=Blend(hard_steps=5)),
            "hard_steps: expected 0 to as many as there are steps, 4, got 5",
        ),
        (lambda: OI(strength=0.0), "strength: expected a finite number above 0, got 0.0"),
    ],
)
def test_bad_configurations_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "old, new", [("strength", "OI"), ("iterations", "OI"), ("blur", "Blend"), ("hard_steps", "Blend")]
)
def test_options_that_are_now_a_guides_say_so(old, new):
    with pytest.raises(TypeError, match=rf"DiffSRDAConfig: {old} is now guidance, .*jaxsrda\.{new}\({old}="):
        DiffSRDAConfig(**{old: 1})


# Operators of one's own


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
    # An experiment asks for what its method needs.
    sets = (Sensors(operator=rounded),)
    assert experiment("enkf-sr", sensors=sets).sensors == sets
    with pytest.raises(ValueError, match="operator rounded: expected a differentiable function"):
        experiment("diffsrda", sensors=sets, config=dataclasses.replace(GUIDED, guide_on="all"))
