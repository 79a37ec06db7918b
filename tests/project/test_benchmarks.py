"""The benchmark suite: every case is whole, the one routine counts and times as it says, and records compare."""

import copy
import importlib.util
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxsrda.core import costs

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("the checkout is not here", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import case, compare, show, suite  # noqa: E402
from benchmarks.case import Case, Pace  # noqa: E402
from benchmarks.subjects import SUBJECTS, peers, solver  # noqa: E402

ONCE = Pace(least=1, most=1, budget=0.0)


# Costs ----------------------------------------------------------------------------------------


def test_the_account_of_a_product_is_its_size():
    a = jax.ShapeDtypeStruct((64, 32), jnp.float32)
    made = costs.compiled(lambda a: a @ a.T, a)
    assert made.costs.flops == pytest.approx(2 * 64 * 64 * 32, rel=0.1)
    assert made.costs.arguments == 4 * 64 * 32 and made.costs.outputs == 4 * 64 * 64
    assert made.costs.memory == made.costs.arguments + made.costs.outputs + made.costs.temporary
    assert made.compile > 0 and made.lower > 0


def test_a_donated_argument_counts_once():
    a = jnp.ones((64, 64), jnp.float32)
    kept, given = (costs.compiled(lambda a: a + 1, a, donate=donate).costs for donate in ((), 0))
    assert kept.memory - given.memory == a.nbytes


def test_calls_take_turns_and_the_first_round_does_not_count():
    heard = []
    times = costs.seconds_of([lambda: heard.append("a"), lambda: heard.append("b")], least=2, most=5, budget=0.0)
    assert heard == ["a", "b"] * 3 and [len(taken) for taken in times] == [2, 2]
    heard.clear()
    assert len(costs.seconds_of([lambda: heard.append("a")], least=1, most=4, budget=100.0)[0]) == 4


def test_rates_of_the_machine_are_positive():
    assert costs.matrix_rate(64, budget=0.0) > 1e6 and costs.bandwidth(1, budget=0.0) > 1e6


# Cases ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("name", SUBJECTS)
def test_cases_are_whole(name, quick):
    found = SUBJECTS[name](quick)
    names = [each.name for each in found]
    assert found and len(set(names)) == len(names)
    for each in found:
        assert each.units > 0 and each.loops >= 0 and (not each.growth or each.growth in each.size), each


def test_the_command_line_knows_the_subjects():
    assert tuple(SUBJECTS) == command.NAMES


def test_what_grows_reaches_its_ends():
    """Issue: grid 32 → 1024, members 1 → 1000, sensors 16 → 8192, steps 1 → 1000, truths 1 → 64."""
    spans = {}
    for cases in SUBJECTS.values():
        for each in cases(False):
            if each.growth:
                spans.setdefault(each.growth, []).append(each.size[each.growth])
    wanted = {"grid": (32, 1024), "members": (1, 1000), "sensors": (16, 8192), "steps": (1, 1000), "truths": (1, 64)}
    assert {name: (min(spans[name]), max(spans[name])) for name in wanted} == wanted


def test_the_body_of_a_loop_is_counted_as_often_as_it_runs():
    a = jnp.ones((16, 16), jnp.float32)

    def make(loops):
        return lambda a: jax.lax.fori_loop(0, loops, lambda _, s: s @ a, a), (a,)

    one, many = (case.measured([Case(f"{n}", lambda n=n: make(n), {}, "product", n, n)], ONCE)[0] for n in (1, 50))
    assert many["flops"] == pytest.approx(50 * 2 * 16**3, rel=0.2) and one["flops"] == pytest.approx(2 * 16**3, rel=0.2)
    assert many["seconds_per_unit"] == pytest.approx(many["least_seconds"] / 50)
    none = case.measured([Case("none", lambda: make(50), loops=0)], ONCE)[0]
    assert none["flops"] is None and none["moved_bytes"] is None and none["memory_bytes"] > 0


def test_neighbours_of_one_name_take_turns():
    cases = [
        Case("a", list, turns="x"),
        Case("b", list, turns="x"),
        Case("c", list),
        Case("d", list),
        Case("e", list, turns="x"),
    ]
    assert [[each.name for each in group] for group in case.grouped(cases)] == [["a", "b"], ["c"], ["d"], ["e"]]


def test_the_share_of_the_roof_is_of_the_slower_side():
    roof = {"matrix_flops_per_second": 10.0, "bytes_per_second": 100.0}
    row = {"flops": 50.0, "moved_bytes": 100.0, "least_seconds": 10.0}
    assert suite.share_of_roof(row, roof) == pytest.approx(0.5)
    assert suite.share_of_roof(row | {"moved_bytes": 2000.0}, roof) == pytest.approx(2.0)
    assert suite.share_of_roof(row | {"flops": None}, roof) is None


# Peers ----------------------------------------------------------------------------------------


def test_peers_that_are_not_installed_are_left_out_with_a_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert {each.size["peer"] for each in peers.cases(True)} == set(peers.OWN)
    lines = peers.missing()
    assert len(lines) == 3 and 'exponax is not installed: its rows are left out; pip install "jaxsrda[bench]"' in lines


def test_the_channel_has_as_many_points_and_modes_as_the_square():
    for each in peers.cases(False):
        n, ny = each.size["grid"], each.size["points"] // each.size["grid"]
        if each.size["peer"] == "jaxsrda":
            rows, columns = solver.jaxsrda.ChannelGrid(n, ny).spectral_shape
            assert abs(ny / n - 1) < 0.03 and abs(rows * columns / (2 * (n // 3) + 1) ** 2 - 1) < 0.03
        if each.size["peer"] == "jaxsrda, half":
            assert ny == n // 2 + 1


def row_of(name, seconds, units=1.0, **size):
    return {
        "name": name,
        "size": size,
        "growth": "",
        "least_seconds": seconds,
        "median_seconds": 1.5 * seconds,
        "seconds_per_unit": seconds / units,
        "memory_bytes": 100,
    }


def test_ratios_are_ours_over_theirs_and_the_papers_over_ours():
    here = {"grid": 128, "members": 1}
    rows = [
        row_of("ours", 2.0, 4.0, peer="jaxsrda", **here),
        row_of("half", 1.0, 4.0, peer="jaxsrda, half", **here),
        row_of("theirs", 2.0, 2.0, peer="exponax", **here),
        row_of("other size", 1.0, 1.0, peer="exponax", grid=64, members=1),
        row_of("13", 1.0, scheme="etdrk4", steps=13),
        row_of("16", 2.0, scheme="etdrk4", steps=16),
        row_of("rk2", 90.0, scheme="rk2", steps=solver.PAPER_STEPS),
    ]
    found = suite.ratios(rows, {"13": 2e-5, "14": 1e-6, "16": 5e-6})
    assert [(each["of"], each["to"], each["ratio"]) for each in found["peers"]] == [
        ("jaxsrda", "exponax", pytest.approx(0.5)),
        ("jaxsrda, half", "exponax", pytest.approx(0.25)),
    ]
    assert found["paper"] == {"16": pytest.approx(45)}  # 13 steps are not precise enough, 14 were not timed


# Runs and comparisons ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def record():
    """A run of one tiny subject in the place of a real one, rates left out."""
    a = jnp.ones((8, 8), jnp.float32)
    tiny = [Case(f"product {n}", lambda: (lambda a: a @ a, (a,)), {"grid": n}, growth="grid") for n in (8, 16)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SUBJECTS, "sweep", lambda quick: tiny)
        patch.setattr(suite, "measured_rates", lambda quick: [])
        patch.setattr(suite, "matrix_rate", lambda *_, **__: 1e9)
        patch.setattr(suite, "bandwidth", lambda *_, **__: 1e9)
        cached = jax.config.jax_enable_compilation_cache
        made = suite.run(["sweep"], True, lambda *_: None)
        jax.config.update("jax_enable_compilation_cache", cached)
    return made | {"seconds": 1.0}


def written(path, record):
    path.write_text(json.dumps(record))
    return str(path)


def test_a_record_has_rows_machine_and_provenance_and_can_be_shown(record, tmp_path, capsys):
    rows = record["subjects"]["sweep"]
    assert [row["name"] for row in rows] == ["product 8", "product 16"]
    assert all(row["provenance"]["commit"] and row["compile_seconds"] > 0 for row in rows)
    assert record["machine"]["cores_used"] >= 1 and "load_after" in record["machine"]
    show.picture(record, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
    show.table(record)
    assert "product 16" in capsys.readouterr().out


def test_what_became_slower_or_heavier_is_said_with_exit_code_1(record, tmp_path, capsys):
    before = written(tmp_path / "a.json", record)
    assert command.main(["compare", before, before]) == 0
    for key, factor, said in (("least_seconds", 1.5, "slower"), ("memory_bytes", 2, "heavier")):
        worse = copy.deepcopy(record)
        worse["subjects"]["sweep"][1][key] *= factor
        after = written(tmp_path / "b.json", worse)
        capsys.readouterr()
        assert command.main(["compare", before, after]) == 1
        printed = capsys.readouterr().out
        assert said in printed and "product 16" in printed and "product 8" not in printed
        assert command.main(["compare", after, before]) == 0 and "better" in capsys.readouterr().out
        assert command.main(["compare", before, after, "--threshold", "2.5"]) == 0


def test_cases_of_one_record_alone_are_named(record):
    other = copy.deepcopy(record)
    other["subjects"]["sweep"][0]["name"] = "new"
    assert compare.compared(record, other, 1.1)[1] == ["sweep: new", "sweep: product 8"]


def refused(capsys, message, *arguments):
    assert command.main(["compare", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("benchmarks: ") and len(error.splitlines()) == 1, error


def test_bad_comparisons_are_refused_in_one_line(record, tmp_path, capsys):
    before, other = written(tmp_path / "a.json", record), copy.deepcopy(record)
    other["machine"]["cpu"] = "another"
    after = written(tmp_path / "b.json", other)
    refused(capsys, "expected records of one machine, got cpu", before, after)
    assert command.main(["compare", before, after, "--any-machine"]) == 0
    refused(capsys, "threshold: expected a number above 1, got 1", before, before, "--threshold", "1")
    other["subjects"]["sweep"] = []
    refused(capsys, "found none in common", before, written(tmp_path / "c.json", other), "--any-machine")
    (tmp_path / "d.json").write_text("{}")
    refused(capsys, "got another JSON file", before, str(tmp_path / "d.json"))
    refused(capsys, "could not read it", before, str(tmp_path / "none.json"))


def test_an_output_that_cannot_be_written_is_refused_before_any_work(capsys):
    assert command.main(["solver", "--quick", "--out", "/nowhere/a.json"]) == 2
    assert "expected an existing folder" in capsys.readouterr().err


def test_the_page_shows_every_case_and_the_ratios(record):
    from experiments.tables.suite import suite as section

    rows = [
        row_of("theirs", 2.0, 2e9, peer="exponax", grid=128, members=1, points=128 * 128) | {"flops": None},
        row_of("rk2", 90.0, scheme="rk2", steps=2000, frames=96),
    ]
    whole = {"compile_seconds": 1.0, "unit": "step", "flops": 1e9, "moved_bytes": 1.0, "share_of_roof": 0.25}
    made = record | {
        "subjects": record["subjects"] | {"solver": [row | whole for row in rows]},
        "left_out": ["pyqg-jax is not installed"],
        "agreement": {"exponax": 1.2e-5},
        "errors": {"16": 4e-6},
        "ratios": {
            "peers": [{"grid": 128, "members": 1, "of": "jaxsrda", "to": "exponax", "ratio": 0.375}],
            "paper": {"16": 62.4},
        },
    }
    text = section({"benchmarks/suite": made})
    for shown in ("product 8", "product 16", "| rk2 | 1 | 90000 |", "25%", "pyqg-jax is not installed", "1.2e-05"):
        assert shown in text, shown
    assert "| exponax | 128 × 128 | 1 | 1.50 |" in text and "| 0.38 |" in text and "| 16 | 4.0e-06 | 62 |" in text
    assert "`python -m benchmarks all --quick --out benchmarks/results/suite.json`" in text
    alone = section({"benchmarks/suite": made, "benchmarks/suite_solver": made})
    assert alone.count("### Solver") == 1 and "python -m benchmarks solver" in alone
    assert section({}) == ""


@pytest.mark.slow
def test_a_quick_run_of_everything(tmp_path):
    """Every case compiles and runs; the record has what the page shows."""
    from experiments.tables.suite import suite as section

    assert command.main(["all", "--quick", "--out", str(tmp_path / "suite.json")]) == 0
    made = json.loads((tmp_path / "suite.json").read_text())
    assert set(made["subjects"]) == set(SUBJECTS) and made["rates"]
    assert all(row["least_seconds"] > 0 for rows in made["subjects"].values() for row in rows)
    assert all(off < 1e-4 for off in made["agreement"].values())
    if importlib.util.find_spec("exponax"):
        assert made["agreement"], "no other solver was compared"
    text = section({"benchmarks/suite": made})
    assert all(row["name"] in text for rows in made["subjects"].values() for row in rows if "peer" not in row["size"])
    assert (tmp_path / "suite.png").exists()
