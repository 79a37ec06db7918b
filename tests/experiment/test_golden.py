"""No score changes unnoticed: golden numbers of every method, sampler, restart and guide."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE.parent / "data" / "golden.json").read_text(encoding="utf-8"))


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
