"""Settings to try: grids, random draws, files, and their products."""

import json

import numpy as np
import pytest

from jaxsrda.experiment.space import check_range, combined, grid_settings, random_settings, read_settings, varied


def test_a_grid_has_every_combination():
    assert grid_settings(a=[1, 2], b=["x", "y"]) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]
    assert grid_settings() == [{}]
    for values in ([], "xy"):
        with pytest.raises(ValueError, match="a: expected a sequence of at least one value"):
            grid_settings(a=values)


def test_random_settings_are_reproducible_and_in_their_ranges():
    settings = random_settings(400, seed=3, additive=(0.01, 1.0), rtps=(0.0, 0.8))
    assert settings == random_settings(400, seed=3, rtps=(0.0, 0.8), additive=(0.01, 1.0))
    assert settings[:5] == random_settings(5, seed=3, additive=(0.01, 1.0), rtps=(0.0, 0.8))
    # One option more leaves the others as they were; another seed does not.
    more = random_settings(5, seed=3, additive=(0.01, 1.0), localization=(0.1, 1.0))
    assert [s["additive"] for s in more] == [s["additive"] for s in settings[:5]]
    assert random_settings(5, seed=4, additive=(0.01, 1.0)) != random_settings(5, seed=3, additive=(0.01, 1.0))
    additive, rtps = (np.array([s[name] for s in settings]) for name in ("additive", "rtps"))
    assert additive.min() >= 0.01 and additive.max() <= 1 and rtps.min() >= 0 and rtps.max() <= 0.8
    assert np.median(additive) == pytest.approx(0.1, rel=0.25)  # a scale: its logarithm is uniform
    assert np.median(rtps) == pytest.approx(0.4, rel=0.1)  # a fraction: linear


@pytest.mark.parametrize(
    "name, ends, message",
    [
        ("additive", (0.0, 1.0), "additive: its logarithm is drawn, expected a range above 0, got 0 to 1"),
        ("rtps", (0.5, 0.5), r"rtps: expected a range, two numbers low < high, got 0.5, 0.5"),
        ("rtps", (0.5, float("nan")), "rtps: expected a range"),
        ("rtps", (0.5,), "rtps: expected a range"),
    ],
)
def test_bad_ranges(name, ends, message):
    with pytest.raises(ValueError, match=message):
        check_range(name, ends)
    with pytest.raises(ValueError, match="samples: expected at least 1, got 0"):
        random_settings(0, rtps=(0.0, 1.0))


def test_parts_are_combined():
    assert combined([{"a": 1}, {"a": 2}], [{"b": 3}]) == [{"a": 1, "b": 3}, {"a": 2, "b": 3}]
    with pytest.raises(ValueError, match="a: given twice; leave it in one of grid, random and list"):
        combined([{"a": 1}], [{"a": 2}])


def test_lists_are_read(tmp_path):
    (tmp_path / "s.csv").write_text("additive, members\n0.1, 5\n0.2,\n")
    assert read_settings(tmp_path / "s.csv") == [{"additive": "0.1", "members": "5"}, {"additive": "0.2"}]
    wanted = [{"additive": 0.1, "blur": [1.0, 2.0]}, {"members": 4}]
    (tmp_path / "s.json").write_text(json.dumps([*wanted[:1], wanted[1] | {"additive": None}]))
    assert read_settings(tmp_path / "s.json") == wanted


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.csv", "additive\n0.1,2\n", "setting 1 has more values than there are names"),
        ("a.csv", "additive\n", "expected a list of settings"),
        ("a.json", '{"additive": 1}', "expected a list of settings"),
        ("a.json", "[", "could not read it"),
        ("a.txt", "", "expected a .csv or a .json file, got .txt"),
        ("gone.csv", None, "expected a CSV or JSON file, could not read it"),
    ],
)
def test_bad_lists(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_settings(tmp_path / name)


def test_what_varies():
    settings = [{"a": 2, "b": 1, "c": "x"}, {"a": 1, "b": 1}, {"a": 2, "b": 1, "c": "y"}]
    assert varied(settings) == {"a": [1, 2], "c": ["x", None, "y"]}


def test_an_option_of_two_parts_is_refused_wherever_it_stands():
    with pytest.raises(ValueError, match="localization: given twice; leave it in one of grid, random and list"):
        combined([{"additive": 0.1}, {"localization": 0.5}], [{"localization": 0.3}])
