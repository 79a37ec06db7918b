"""The generated pages and model cards agree with the committed records."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "experiments" / "tables").is_dir():
    pytest.skip("the checkout is not here", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from experiments.tables import load, pages  # noqa: E402

RECORDS = load()
PAGES = pages(RECORDS)


def best_run(name):
    """The number of the run of lowest CRPS, which a long table shows."""
    return int(np.argmin([run["mean"]["crps"] for run in RECORDS[name]["runs"]]))


def scored(of):
    """The number of the line of a log that has these scores."""
    return next(i for i, line in enumerate(RECORDS["logs/accelerator"]) if line.get("of") == of and "maer" in line)


CHANGES = {
    "experiments/reconstruction": ("diffsrda", "scores", "maer", "mean"),
    "experiments/deterministic": ("rows", "residual", "scores", "maer", "mean"),
    "experiments/few_steps": ("rows", "dpmpp-2m, 4", "crps", "mean"),
    "experiments/latent": ("rows", "kl", "scores", "crps", "low"),
    "experiments/layouts": ("lattice:4", "enkf-lagrange", "scores", "maer", "mean"),
    "experiments/mixup": ("rows", "mixup", "per_truth", "maer", 0),
    "experiments/mixup_4dsrda-small": ("rows", "clean", "held_out", "regression"),
    "experiments/perfect_starts": ("lr", "maer", 2),
    "experiments/sensor_shift": ("rows", "8-4/oi", "scores", "maer", "high"),
    "experiments/soak": ("rows", "enkf-sr", "blocks", "maer", 0, 3),
    "experiments/target_level": ("rows", 0, "maer", "mean"),
    "experiments/truth_agreement": ("difference", 0, 23),
    "experiments/training_length": ("rows", "8 runs, all times", "scores", "maer", "mean"),
    "benchmarks/convolution": ("convolutions", 0, "forward_gflops"),
    "benchmarks/cycle": ("methods", "enkf-hr", "cycle_seconds"),
    "benchmarks/cycle_carried": ("methods", "diffsrda", "cycle_seconds"),
    "benchmarks/cycle_cnn": ("methods", "cnn", "cycle_seconds"),
    "benchmarks/cycle_diffsrda": ("methods", "diffsrda", "cycle_seconds"),
    "benchmarks/cycle_lagrange": ("methods", "enkf-lagrange", "cycle_seconds"),
    "benchmarks/cycle_latent": ("methods", "latent-diffsrda", "cycle_seconds"),
    "benchmarks/cycle_student": ("methods", "diffsrda", "cycle_seconds"),
    "benchmarks/guidance_diffsrda-small": ("rows", "oi", "ratio"),
    "benchmarks/residual_covariance": ("variance", 0),
    "benchmarks/solver": ("full_run", "seconds", "etdrk4_25"),
    "benchmarks/transforms": ("transforms", 0, "microseconds", "matrices"),
    "benchmarks/tune_enkf-dual": ("runs", 0, "mean", "maer"),
    **{
        f"benchmarks/tune_{method}-lagrange": ("runs", best_run(f"benchmarks/tune_{method}-lagrange"), "mean", "maer")
        for method in ("enkf", "enkf-dual", "oi")
    },
    "benchmarks/tune_enkf-hr": ("runs", 0, "mean", "maer"),
    "benchmarks/tune_enkf-sr": ("runs", 0, "mean", "maer"),
    **{
        name: ("tasks", next(iter(row["tasks"])), "per_truth", "maer", 0)
        for name, row in RECORDS.items()
        if name.startswith("leaderboard/")
    },
    **{
        name: ("subjects", list(record["subjects"])[-1], 0, "compile_seconds")
        for name, record in RECORDS.items()
        if name.startswith("benchmarks/suite")
    },
    "logs/accelerator": (scored("small, carried"), "maer"),
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


def ranked(text, task):
    """The lines of the tables of a task on the leaderboard as rank, method, and ratio to the reference; their text."""
    section = text.split(f"### {task} (jet-v1)")[1].split("###")[0]
    lines = [line.split(" | ") for line in section.splitlines() if re.match(r"\| \d+ \|", line)]
    return [(line[0].strip("| "), line[1].strip("`"), line[-1].strip(" |")) for line in lines], section


def test_rows_are_ranked_among_those_of_the_same_truths():
    from experiments.tables.leaderboard import leaderboard_page

    def row(name, values, digests="abc", **more):
        seeds = list(range(len(values)))
        entry = {"seeds": seeds, "members": 1, "per_truth": {"maer": values}, "provenance": run_of()} | more
        entry["command"] = f"run {name}"
        found = {"name": "jet-v1", "fingerprint": "f", "tasks": ["lattice-8", "sparse"], "truth_seeds": [0, 1, 2]}
        truths = {str(seed): digests[seed] for seed in seeds}
        tasks = {"lattice-8": entry}
        cost = {"reference": "enkf-lagrange", "reference_hash": "h", "ratio": 0.25}
        return {
            "name": name,
            "protocol": found,
            "truths": truths,
            "tasks": tasks,
            "cost": cost,
            "method": {"spec": name, "settings": {}, "hash": "h"},
        }

    beside = {"method": "enkf-lagrange", "hash": "h", "seeds": [0, 1, 2], "per_truth": {"maer": [0.1, 0.1, 0.1]}}
    rows = [
        row("enkf-lagrange", [0.1, 0.2, 0.4]),
        row("worse", [0.2, 0.4, 0.8]),
        row("few", [0.01]),
        row("elsewhere", [0.2, 0.2, 0.2], "xyz", reference=beside),
    ]
    text = leaderboard_page({f"leaderboard/jet-v1/{row['name']}": row for row in rows})
    found, section = ranked(text, "lattice-8")
    assert found == [
        ("1", "enkf-lagrange", "1.000 [1.000, 1.000]"),
        ("2", "worse", "2.000 [2.000, 2.000]"),
        ("1", "elsewhere", "2.000 [2.000, 2.000]"),
        ("1", "few", "0.100 [0.100, 0.100]"),
    ]
    assert "3 truths (seeds 0 to 2), those of another machine:" in section and "1 truth (seed 0):" in section
    assert "| `few` | | 0.010 (1) | – | 0.25 |" in text and "| `worse` | | 0.467 | – | 0.25 |" in text
    assert "- `worse`: `run worse`" in text and "### sparse" not in text
    order = re.findall(r"^\| `(.+?)` \|", text, re.M)  # of the overview: others are numbered
    assert order == ["elsewhere", "enkf-lagrange", "few", "worse"]
    # Commands of all runs are listed, once each.
    rows[1]["tasks"]["lattice-8"]["earlier"] = [{"seeds": [0], "command": "run before", "provenance": run_of()}]
    assert "- `worse`: `run before`; `run worse`" in leaderboard_page(
        {f"leaderboard/jet-v1/{r['name']}": r for r in rows}
    )
    # A name does not make a row the reference, nor does a variant of its method.
    for method in ({"spec": "mine:x"}, {"spec": "enkf-lagrange", "options": {"members": "10"}}):
        rows[0]["method"] = {"settings": {}, "hash": "other", **method}
        found, _ = ranked(leaderboard_page({f"leaderboard/jet-v1/{r['name']}": r for r in rows}), "lattice-8")
        assert [line[2] for line in found] == ["–", "–", "2.000 [2.000, 2.000]", "–"]
    # Rows that were divided by other settings of it do not stand on one page.
    beside["hash"] = "older"
    with pytest.raises(
        ValueError, match=r"leaderboard/jet-v1: expected one enkf-lagrange .* hash h: .*; older: elsewhere"
    ):
        leaderboard_page({f"leaderboard/jet-v1/{r['name']}": r for r in rows})


def test_rows_are_of_the_protocols_of_today():
    from jaxsrda import PROTOCOLS

    for name, row in RECORDS.items():
        if name.startswith("leaderboard/"):
            _, protocol, stem = name.split("/")
            assert row["name"] == stem and row["protocol"]["fingerprint"] == PROTOCOLS[protocol].fingerprint, name
            assert row["tasks"]
            for entry in row["tasks"].values():
                assert entry["command"].startswith("jaxsrda benchmark "), name


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


# Names and provenance -------------------------------------------------------------------------


def test_old_and_new_names_give_the_same_pages():
    from experiments.tables.records import renewed

    new = renewed(RECORDS)
    job, old = new["released/diffsrda-small"]["job"], RECORDS["released/diffsrda-small"]["job"]
    assert job["on_policy"] == old["visit"] and "visit" not in job
    assert job["data"][0]["extra_layouts"] == old["data"][0]["others"]
    assert job["data"][0]["noise_std"] == old["data"][0]["observation_std"]
    assert job["training"]["sigmas"] == old["training"]["levels"]
    settings = new["experiments/reconstruction"]["enkf-hr"]["settings"]
    assert settings["assumed_std"] == 0 and "noise_std" not in settings
    settings = new["experiments/deterministic"]["settings"]
    assert settings["policy"] == "diffsrda-small" and "visitor" not in settings
    assert set(new["experiments/sensor_shift"]["rows"]) == set(RECORDS["experiments/sensor_shift"]["rows"])
    assert new == renewed(new) and pages(new) == PAGES


def test_the_level_of_new_records_may_be_that_of_the_testbed():
    records = copy.deepcopy(RECORDS)
    for data in records["released/4dsrda-small"]["job"]["data"]:
        data |= {"level": "", "testbed": {"truth": {"name": "fine"}}}
    assert pages(records) == PAGES


def run_of(commit="0123456789abcdef", **changes):
    """The provenance of a run."""
    run = {"commit": commit, "dirty": False, "source": "feedfeedfeed", "versions": {"jax": "0.10.2"}}
    return run | {"device": {"platform": "gpu", "kind": "NVIDIA H100"}, "date": "2026-12-01T10:00:00+00:00"} | changes


def bare(record):
    """A record that does not say which code made its rows."""
    if isinstance(record, dict):
        return {key: bare(value) for key, value in record.items() if key != "provenance"}
    return [bare(value) for value in record] if isinstance(record, list) else record


@pytest.mark.parametrize(
    "name, within",
    [
        ("experiments/reconstruction", ("diffsrda",)),
        ("experiments/deterministic", ("rows", "residual")),
        ("experiments/few_steps", ("rows", "ddim eta=1, 4")),
        ("experiments/latent", ("autoencoders", "vq")),
        ("experiments/latent", ("rows", "kl")),
        ("experiments/mixup_4dsrda-small", ("rows", "mixup")),
        ("experiments/perfect_starts", ("lr",)),
        ("experiments/sensor_shift", ("rows", "8-4/oi")),
        ("experiments/sensor_shift", ("rows", "noise/projected")),
        ("experiments/target_level", ("rows", 0)),
        ("experiments/training_length", ("rows", "8 runs, all times")),
        ("benchmarks/convolution", ("convolutions", 0)),
        ("benchmarks/cycle_cnn", ("methods", "cnn")),
        ("benchmarks/guidance_diffsrda-small", ("rows", "oi")),
        ("benchmarks/residual_covariance", ()),
        ("benchmarks/solver", ("work_precision", 0)),
        ("benchmarks/solver", ("full_run",)),
        ("benchmarks/transforms", ("transforms", 0)),
        ("benchmarks/tune_enkf-dual", ("runs", 0)),
    ],
)
def test_the_commit_of_a_row_is_named_below_its_table(name, within):
    records = {other: bare(record) for other, record in RECORDS.items()}
    row = records[name]
    for key in within:
        row = row[key]
    row["provenance"] = run_of()
    page = pages(records)[f"{name.partition('/')[0]}/README.md"]
    assert page.count("commit `0123456789` (source `feedfeedfeed`, NVIDIA H100)") in (1, 2)
    assert (
        "does not say which code made" in " ".join(page.split()) or not within or name == "experiments/perfect_starts"
    )


def test_strengths_of_guidance_name_their_commit():
    record = copy.deepcopy(RECORDS["experiments/sensor_shift"])
    record["tuning"]["8-12/oi"]["by"] = {"0.5": run_of()}
    assert "commit `0123456789`" in pages(RECORDS | {"experiments/sensor_shift": record})["experiments/README.md"]


def test_rows_of_several_commits():
    from experiments.tables.origin import made_at

    rows = [{"provenance": run_of()}, {"provenance": run_of(date="2026-12-03T10:00:00+00:00")}, {}]
    rows.append({"provenance": run_of("unknown", dirty="unknown")})
    rows.append({"provenance": run_of("fedcba9876543210", dirty=True)})
    text = " ".join(made_at(rows).split())
    assert "commit `0123456789` (source `feedfeedfeed`, NVIDIA H100), 2026-12-01 to 2026-12-03;" in text
    assert "an unknown commit (source" in text and "commit `fedcba9876` with changes (source" in text
    assert text.endswith("The record does not say which code made 1 of the 5 rows.")
    assert made_at([{}, {}]) == ""


def test_choices_on_test_truths_are_admitted():
    def text(record):
        return " ".join(pages(RECORDS | {"experiments/few_steps": record})["experiments/README.md"].split())

    record = copy.deepcopy(RECORDS["experiments/few_steps"])
    assert "was chosen by this record, although its truths are test truths" in text(record)
    assert "few_steps.py --truths 4 --test-truths`" in text(record)
    record["settings"]["test_truths"] = False
    assert "4 validation truths (seeds 1000 to 1003)" in text(record) and "although its truths" not in text(record)
    assert "few_steps.py --truths 4`" in text(record)
