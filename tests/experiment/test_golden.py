"""No score changes unnoticed: golden numbers of every method, sampler, restart, guide and released weights file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import jaxsrda

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE.parent / "data" / "golden.json").read_text(encoding="utf-8"))

RELEASED = json.loads((HERE.parent / "data" / "golden_released.json").read_text(encoding="utf-8"))
ONE_PERCENT = 0.01


def check_released(name, made):
    """MAER and CRPS within one percent: room for another version of XLA, none for other weights or formulas."""
    for score in ("maer", "crps"):
        value, golden = made[score], RELEASED[name][score]
        assert abs(value - golden) <= ONE_PERCENT * golden, f"{name}: {score} {value:.5f}, golden {golden:.5f}"


def check(made):
    for name, numbers in made.items():
        for key, value in numbers.items():
            # Rounding alone: sums in another order, matrix products of other shapes.
            assert value == pytest.approx(GOLDEN[name][key], rel=1e-3, abs=1e-6), f"{name}: {key}"


def run(out, *names):
    command = [sys.executable, str(HERE / "golden.py"), str(out), *names]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_golden_numbers(tmp_path):
    made = run(tmp_path / "made.json")
    assert set(made) == set(GOLDEN)
    check(made)


def test_a_changed_score_is_noticed():
    made = {"enkf-sr": GOLDEN["enkf-sr"] | {"crps": 1.01 * GOLDEN["enkf-sr"]["crps"]}}
    with pytest.raises(AssertionError, match="enkf-sr: crps"):
        check(made)


# Released weights


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Runs of all released weights, in the package's default precision, which tests do not have."""
    return run(tmp_path_factory.mktemp("golden") / "made.json", "released")


def test_every_released_weights_file_has_golden_numbers():
    assert set(RELEASED) == {f"released {name}" for name in jaxsrda.released()}
    # What the truth's first frames allow: a run whose numbers are no better holds nothing.
    assert all(0 < numbers["maer"] < 0.05 and 0 < numbers["crps"] < 0.1 for numbers in RELEASED.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", jaxsrda.released())
def test_released_weights_score_as_they_did_within_one_percent(released, name):
    check_released(f"released {name}", released[f"released {name}"])


@pytest.mark.parametrize("score", ["maer", "crps"])
@pytest.mark.parametrize("factor, passes", [(1.0, True), (1.009, True), (1.02, False), (0.98, False)])
def test_released_scores_are_held_to_one_percent(score, factor, passes):
    name = next(iter(RELEASED))
    made = RELEASED[name] | {score: factor * RELEASED[name][score]}
    if passes:
        return check_released(name, made)
    with pytest.raises(AssertionError, match=f"{name}: {score}"):
        check_released(name, made)
