"""An experiment is checked when it is made; flat options, under old names or new, make the same one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID, TESTBED, setup

from jaxsrda.cycling.assimilator import Assimilator
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.model import Model, ModelConfig
from jaxsrda.diffusion.guidance import OI
from jaxsrda.experiment.experiment import Experiment, from_options
from jaxsrda.experiment.registry import METHODS
from jaxsrda.experiment.run import assimilate
from jaxsrda.filters.config import FilterConfig
from jaxsrda.flow.testbed import jet
from jaxsrda.observing.observations import Observations, pack
from jaxsrda.observing.operators import OPERATORS
from jaxsrda.observing.sensors import Sensors

GUIDED = DiffSRDAConfig(guidance="oi")
TWO = (Sensors("lattice:4"), Sensors("lattice:2", role="guiding"))


def truth(cycles=2, dtype="float64"):
    """Frames (4 · cycles, nx, ny) of one wave."""
    wave = np.cos(GRID.x[:, None]) * np.sin(GRID.y)
    return np.stack([wave] * (4 * cycles)).astype(dtype)


def own_observations(cycles=2, sets=None):
    """Five sensors at each time."""
    shape = (cycles, 5)
    positions = np.broadcast_to(np.stack([np.arange(5.0), 1 + 0.2 * np.arange(5)], -1), (*shape, 2))
    sets = None if sets is None else np.broadcast_to(np.array(sets), shape)
    return Observations(np.zeros(shape), positions, np.ones(shape, bool), np.full(shape, 0.01), sets)


def still(setup):
    """A method of the user's own that never moves."""

    def step(key, state, observations):
        frames = jnp.zeros((2, setup.testbed.frames_per_cycle, *setup.grid.shape), setup.dtype)
        return state, setup.window(setup.assimilated(observations), frames)

    return Assimilator(lambda key: jnp.int32(0), step, 2)


def small(*arguments, **options):
    return Experiment(*arguments, **{"testbed": TESTBED} | options)


# Checked when made


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "enkf-lr"}, r"method: expected one of .*did you mean 'enkf-[hs]r'\?"),
        ({"withhold": 1.0}, r"withhold: expected a fraction from 0 to below 1, got 1\.0"),
        ({"sensors": ()}, r"sensors: expected at least one set, got none; a silent one is Sensors\('random-fixed:0'\)"),
        ({"sensors": Sensors("latice:8")}, "did you mean 'lattice'?"),
        ({"sensors": Sensors("lattice:16")}, "lattice: expected an interval from 1 to 15, got 16"),
        ({"sensors": TWO}, "guide_layout: enkf-sr is not guided; choose a guidance, or give .* the role assimilated"),
        ({"sensors": TWO[1:]}, "sensors: expected at least one set that is assimilated, got guiding ones alone"),
        (
            {"method": "diffsrda", "config": GUIDED},
            "guidance: it has no new sensors to follow; give a guide_layout .*or guide_on all",
        ),
        ({"truth": truth()[0]}, r"truth: expected at least 8 frames \(two assimilation times\), got 1"),
        ({"truth": truth(1)}, r"truth: expected at least 8 frames \(two assimilation times\), got 4"),
        ({"truth": truth(), "truth_seeds": (1, 2)}, "truth_seeds: expected 1, one for each truth, got 2"),
        (
            {"truth": np.stack([truth()] * 2), "truth_seeds": (1,)},
            "truth_seeds: expected 2, one for each truth, got 1",
        ),
        ({"observations": jax.tree.map(lambda a: a[0], own_observations())}, "stack them over the assimilation times"),
        (
            {"observations": own_observations(3), "truth": truth()},
            r"observations: expected 2 assimilation times, one each 4 frames of one truth; got 3 for 1 truth\(s\)",
        ),
        (
            {"observations": own_observations(2), "truth": np.stack([truth()] * 2)},
            r"observations: expected 2 assimilation times, .*; got 2 for 2 truth\(s\)",
        ),
        (
            {"observations": own_observations(sets=[0, 0, 1, 1, 2]), "sensors": (Sensors(), Sensors("lattice:4"))},
            r"observations.sets: 2 set\(s\) of sensors are described, .* sets up to number 2; make them agree",
        ),
        (
            {"observations": own_observations(sets=[0, 0, 0, 0, 1])},
            r"observations.sets: 1 set\(s\) of sensors are described, .* sets up to number 1",
        ),
        (
            {"observations": own_observations(), "sensors": (Sensors(), Sensors("lattice:4"))},
            r"observations.sets: 2 set\(s\) of sensors are described, .* belong to no set in particular",
        ),
        ({"method": still, "config": FilterConfig()}, "config, model: a method of your own has its own; leave these"),
        ({"method": still(setup()), "config": FilterConfig()}, "config, model: a method of your own has its own"),
        (
            {"method": still, "model": Model(ModelConfig.of(TESTBED), None, np.ones(5))},
            "config, model: a method of your own has its own; leave these out",
        ),
        (
            {"method": "diffsrda", "model": Model(ModelConfig.of(jet()), None, np.ones(5))},
            "the weights are for windows of 5 frames on 128 × 65 points, this testbed has 5 on 32 × 17; train for it",
        ),
        (
            {"method": "diffsrda", "model": Model(ModelConfig.of(TESTBED, priors=("lr",)), None, np.ones(5))},
            "prior: these weights were trained for lr, got dual; give weights for it",
        ),
    ],
)
def test_bad_experiments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**{"method": "enkf-sr"} | options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": 3}, "method: expected a name, an Assimilator or a function Setup → Assimilator, got int"),
        ({"method": None}, "method: expected a name, .* got NoneType"),
        ({"method": "enkf-sr", "config": DiffSRDAConfig()}, "enkf-sr: expected a FilterConfig as config, got Diff"),
        ({"method": "diffsrda", "config": FilterConfig()}, "diffsrda: expected a DiffSRDAConfig as config, got Filter"),
    ],
)
def test_wrong_types_are_refused(options, message):
    with pytest.raises(TypeError, match=message):
        small(**options)


@pytest.mark.parametrize(
    ("operator", "config", "message"),
    [
        (lambda grid, omega, positions: omega, None, "expected one value a sensor"),
        (lambda grid, omega, positions: positions[:, 0] / 0, None, "expected finite values and derivatives"),
        (lambda grid, omega, positions: jnp.round(positions[:, 0]), GUIDED, "its derivative is zero everywhere"),
        (lambda grid: 0, None, "operator <lambda>: expected a function"),
    ],
)
def test_operators_of_the_users_own_are_tried(operator, config, message):
    method = "enkf-sr" if config is None else "diffsrda"
    sets = (Sensors(operator=operator), *(() if config is None else TWO[1:]))
    with pytest.raises(ValueError, match=message):
        small(method, sensors=sets, config=config)


def test_rounding_operators_may_be_assimilated():
    def rounded(grid, omega, positions):
        return jnp.round(OPERATORS["vorticity"](grid, omega, positions))

    assert small("enkf-sr", sensors=Sensors(operator=rounded)).sensors[0].operator_name == "rounded"


def test_what_is_filled_in():
    """The method's preset, one set of sensors, the testbed's own grid, and numbers of the truths."""
    made = small("enkf-sr", truth(dtype="float32"), seed=9)
    assert made.config == METHODS["enkf-sr"].config and made.sensors == (Sensors(),) and made.grid == GRID
    assert made.truth.shape == (1, 8, 32, 17) and made.truth.dtype == "float64" and made.truth_seeds == (0,)
    assert small("enkf-sr", seed=9).truth_seeds == (9,) and Experiment().testbed is jet()
    assert small("enkf-sr", np.stack([truth()] * 3)).truth_seeds == (0, 1, 2)
    assert small("enkf-sr", sensors=TWO[0]).sensors == TWO[:1] and small("enkf-sr", sensors=[TWO[0]]).sensors == TWO[:1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.seed = 1


def test_names_and_guidance():
    assert small("enkf-sr").name == "enkf-sr" and small(still).name == "still" and small(still(setup())).name == "own"
    assert not small("diffsrda").guided and not small(still).guided
    guided = small("diffsrda", sensors=TWO, config=GUIDED)
    assert guided.guided and guided.config.guidance == OI()
    # The sensors that are assimilated may guide once more, and a method of one's own may take guiding sets.
    assert small("diffsrda", config=dataclasses.replace(GUIDED, guide_on="all")).guided
    assert small(still, sensors=TWO).sensors == TWO


def test_a_copy_is_checked_too():
    made = small("enkf-sr", truth())
    copy = dataclasses.replace(made, seed=4, method="enkf-dual", config=None)
    assert copy.config == METHODS["enkf-dual"].config and copy.truth_seeds == (0,)
    with pytest.raises(ValueError, match="truth_seeds: expected 2, one for each truth, got 1"):
        dataclasses.replace(made, truth=np.stack([truth()] * 2))


def test_own_observations_go_through():
    """One set may come without numbers of sets; several say which is which."""
    own = small("enkf-sr", observations=own_observations())
    assert own.observations.sets is None and own.truth is None
    sets = small("enkf-sr", truth(), observations=own_observations(sets=[0, 0, 0, 1, 1]), sensors=(TWO[0], TWO[0]))
    assert sets.observations.sets.dtype == "int32"
    guided = small("diffsrda", observations=own_observations(sets=[0, 0, 0, 1, 1]), sensors=TWO, config=GUIDED)
    assert guided.observations.values.shape == (2, 5)


# Flat options


def test_flat_options_describe_one_set_or_two():
    made = from_options("enkf-sr", layout="lattice:4", operator="speed", noise_std=0.2, testbed=TESTBED)
    assert made.sensors == (Sensors("lattice:4", "speed", 0.2),)
    guided = from_options("diffsrda", guide_layout="lattice:4", config=GUIDED, noise_std=0.2, testbed=TESTBED)
    assert guided.sensors == (Sensors(noise_std=0.2), Sensors("lattice:4", noise_std=0.2, role="guiding"))
    second = {"guide_layout": "lattice:4", "guide_operator": "speed", "guide_noise_std": 0.3}
    both = from_options("enkf-sr", **second, guides_assimilated=True, testbed=TESTBED)
    assert both.sensors == (Sensors(), Sensors("lattice:4", "speed", 0.3, "assimilated"))


def test_old_names_of_options_equal_the_new():
    old = from_options(
        "diffsrda",
        measure="speed",
        observation_std=0.2,
        guide_layout="lattice:4",
        guide_measure="streamfunction",
        guide_std=0.3,
        config=GUIDED,
        testbed=TESTBED,
    )
    new = from_options(
        "diffsrda",
        operator="speed",
        noise_std=0.2,
        guide_layout="lattice:4",
        guide_operator="streamfunction",
        guide_noise_std=0.3,
        config=GUIDED,
        testbed=TESTBED,
    )
    sets = (Sensors(operator="speed", noise_std=0.2), Sensors("lattice:4", "streamfunction", 0.3, "guiding"))
    assert old.sensors == new.sensors == sets
    for field in dataclasses.fields(Experiment):
        assert getattr(old, field.name) == getattr(new, field.name), field.name


def test_every_old_option_of_assimilate_is_known():
    """The options that `assimilate` took before the experiment became a value."""
    known = {
        "layout": "lattice:4",
        "measure": "vorticity",
        "observation_std": 0.1,
        "observations": None,
        "guide_layout": None,
        "guide_measure": None,
        "guide_std": None,
        "guides_assimilated": False,
        "withhold": 0.0,
        "config": None,
        "model": None,
        "climatology": None,
        "seed": 0,
        "truth_seeds": None,
        "keep_members": False,
    }
    assert from_options("enkf-sr", None, testbed=TESTBED, **known).sensors == (Sensors("lattice:4"),)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"observaton_std": 0.1}, "observaton_std: not an option .*, which has carry, climatology, config, .*withhold"),
        ({"lay_out": "lattice:4"}, r"lay_out: not an option of an experiment, .*; did you mean layout\?"),
        ({"guide_noise": 0.1}, r"; did you mean guide_noise_std\?"),
        ({"memebers": 3}, "memebers: not an option"),
        ({"operator": "speed", "measure": "speed"}, "operator: given twice, under two names; give it once"),
    ],
)
def test_a_typo_names_the_near_one(options, message):
    with pytest.raises(TypeError, match=message):
        assimilate("enkf-sr", testbed=TESTBED, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"guide_operator": "speed"},
            "guide_operator: there are no further sensors that it could be of; give a guide_l",
        ),
        ({"guide_std": 0.2}, "guide_noise_std: there are no further sensors that it could be of; give a guide_layout"),
        ({"guides_assimilated": True}, "guides_assimilated: there are no further sensors that it could be of; give"),
        ({"layout": "lattice:4", "sensors": TWO}, "layout: of no effect beside sensors; say it in one of these"),
        ({"guide_layout": "lattice:4", "sensors": TWO}, "guide_layout: of no effect beside sensors"),
        (
            {"layout": "lattice:4", "observations": own_observations()},
            "layout: of no effect beside your own observatio",
        ),
        ({"observation_std": 0.2, "observations": own_observations()}, "noise_std: of no effect beside your own"),
        (
            {"guide_layout": "lattice:4", "observations": own_observations()},
            "guide_layout: of no effect beside your own observations; leave it out, or describe their sets as sensors",
        ),
        ({"guide_operator": "speed", "observations": own_observations()}, "guide_operator: of no effect beside your"),
        ({"guides_assimilated": True, "observations": own_observations()}, "guides_assimilated: of no effect beside"),
    ],
)
def test_options_without_effect_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        assimilate("enkf-sr", testbed=TESTBED, **options)


def test_a_list_of_packed_observations_is_stacked():
    one = pack([1.0, 2.0], [[1, 1], [2, 1]], 0.1)
    made = small("enkf-sr", observations=[one, None, pack([1.0], [[3, 1]], 0.1)])
    assert made.observations.mask.tolist() == [[True, True], [False, False], [True, False]]
    with pytest.raises(TypeError, match=r"observations: expected those of each time as jaxsrda\.pack makes them"):
        small("enkf-sr", observations=[np.ones(3)])


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("enkf-sr", {"reject": 0}, "reject: expected a finite number above 0, got 0"),
        ("free-run", {"reject": 5}, "reject: free-run assimilates no observation that it could reject; leave it out"),
        ("climatology", {"reject": 5}, "reject: climatology assimilates no observation"),
        (
            "diffsrda",
            {"reject": 5, "config": DiffSRDAConfig(prior="lr", restart="first")},
            "reject: the lr prior is one forecast, which has no spread that departures could be compared with",
        ),
        (
            "enkf-sr",
            {"joint": True, "observations": own_observations()},
            "joint: there is no truth to score against beside your own observations; leave it out",
        ),
    ],
)
def test_checks_and_scores_without_an_object_are_refused(method, options, message):
    with pytest.raises(ValueError, match=message):
        small(method, **options)


def test_sensors_with_a_noise_each_do_not_lend_it():
    noise = [0.1] * 5
    with pytest.raises(ValueError, match="guide_noise_std: the other sensors have one for each of them; give that of"):
        from_options("enkf-sr", layout="random-fixed:5", noise_std=noise, guide_layout="lattice:4", testbed=TESTBED)


def test_own_observations_may_be_of_any_operator():
    made = from_options("enkf-sr", observations=own_observations(), measure="speed", testbed=TESTBED)
    assert made.sensors == (Sensors(operator="speed"),)
