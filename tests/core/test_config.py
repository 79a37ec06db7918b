"""Presets, their JSON form, and the message of every check."""

import dataclasses
import json

import numpy as np
import pytest

from jaxsrda.core.checks import check_choice, check_finite, check_positive, check_shape
from jaxsrda.core.records import from_json, to_json
from jaxsrda.diffsrda import config as diffsrda_config
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.experiment import registry
from jaxsrda.filters.config import FILTERS, PAPER_FILTERS, FilterConfig
from jaxsrda.flow.jet import Physics
from jaxsrda.flow.testbed import TESTBEDS, Level, jet


def test_levels_nest_and_hold_the_papers_numbers():
    levels = {level.name: level for level in jet().levels}
    numbers = {name: (level.nx, level.ny, level.viscosity, level.rk2_steps) for name, level in levels.items()}
    assert numbers["lr"] == (32, 17, 5e-5, 500)
    assert numbers["hr"] == (128, 65, 1e-5, 2000)
    assert numbers["uhr"] == (1024, 513, 2e-6, 16000)
    assert list(levels) == ["lr", "hr", "fine", "uhr"] and jet().grid.shape == (128, 65)
    assert [jet().forecast, jet().analysis, jet().truth] == [levels[name] for name in ("lr", "hr", "fine")]
    for name, level in levels.items():
        assert jet().level(name) is level
    for make in TESTBEDS.values():
        for level in make().levels:
            assert level.nx == 2 * (level.ny - 1) and level.nx % 3 and 1024 % level.nx == 0
        assert make().frames_per_cycle * make().frame == 1 and make().frames == 96


def test_level_by_name_raises():
    with pytest.raises(ValueError, match="level: expected one of lr, hr, fine, uhr; got 'hrr'; did you mean"):
        jet().level("hrr")


def test_paper_filters_hold_the_papers_numbers():
    # Lattice interval: half-width, noise factor (of the covariance), assumed noise, initial factor.
    paper = {
        4: (0.15, 5e-4, 1e-5, 0),
        6: (0.3, 0.002, 0.03, 0.2),
        8: (0.5, 0.005, 0.1, 0.2),
        12: (0.7, 0.005, 0.2, 0.2),
    }
    assert set(PAPER_FILTERS) == set(paper)
    for interval, numbers in paper.items():
        preset = PAPER_FILTERS[interval]
        got = (preset.localization, preset.additive**2, preset.assumed_std, preset.initial**2)
        np.testing.assert_allclose(got, numbers, rtol=1e-12)
        assert preset.members == 100


CONFIGS = [*jet().levels, Physics(), Physics(beta=0.3, width=1 / 3), *FILTERS.values(), *PAPER_FILTERS.values()]


@pytest.mark.parametrize("value", CONFIGS, ids=str)
def test_json_round_trip(value):
    text = to_json(value)
    assert from_json(type(value), text) == value
    # Options that came later are left out where they have no effect, so that older keys stay the same.
    said = [field.name for field in dataclasses.fields(value) if "later" not in field.metadata]
    assert list(json.loads(text)) == said
    assert hash(from_json(type(value), text)) == hash(value)


def test_json_takes_defaults_for_what_it_lacks():
    assert from_json(FilterConfig, '{"members": 7}') == FilterConfig(members=7)
    assert from_json(Physics, "{}") == Physics()


@pytest.mark.parametrize(
    "cls, text, message",
    [
        (Physics, "{beta: 1}", "^Physics: expected JSON, got text that does not parse: .*line 1"),
        (Physics, '{"bta": 1}', r"^Physics: expected fields among \['beta', .*\], got \['bta'\]"),
        (Physics, "[1, 2]", r"^Physics: expected fields among .*, got list"),
        (Physics, '{"width": 0}', "^width: expected a finite number above 0, got 0"),
        (FilterConfig, '{"members": 1}', "^members: expected at least 2 for a filter, got 1"),
        (FilterConfig, '{"members": "many"}', "^FilterConfig: expected a value of the right type"),
        (Level, '{"name": "own", "nx": 48}', "^Level: expected a value .* for every field: .*missing.*'ny'"),
    ],
)
def test_bad_json_raises(cls, text, message):
    with pytest.raises(ValueError, match=message):
        from_json(cls, text)


@pytest.mark.parametrize("value", [{"beta": 1}, 3, Physics])
def test_only_configurations_become_json(value):
    with pytest.raises(TypeError, match=r"to_json: expected a configuration dataclass, got (dict|int|type)"):
        to_json(value)


@pytest.mark.parametrize("name", ["localization", "inflation"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_filter_numbers_that_must_be_positive(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected a finite number above 0, got"):
        FilterConfig(**{name: value})


def test_jet_width_and_members():
    with pytest.raises(ValueError, match=r"width: expected a finite number above 0, got -0\.4"):
        Physics(width=-0.4)
    for members in (1, 0, -3):
        with pytest.raises(ValueError, match=f"members: expected at least 2 for a filter, got {members}"):
            FilterConfig(members=members)
    assert FilterConfig(members=2).members == 2


# Checks


def test_check_choice():
    assert check_choice("scheme", "rk2", {"rk2": 1, "etdrk4": 2}) == "rk2"
    with pytest.raises(ValueError, match=r"^scheme: expected one of rk2, etdrk4; got 'rk3'; did you mean 'rk2'"):
        check_choice("scheme", "rk3", ("rk2", "etdrk4"))
    with pytest.raises(ValueError, match=r"^scheme: expected one of rk2, etdrk4; got 'leapfrog'$"):
        check_choice("scheme", "leapfrog", iter(("rk2", "etdrk4")))  # no hint where nothing is near
    with pytest.raises(ValueError, match=r"got 7$"):
        check_choice("scheme", 7, ("rk2",))


def test_check_positive():
    assert check_positive("width", 1e-300) == 1e-300
    for value in (0, 0.0, -2, np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match=r"^width: expected a finite number above 0, got"):
            check_positive("width", value)


def test_check_shape():
    array = np.zeros((3, 4))
    check_shape("field", array, (3, 4))
    check_shape("field", array, (None, 4))
    check_shape("number", 1.0, ())
    for wrong, message in [
        ((3, 5), r"^field: expected shape \(3, 5\), got \(3, 4\)$"),
        ((None, 5), r"^field: expected shape \(any, 5\), got \(3, 4\)$"),
        ((4,), r"^field: expected 1 dimensions \(4\), got shape \(3, 4\); map over leading axes with jax\.vmap$"),
        ((None, 3, 4), r"^field: expected 3 dimensions \(any, 3, 4\), got shape \(3, 4\)$"),  # vmap is no help here
    ]:
        with pytest.raises(ValueError, match=message):
            check_shape("field", array, wrong)
    with pytest.raises(ValueError, match=r"got \(3, 4\); transpose it$"):
        check_shape("field", array, (4, 3), hint="; transpose it")
    with pytest.raises(ValueError, match=r"got shape \(3, 4\); add an axis$"):
        check_shape("field", array, (1, 3, 4), hint="; add an axis")


def test_check_finite():
    check_finite("field", np.ones((2, 3)))
    check_finite("field", np.zeros(0))
    array = np.ones((2, 3))
    array[1, 0], array[1, 2] = np.nan, -np.inf
    with pytest.raises(
        ValueError, match=r"^field: expected finite numbers, got 2 NaN or infinite \(first at index \(1, 0\)\); mask or"
    ):
        check_finite("field", array)


def test_method_presets():
    assert registry.method_preset("enkf-hr") == FILTERS["enkf-hr"]
    assert registry.method_preset("diffsrda") == DiffSRDAConfig()
    assert registry.method_preset("enkf-hr", "lattice:12", "paper").localization == 0.7
    steps = [registry.method_preset(method, "lattice:8", "paper").steps for method in ("diffsrda", "latent-diffsrda")]
    assert steps == [20, 10]
    for method, layout in (("enkf-sr", "lattice:8"), ("enkf-hr", "track:4"), ("enkf-hr", "lattice:5")):
        with pytest.raises(ValueError, match=f"the paper's is for .* got {method} on {layout}"):
            registry.method_preset(method, layout, "paper")
    with pytest.raises(ValueError, match="tuning: expected one of own, paper"):
        registry.method_preset("enkf-hr", tuning="mine")


def test_names_of_samplers_agree():
    from jaxsrda.diffusion import samplers, schedules

    assert tuple(diffsrda_config.SAMPLERS) == tuple(samplers.SAMPLERS)
    assert set(diffsrda_config.SIGMAS) == set(schedules.GRIDS)
    for name in samplers.SAMPLERS:
        assert DiffSRDAConfig(sampler=name, restart="open").sampler == name
    for name in schedules.GRIDS:
        assert DiffSRDAConfig(sigmas=name).sigmas == name
