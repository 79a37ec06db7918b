"""The generated pages and model cards agree with the committed records."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "experiments" / "tables").is_dir():
    pytest.skip("the checkout is not here", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from experiments.tables import load, pages  # noqa: E402

RECORDS = load()
PAGES = pages(RECORDS)

CHANGES = {
    "experiments/reconstruction": ("diffsrda", "scores", "maer", "mean"),
    "experiments/deterministic": ("rows", "residual", "scores", "maer", "mean"),
    "experiments/few_steps": ("rows", "dpmpp-2m, 4", "crps", "mean"),
    "experiments/latent": ("rows", "kl", "scores", "crps", "low"),
    "experiments/mixup": ("rows", "mixup", "per_truth", "maer", 0),
    "experiments/mixup_4dsrda-small": ("rows", "clean", "held_out", "regression"),
    "experiments/perfect_starts": ("lr", "maer", 2),
    "experiments/sensor_shift": ("rows", "8-4/oi", "scores", "maer", "high"),
    "experiments/target_level": ("rows", 0, "maer", "mean"),
    "experiments/training_length": ("rows", "8 runs, all times", "scores", "maer", "mean"),
    "benchmarks/convolution": ("convolutions", 0, "forward_gflops"),
    "benchmarks/cycle": ("methods", "enkf-hr", "cycle_seconds"),
    "benchmarks/cycle_cnn": ("methods", "cnn", "cycle_seconds"),
    "benchmarks/cycle_diffsrda": ("methods", "diffsrda", "cycle_seconds"),
    "benchmarks/cycle_latent": ("methods", "latent-diffsrda", "cycle_seconds"),
    "benchmarks/cycle_student": ("methods", "diffsrda", "cycle_seconds"),
    "benchmarks/guidance_diffsrda-small": ("rows", "oi", "ratio"),
    "benchmarks/residual_covariance": ("variance", 0),
    "benchmarks/solver": ("full_run", "seconds", "etdrk4_25"),
    "benchmarks/transforms": ("transforms", 0, "microseconds", "matrices"),
    "benchmarks/tune_enkf-dual": ("runs", 0, "mean", "maer"),
    "benchmarks/tune_enkf-hr": ("runs", 0, "mean", "maer"),
    "benchmarks/tune_enkf-sr": ("runs", 0, "mean", "maer"),
    "released/4dsrda-small": ("validation", "last", "regression"),
    "released/diffsrda-small": ("validation", "last", "regression"),
    "released/diffsrda-small-student": ("validation", "last", "diffusion"),
    "released/latent-kl-small": ("autoencoder", "validation", "relative_l1"),
}
"""One number of each record that a page shows."""


@pytest.mark.parametrize("name", PAGES)
def test_in_step(name):
    path = ROOT / name
    assert path.exists(), f"{name} is missing; run python -m experiments.tables"
    assert path.read_text(encoding="utf-8") == PAGES[name], f"{name} is out of step; run python -m experiments.tables"


def test_every_record_has_a_number_here():
    assert set(CHANGES) == set(RECORDS)


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_number_changes_a_page(name):
    record = copy.deepcopy(RECORDS[name])
    *keys, last = CHANGES[name]
    inner = record
    for key in keys:
        inner = inner[key]
    inner[last] *= 1.5
    changed = pages(RECORDS | {name: record})
    assert changed.keys() == PAGES.keys() and changed != PAGES


def test_verdicts_follow_the_numbers():
    from experiments.tables.claims import above, below, within

    value = {"mean": 0.9, "low": 0.8, "high": 0.95}
    assert [rule(value)[1] for rule in (below, above)] == ["holds", "fails"]
    assert below(value | {"high": 1.1})[1] == "open"
    assert (
        within({"mean": 1.0, "low": 0.97, "high": 1.02})[1] == "holds" and within(value | {"high": 0.94})[1] == "fails"
    )


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)#]+)\)", PAGES[name]):
        if not target.startswith("http"):
            assert ((ROOT / name).parent / target).exists(), f"{name}: {target}"


@pytest.mark.parametrize("name", PAGES)
def test_prose_is_narrow_and_numbers_are_numbers(name):
    text = re.sub(r"```.*?```", "", PAGES[name], flags=re.DOTALL)
    prose = [line for line in text.splitlines() if not line.startswith(("|", "!"))]
    assert max(map(len, prose)) <= 120
    assert not re.search(r"\b(nan|None|inf)\b", text)


@pytest.mark.parametrize("name", PAGES)
def test_tables_have_equal_rows(name):
    for block in PAGES[name].split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1, block[:200]


def test_check_option():
    """The command agrees that nothing is out of step, and writes nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "experiments.tables", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
