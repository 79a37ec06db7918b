"""Configurations as flat options, what of them is traced, and preset files."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffusion.guidance import DPS, GUIDES, OI, Blend
from jaxsrda.experiment.options import (
    check_traced,
    flat_options,
    joined,
    option_kinds,
    option_value,
    split,
    with_options,
)
from jaxsrda.experiment.registry import METHODS, method_preset
from jaxsrda.filters.config import FILTERS, FilterConfig, FilterParams, filter_params

GUIDED = DiffSRDAConfig(guidance=OI(strength=2.0, iterations=4), guide_on="all")


@pytest.mark.parametrize("method", METHODS)
def test_flat_options_make_the_configuration_again(method):
    config = METHODS[method].config
    assert with_options(config, flat_options(config), method) == config


@pytest.mark.parametrize("name", GUIDES)
def test_a_guides_options_stand_beside_the_others(name):
    guide = GUIDES[name]()
    if hasattr(guide, "strength"):
        guide = dataclasses.replace(guide, strength=0.7)
    config = DiffSRDAConfig(guidance=guide, guide_on="all")
    flat = flat_options(config)
    assert flat["guidance"] == name and flat.get("strength", 0.7) == 0.7
    assert with_options(DiffSRDAConfig(), flat, "diffsrda") == config


def test_options_change_a_configuration_and_its_guide():
    changed = with_options(GUIDED, {"strength": 0.5, "steps": 6}, "diffsrda")
    assert changed.guidance == OI(strength=0.5, iterations=4) and changed.steps == 6
    assert with_options(GUIDED, {"guidance": "blend", "blur": (1.0, 2.0)}, "diffsrda").guidance == Blend(
        blur=(1.0, 2.0)
    )
    # Another prior has the restart that suits it.
    assert with_options(DiffSRDAConfig(restart="open"), {"prior": "dual"}, "diffsrda").restart == "mean"


def test_options_of_the_priors_filter():
    tuned = with_options(DiffSRDAConfig(), {"prior_localization": 0.9, "steps": 6}, "diffsrda")
    assert tuned.prior_filter == dataclasses.replace(FILTERS["enkf-dual"], localization=0.9) and tuned.steps == 6
    again = with_options(tuned, {"prior_additive": 0.2}, "diffsrda").prior_filter
    assert again == dataclasses.replace(tuned.prior_filter, additive=0.2)
    # The other prior has a filter of its own.
    assert with_options(tuned, {"prior": "enkf-sr"}, "diffsrda").prior_filter is None
    other = with_options(tuned, {"prior": "enkf-sr", "prior_rtps": 0.1}, "diffsrda").prior_filter
    assert other == dataclasses.replace(FILTERS["enkf-sr"], rtps=0.1)
    flat = flat_options(tuned)
    assert flat["prior_localization"] == 0.9 and "prior_filter" not in flat
    # Sizes of the filter are not its own: samples are as many as members.
    assert filter_params(with_options(DiffSRDAConfig(), flat, "diffsrda").prior_filter) == filter_params(
        tuned.prior_filter
    )
    static, numbers = split(tuned)
    assert static == split(with_options(tuned, {"prior_localization": 2.0}, "diffsrda"))[0] != split(GUIDED)[0]
    config, params = joined(static, numbers, "float64")
    assert config.prior_filter is not None and params == filter_params(tuned.prior_filter, "float64")
    with pytest.raises(ValueError, match="prior_filter: the lr prior has no filter that could be tuned"):
        DiffSRDAConfig(prior="lr", prior_filter=FilterConfig())


@pytest.mark.parametrize(
    "config, options, message",
    [
        (FilterConfig(), {"additve": 1}, "additve: not an option of m, which has .*; did you mean additive"),
        (FilterConfig(), {"localization": -1.0}, "localization: expected a finite number above 0"),
        (DiffSRDAConfig(prior="lr"), {"prior_rtps": 0.1}, "prior_rtps: this prior has no filter that could be tuned"),
        (DiffSRDAConfig(), {"prior": "dul", "prior_rtps": 0.1}, "prior: expected one of .*; did you mean 'dual'"),
        (DiffSRDAConfig(), {"strength": 1.0}, "strength: not an option of guidance none"),
        (GUIDED, {"blur": (1.0, 1.0)}, "blur: not an option of the guidance OI; leave it out"),
    ],
)
def test_options_that_are_refused(config, options, message):
    with pytest.raises(ValueError, match=message):
        with_options(config, options, "m")


@pytest.mark.parametrize(
    "value, kind, wanted",
    [
        ("0.5", float, 0.5),
        (2, float, 2.0),
        ("20", int, 20),
        (20.0, int, 20),
        ("True", bool, True),
        ("mean", str, "mean"),
        ([1, 2], tuple, (1.0, 2.0)),
        ("1:2", tuple, (1.0, 2.0)),
    ],
)
def test_values_are_read(value, kind, wanted):
    got = option_value("x", value, kind)
    assert got == wanted and type(got) is kind


@pytest.mark.parametrize(
    "value, kind, message",
    [
        ("a", float, "x: expected a finite number, got 'a'"),
        ("nan", float, "x: expected a finite number, got 'nan'"),
        (2.5, int, "x: expected a whole number, got 2.5"),
        ("yes", bool, "x: expected true or false, got 'yes'"),
        (True, float, "x: expected a finite number, got True"),
        (1, str, "x: expected text, got 1"),
        ("a:b", tuple, "x: expected a list of two numbers, got 'a:b'"),
    ],
)
def test_values_of_another_kind_are_refused(value, kind, message):
    with pytest.raises(ValueError, match=message):
        option_value("x", value, kind)


def test_kinds_are_those_of_the_fields():
    kinds = option_kinds(FilterConfig())
    assert kinds["members"] is int and kinds["corrector"] is bool and kinds["rtps"] is float
    assert option_kinds(DiffSRDAConfig())["guidance"] is str and option_kinds(DiffSRDAConfig())["strength"] is float


def test_ranges_are_of_traced_options():
    assert check_traced("viscosity", FilterConfig(), "enkf-sr") == "viscosity"
    with pytest.raises(ValueError, match="members: every value of it would be compiled, expected a grid of a few"):
        check_traced("members", FilterConfig(), "enkf-sr")


# Traced numbers -------------------------------------------------------------------------------


def test_configurations_that_share_a_program():
    one, two = FilterConfig(members=7, additive=0.2, viscosity=1e-5), FilterConfig(members=7, localization=2.0)
    assert split(one)[0] == split(two)[0] != split(FilterConfig(members=8))[0]
    assert set(split(one)[1]) == set(FilterParams._fields) and split(one)[1]["viscosity"] == 1e-5
    softer = dataclasses.replace(GUIDED, eta=0.3, guidance=OI(strength=0.1, iterations=4))
    assert split(GUIDED)[0] == split(softer)[0] and split(softer)[1] == {"eta": 0.3, "strength": 0.1}
    assert split(GUIDED)[0] != split(dataclasses.replace(GUIDED, guidance=DPS()))[0]
    assert "strength" not in split(dataclasses.replace(GUIDED, guidance=OI()))[1]  # the guide's own, not a number


@pytest.mark.parametrize("config", [FilterConfig(additive=0.2, rtps=0.3), GUIDED], ids=["filter", "guided"])
def test_traced_numbers_take_their_places(config):
    static, numbers = split(config)

    def values(numbers):
        made, params = joined(static, numbers, "float64")
        if params is not None:
            return params
        return {"eta": made.eta, "strength": made.guidance.strength}

    traced = jax.jit(values)(numbers)
    got = traced if isinstance(traced, dict) else traced._asdict()
    np.testing.assert_array_equal([got[name] for name in numbers], list(numbers.values()))


# Presets --------------------------------------------------------------------------------------


def write(path, **content):
    path.write_text(json.dumps(content))
    return path


def test_a_preset_file_is_a_tuning(tmp_path):
    flat = flat_options(FilterConfig(members=9, additive=0.2)) | {"rtps": 0.25}
    path = write(tmp_path / "best.json", method="letkf-sr", options=flat)
    assert method_preset("letkf-sr", tuning=path) == FilterConfig(members=9, additive=0.2, rtps=0.25)
    path = write(tmp_path / "guided.json", method="diffsrda", options=flat_options(GUIDED))
    assert method_preset("diffsrda", tuning=str(path)) == GUIDED


@pytest.mark.parametrize(
    "method, content, message",
    [
        (
            "letkf-sr",
            {"method": "enkf-sr", "options": {}},
            "a preset of enkf-sr, expected one of letkf-sr",
        ),
        ("enkf-sr", {"method": "enkf-sr"}, "expected method and options, a preset file"),
        ("enkf-sr", {"method": "enkf-sr", "options": {"steps": 3}}, "steps: not an option of enkf-sr"),
        ("enkf-sr", {"method": "enkf-sr", "options": {"members": "x"}}, "members: expected a whole number, got 'x'"),
        ("enkf-sr", {"method": "enkf-sr", "options": {"corrector": True}}, "corrector: enkf-sr does not forecast with"),
    ],
)
def test_bad_preset_files(tmp_path, method, content, message):
    with pytest.raises(ValueError, match=message):
        method_preset(method, tuning=write(tmp_path / "p.json", **content))


def test_a_preset_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match=r"tuning .*gone.json: expected a preset file of a sweep, could not read it"):
        method_preset("enkf-sr", tuning=tmp_path / "gone.json")
    (tmp_path / "no.json").write_text("{")
    with pytest.raises(ValueError, match="could not read it"):
        method_preset("enkf-sr", tuning=tmp_path / "no.json")
    with pytest.raises(ValueError, match=r"tuning: expected one of own, paper, FILE.json; got 'best'"):
        method_preset("enkf-sr", tuning="best")


def test_naming_the_prior_that_is_set_keeps_its_tuning():
    tuned = with_options(DiffSRDAConfig(prior="dual"), {"prior_localization": 0.9}, "diffsrda")
    assert with_options(tuned, {"prior": "dual"}, "diffsrda").prior_filter == tuned.prior_filter
    assert with_options(tuned, {"prior": "enkf-sr"}, "diffsrda").prior_filter is None


def test_kinds_are_those_of_the_defaults():
    assert option_kinds(FilterConfig(inflation=1))["inflation"] is float
