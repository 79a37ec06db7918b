"""Rows: what is scored, what is kept, what goes on after a kill, and how bad methods end."""

import importlib
import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import TESTBED, setup

import jaxsrda
from benchmark import methods
from benchmark.conftest import SMALLEST, truths
from jaxsrda.benchmark import Row, Selection, entrant, read_row, run_benchmark
from jaxsrda.benchmark.row import COMPARED, KEPT, interval, made, ratio_of
from jaxsrda.benchmark.run import Scorer, reference_for
from jaxsrda.experiment.result import DivergedError
from jaxsrda.scoring.point import maer


def test_a_row_has_the_scores_of_assimilate(protocol, tmp_path):
    row = run_benchmark(methods.hold, protocol, tmp_path / "hold.json", tasks=("speed",), reference="none")
    experiment = jaxsrda.assimilate(
        methods.hold,
        truths(TESTBED, (0, 1)),
        testbed=TESTBED,
        climatology=setup().climatology,
        sensors=protocol.task("speed").sensors(TESTBED.grid),
        truth_seeds=(0, 1),
        joint=True,
    )
    entry = row.data["tasks"]["speed"]
    assert entry["seeds"] == [0, 1] and entry["members"] == 2 and set(entry["per_truth"]) == set(KEPT)
    for score, values in entry["per_truth"].items():
        assert values == pytest.approx(experiment.per_truth[score].tolist(), rel=1e-5), score
    assert entry["scores"]["crps"] == interval(entry["per_truth"]["crps"])
    # The mean analysis is the climatology of time zero, which can be scored by hand.
    mean = jaxsrda.to_physical(TESTBED.grid, setup().climatology.mean[0])
    by_hand = [np.mean([maer(mean, frame) for frame in each[4:]]) for each in truths(TESTBED, (0, 1))]
    assert entry["per_truth"]["maer"] == pytest.approx(by_hand, rel=1e-5)
    assert json.loads((tmp_path / "hold.json").read_text())["tasks"]["speed"]["scores"] == entry["scores"]
    assert row.data["cost"]["task"] == "speed" and row.data["cost"]["ratio"] is None
    assert 0 < row.data["cost"]["cycle_seconds"] < 10


def test_a_killed_run_goes_on(protocol, tmp_path):
    """Of two truths, one is scored when the run is stopped; only the other is run afterwards."""

    def stop(what, done, total):
        if (what, done) == ("lattice-4, hold", 1):
            raise KeyboardInterrupt

    path, options = tmp_path / "hold.json", {"tasks": ("lattice-4",), "reference": "none"}
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(methods.hold, protocol, path, stop, **options)
    assert read_row(path)["tasks"]["lattice-4"]["seeds"] == [0]
    done = []
    row = run_benchmark(methods.hold, protocol, path, lambda what, *count: done.append((what, *count)), **options)
    assert done == [("lattice-4, hold", 1, 2), ("lattice-4, hold", 2, 2)]
    whole = run_benchmark(methods.hold, protocol, None, at_once=2, **options)
    assert row.data["tasks"]["lattice-4"]["per_truth"]["maer"] == pytest.approx(
        whole.data["tasks"]["lattice-4"]["per_truth"]["maer"], rel=1e-5
    )
    # Nothing is left to do; a cost that was measured stays.
    again = run_benchmark(methods.hold, protocol, path, lambda *_: pytest.fail("something ran"), **options)
    assert again.data == row.data


def test_scores_of_other_code_are_made_anew(protocol, tmp_path):
    path, options = tmp_path / "hold.json", {"tasks": ("lattice-4",), "truths": 1, "reference": "none"}
    run_benchmark(methods.hold, protocol, path, **options)
    found = json.loads(path.read_text())
    found["tasks"]["lattice-4"]["per_truth"]["maer"] = [7.0]
    found["tasks"]["lattice-4"]["provenance"]["source"] = found["cost"]["provenance"]["source"] = "another"
    path.write_text(json.dumps(found))
    kept = run_benchmark(methods.hold, protocol, path, reuse_any_code=True, **options)
    assert kept.data["tasks"]["lattice-4"]["per_truth"]["maer"] == [7.0]
    anew = run_benchmark(methods.hold, protocol, path, **options)
    assert anew.data["tasks"]["lattice-4"]["per_truth"]["maer"][0] < 5
    assert anew.data["tasks"]["lattice-4"]["seeds"] == [0]


def test_truths_of_other_code_stay_where_any_code_will_do(tmp_path, monkeypatch):
    """They keep their command and their stamp; without `any_code` all go."""
    monkeypatch.setattr("jaxsrda.core.provenance._code", lambda: {"source": source[0], "versions": {}})
    source, path = ["older"], tmp_path / "row.json"
    row = Row.opened(path, "mine", SMALLEST, {"spec": "a"}, {"command": "first"})
    row.add("speed", (1, 0), {"maer": [0.5, 0.25]}, {}, 2)
    source[0] = "newer"
    row = Row.opened(path, "mine", SMALLEST, {"spec": "a"}, {"command": "second"})
    assert row.missing("speed", (0, 1, 2), True) == (2,) and row.missing("speed", (0, 1, 2)) == (0, 1, 2)
    row.add("speed", (2,), {"maer": [1.0]}, {}, 2, any_code=True)
    row.add("speed", (3,), {"maer": [2.0]}, {}, 2, any_code=True)
    entry = read_row(path)["tasks"]["speed"]
    assert entry["seeds"] == [0, 1, 2, 3] and entry["per_truth"]["maer"] == [0.25, 0.5, 1.0, 2.0]
    found = [(each["seeds"], each["command"], each["provenance"]["source"]) for each in made(entry)]
    assert found == [([0, 1], "first", "older"), ([2, 3], "second", "newer")]
    assert row.missing("speed", (2,)) == (2,)
    row.add("speed", (2,), {"maer": [3.0]}, {}, 2)
    assert row.data["tasks"]["speed"]["seeds"] == [2] and "earlier" not in row.data["tasks"]["speed"]


def test_a_reference_of_other_settings_is_run_again():
    row, beside = (Row(name, SMALLEST, {"spec": name, "hash": name}) for name in ("mine", "other"))
    for each in (row, beside):
        each.add("speed", (0,), {score: [0.5] for score in COMPARED}, {}, 2)
    row.compare("speed", beside)
    assert row.compared("speed", "other") and not row.compared("speed", "changed")
    row.put_cost("speed", {"reference": "other", "reference_hash": "other", "ratio": 2.0})
    assert not row.cost_is_due("other") and row.cost_is_due("changed") and not row.cost_is_due(None)
    row.data["tasks"]["speed"]["reference"]["provenance"]["source"] = "another"
    assert not row.compared("speed", "other") and row.compared("speed", "other", True)


def test_presets_on_other_testbeds_are_in_the_hash(monkeypatch):
    """They were once those of `jet`: ratios on a smaller testbed are to another reference since."""
    module = importlib.import_module("jaxsrda.benchmark.entrant")  # the package has the function under this name

    today, preset = entrant("enkf-lagrange").identity, module.method_preset
    assert entrant("enkf-lagrange").identity == today
    monkeypatch.setattr(
        module, "method_preset", lambda method, layout="lattice:8", testbed="jet": preset(method, layout)
    )
    assert entrant("enkf-lagrange").identity != today


def test_a_variant_of_the_reference_has_it_beside_it(protocol):
    plan = Selection(protocol, reference="enkf-lagrange")
    other = reference_for(entrant("enkf-lagrange", None, {"members": "10"}), plan)
    assert other is not None and other.identity == entrant("enkf-lagrange").identity
    assert reference_for(entrant("enkf-lagrange", "mine"), plan) is None
    assert reference_for(entrant(methods.hold), Selection(protocol, reference="none")) is None


def test_a_method_that_changed_is_scored_anew(protocol, tmp_path):
    path, options = tmp_path / "hold.json", {"tasks": ("lattice-4",), "truths": 1, "reference": "none"}
    run_benchmark(methods.hold, protocol, path, **options)
    other = lambda setup: methods.hold(setup, 4)  # noqa: E731
    other.__name__ = "hold"
    with pytest.warns(UserWarning, match="the method has changed since; it is scored anew"):
        row = run_benchmark(other, protocol, path, **options)
    assert row.data["tasks"]["lattice-4"]["members"] == 4


def test_files_of_something_else_are_refused(protocol, tmp_path):
    path = tmp_path / "row.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"row.json: expected the file of a row, found other JSON; move it, or choose"):
        Row.opened(path, "hold", protocol, {})
    path.write_text("{")
    with pytest.raises(ValueError, match=r"row.json: expected the file of a row, could not read it"):
        read_row(path)
    row = Row.opened(tmp_path / "new.json", "hold", protocol, {"spec": "a", "settings": {"members": 2}})
    row.check_truths({0: "aa"})
    row.save()
    with pytest.raises(ValueError, match=r"a row of another name, expected free under smallest; move it"):
        Row.opened(row.path, "free", protocol, {})
    with pytest.raises(ValueError, match=r"a row of a with other settings; move it, or choose another --name"):
        Row.opened(row.path, "hold", protocol, {"spec": "a", "settings": {"members": 3}})
    with pytest.raises(
        ValueError, match=r"its truth 0 is not this machine's, bit by bit; finish it where it was begun"
    ):
        row.check_truths({0: "bb"})


def test_a_reference_runs_on_the_same_truths_once(protocol, tmp_path, monkeypatch):
    """Its scores are those of its own row beside this one, or of the cache, and only else made."""
    monkeypatch.setattr("jaxsrda.benchmark.run.REFERENCES", ("persistence", "none"))
    options = {"tasks": ("lattice-4",), "reference": "persistence"}
    ran = []

    def progress(what, *_):
        ran.append(what)

    row = run_benchmark(methods.hold, protocol, tmp_path / "hold.json", progress, **options)
    assert "lattice-4, persistence" in ran
    entry = row.data["tasks"]["lattice-4"]
    other = entry["reference"]["per_truth"]["maer"]
    assert row.ratio("lattice-4")["mean"] == pytest.approx(np.mean(np.divide(entry["per_truth"]["maer"], other)))
    assert row.data["cost"]["ratio"] > 0 and row.data["cost"]["reference"] == "persistence"
    ran.clear()
    second = run_benchmark(methods.hold, protocol, None, progress, **options)
    assert "lattice-4, persistence" not in ran  # from the cache
    assert second.data["tasks"]["lattice-4"]["reference"] == entry["reference"]
    own = run_benchmark("persistence", protocol, tmp_path / "persistence.json", **options)
    assert "reference" not in own.data["tasks"]["lattice-4"] and own.data["cost"]["ratio"] is None
    assert own.data["tasks"]["lattice-4"]["per_truth"]["maer"] == pytest.approx(other)
    found = json.loads((tmp_path / "persistence.json").read_text())
    found["tasks"]["lattice-4"]["per_truth"]["maer"] = [0.5, 0.5]
    (tmp_path / "persistence.json").write_text(json.dumps(found))
    third = run_benchmark(methods.hold, protocol, tmp_path / "third.json", **options)
    assert third.data["tasks"]["lattice-4"]["reference"]["per_truth"]["maer"] == [0.5, 0.5]  # from its row


def test_a_ratio_pairs_truths():
    entry = {"seeds": [0, 1, 2], "per_truth": {"maer": [1.0, 2.0, 3.0]}}
    assert ratio_of(entry, "maer") is None
    entry["reference"] = {"seeds": [2, 1], "per_truth": {"maer": [1.0, 4.0]}}
    assert ratio_of(entry, "maer")["mean"] == pytest.approx((3 + 0.5) / 2)
    assert ratio_of(entry, "crps") is None


@pytest.mark.parametrize(
    "name, message",
    [
        ("raises", r"raises: KeyError when it was called with a Setup \(methods.py, line \d+\): 'no such thing'"),
        ("no_assimilator", r"no_assimilator: expected it to return an Assimilator, got int"),
        ("init_raises", r"init_raises: RuntimeError in init \(methods.py, line \d+\): lost"),
        ("no_window", r"no_window: expected step to return \(state, Window\), got Window"),
        ("wrong_members", r"expected window.omega of shape \(5, 4, 32, 17\) \(members, frames of a cycle, nx, ny\)"),
        ("wrong_frames", r"expected window.omega of shape \(2, 4, 32, 17\) .*, got \(2, 2, 32, 17\)"),
        ("wrong_state", r"expected step to return a state like that of init, float\d\d\[2, 32, 17\], got float\d\d\[1"),
        ("wrong_type", r"wrong_type: expected window.omega in float\d\d, got float16"),
        ("not_finite", r"task lattice-4, truth 0: .*not_finite: truth 0, time 0: the ensemble is no longer finite"),
        ("number", r"number: expected a function Setup → Assimilator, an Assimilator, or a Method, got int"),
        ("field", r"field: expected a function Setup → Assimilator, an Assimilator, or a Method, got ndarray"),
        ("Setup", r"benchmark.methods has no Setup; it has .*hold"),
    ],
    ids=lambda text: text if text.isidentifier() else "",
)
def test_bad_methods_end_in_one_line(protocol, name, message):
    with pytest.raises((ValueError, TypeError), match=message):
        run_benchmark(f"benchmark.methods:{name}", protocol, None, tasks=("lattice-4",), truths=1, reference="none")


def test_a_lost_ensemble_is_named_and_can_be_sent():
    error = DivergedError(2, "time 3: lost")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "truth 2, time 3: lost" and (again.truth, again.told) == (2, "time 3: lost")
    scorer, given = SimpleNamespace(task=SimpleNamespace(name="lattice-4")), SimpleNamespace(spec="mine")
    with pytest.raises(ValueError, match=r"^task lattice-4, truth 2: mine: truth 2, time 3: lost$"):
        with Scorer.named(scorer, given, [2]):
            raise error


@pytest.mark.parametrize(
    "spec, message",
    [
        ("no_such_module:thing", r"no_such_module:thing: expected a module no_such_module, found none no_such_module"),
        ("benchmark.nothing:thing", r"expected a module benchmark.nothing, found none benchmark.nothing; run this"),
        ("benchmark.methods:", r"method: expected package.module:attribute, got 'benchmark.methods:'"),
        ("enkf-rs", r"method: expected package.module:attribute, a folder or file of analyses, or one of enkf-hr, .*"),
    ],
)
def test_bad_names_end_in_one_line(spec, message):
    with pytest.raises(ValueError, match=message):
        entrant(spec)


def test_a_module_that_raises_is_said(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("import jaxsrda\nx = 1 / 0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=r"ZeroDivisionError while broken_module was imported \(broken_module.py, line 2\)"
    ):
        entrant("broken_module:x")


def test_a_task_that_a_method_cannot_do_is_said_before_any_is_scored(protocol, tmp_path):
    with pytest.raises(
        ValueError, match=r"task speed: no_speeds: ValueError when it was called .*: only vorticity, please"
    ):
        run_benchmark(methods.no_speeds, protocol, tmp_path / "row.json", lambda *_: pytest.fail("something ran"))
    assert not (tmp_path / "row.json").exists()


def test_values_of_all_kinds_are_taken(protocol):
    options = {"tasks": ("lattice-4",), "truths": 1, "reference": "none"}
    made = entrant(methods.a_method, "four")
    assert made.settings["config"]["members"] == 4
    assert run_benchmark(made, protocol, None, **options).data["tasks"]["lattice-4"]["members"] == 4
    value = methods.hold(setup(), 3)
    assert run_benchmark(value, protocol, None, **options).data["tasks"]["lattice-4"]["members"] == 3


def test_options_of_a_method_by_name():
    made = entrant("enkf-sr", "small", {"members": "4", "additive": "0.2"})
    assert made.settings["config"]["members"] == 4 and made.settings["config"]["additive"] == 0.2
    assert made.identity != entrant("enkf-sr").identity
    with pytest.raises(ValueError, match=r"member: not an option of enkf-sr.*did you mean members"):
        entrant("enkf-sr", None, {"member": "4"})
    with pytest.raises(ValueError, match="members: hold is a value with settings of its own; leave the option out"):
        entrant(methods.hold, None, {"members": "4"})


def test_a_method_by_name_takes_the_preset_of_its_sensors(protocol, monkeypatch):
    """As in `assimilate`, on the jet; options change each preset."""
    from jaxsrda.filters.config import LAYOUT_FILTERS, FilterConfig

    monkeypatch.setitem(LAYOUT_FILTERS, "lattice:4", {"enkf-sr": FilterConfig(members=5)})
    made = entrant("enkf-sr", None, {"additive": "0.2"})
    placed = [setup()._replace(sensors=protocol.task(name).sensors(TESTBED.grid)) for name in protocol.task_names]
    fine, other = (each._replace(testbed=jaxsrda.jet()) for each in placed)
    configs = [made.method(each, None)["config"] for each in (fine, other)]
    assert [config.members for config in configs] == [5, 100] and {config.additive for config in configs} == {0.2}
    assert made.settings["by_layout"]["lattice:4"]["members"] == 5 and made.make(fine).members == 5
    assert made.method(placed[0], None)["config"].members == 100  # on a flow that nothing was tuned for


def test_plans_are_checked(protocol):
    for options, message in [
        ({"tasks": ("tracks",)}, "task: expected one of lattice-4, speed; got 'tracks'"),
        ({"truths": 3}, "truths: smallest has 2, expected 1 to 2, got 3"),
        ({"truths": 0}, "truths: smallest has 2, expected 1 to 2, got 0"),
        ({"reference": "enkf"}, "reference: expected one of enkf-lagrange, enkf-hr, none; got 'enkf'"),
        ({"at_once": 0}, "at_once: expected a finite number above 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            Selection(protocol, **options)
    assert Selection(protocol, ("speed", "lattice-4")).tasks == ("lattice-4", "speed")
