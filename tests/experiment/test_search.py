"""An adaptive search: it finds the better half, gives settings up, goes on, and is shared."""

import functools
import json
import signal
import sys

import numpy as np
import pytest
from experiment.test_sweep import experiment, in_another_process
from helpers import SENSORS, TESTBED, setup, truth

import jaxsrda
from jaxsrda.core.interrupts import Interrupted
from jaxsrda.experiment import runner
from jaxsrda.experiment import search as search_module
from jaxsrda.experiment.search import Search, run_search
from jaxsrda.experiment.sweep import Sweep
from jaxsrda.filters.config import FilterConfig

pytest.importorskip("optuna")

RANGES = {"localization": (0.1, 1.6), "inflation": (0.6, 1.4)}


@functools.cache
def longer():
    """Six cycles, so that settings may be given up after two; a preset that is far from the best."""
    frames = np.stack([np.asarray(truth(6, seed=i)) for i in range(2)])
    told = {"sensors": SENSORS, "climatology": setup().climatology, "testbed": TESTBED}
    return jaxsrda.Experiment("persistence", frames, config=FilterConfig(members=10, localization=0.15), **told)


def search(trials=24, ranges=RANGES, given=None, at_once=4, **options):
    return Search(Sweep(given or longer(), [{}], at_once=at_once), ranges, trials=trials, **options)


def test_it_finds_the_better_half_and_can_be_repeated(tmp_path):
    record = tmp_path / "s.json"
    result = run_search(search(), record)
    assert len(result.trials) == 24 and result.trials[0].parameters == {"localization": 0.15, "inflation": 1.0}
    # The analyses are best near 0.5: the search gets there, and draws more on the better side of the range.
    assert 0.35 < result.best.parameters["localization"] < 0.8
    assert result.best.mean["crps"] < 0.8 * result.trials[0].mean["crps"]
    late = [trial.parameters["localization"] for trial in result.trials[12:]]
    assert np.mean([0.3 < value < 1.0 for value in late]) > 0.5
    given_up = [trial for trial in result.trials if trial.pruned]
    assert given_up and all(trial.finite and not trial.per_truth for trial in given_up)
    assert all(trial not in result.ranked() for trial in given_up)
    kept = json.loads(record.read_text())
    assert len(kept["settings"]) == 24 and kept["best"]["parameters"] == result.best.parameters
    again = run_search(search())
    assert [trial.parameters for trial in again.trials] == [trial.parameters for trial in result.trials]
    # A setting that was not given up has the scores of all its cycles.
    alone = jaxsrda.run_sweep(Sweep(longer(), [result.best.parameters]))
    assert alone.best.mean["crps"] == pytest.approx(result.best.mean["crps"], rel=1e-9)


def test_a_study_goes_on_and_is_shared(tmp_path, monkeypatch):
    """Two batches by one run, the rest by another; a third finds all done."""
    storage = tmp_path / "study.log"
    first = run_search(search(trials=8, prune=False, storage=storage, given=experiment()))
    ran = []
    monkeypatch.setattr(
        runner.Runner,
        "call",
        functools.partialmethod(lambda self, call, *rest: ran.append(1) or call(self, *rest), runner.Runner.call),
    )
    second = run_search(search(trials=12, prune=False, storage=storage, given=experiment()))
    assert len(ran) == 1 and len(second.trials) == 12
    assert [t.parameters for t in second.trials[:8]] == [t.parameters for t in first.trials]
    third = run_search(search(trials=12, prune=False, storage=storage, given=experiment()))
    assert third.best.parameters == second.best.parameters
    assert len(ran) == 1
    name = {"storage": storage, "study": "mine", "prune": False, "trials": 4}
    run_search(search(given=experiment(), **name))
    with pytest.raises(ValueError, match="study mine: holds trials of another experiment; choose another study name"):
        run_search(search(given=experiment(seed=1), **name))
    monkeypatch.setattr(search_module, "this_run", lambda: {"source": "another"})
    with pytest.raises(ValueError, match="study mine: holds trials of other code"):
        run_search(search(given=experiment(), **name))


SHARED = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
from experiment.test_search import experiment, run_search, search
result = run_search(search(trials=16, prune=False, at_once=2, storage=sys.argv[1], given=experiment()))
print(len(result.trials))
"""


def test_two_processes_share_a_study(tmp_path):
    storage = tmp_path / "study.log"
    processes = [in_another_process(SHARED, storage) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=500)
        assert process.returncode == 0, errors
    result = run_search(search(trials=1, prune=False, at_once=2, storage=storage, given=experiment()))
    settings = [tuple(trial.parameters.values()) for trial in result.trials]
    # Whoever finds sixteen done stops: at most a batch more; the preset alone may have been tried by both.
    assert 16 <= len(settings) <= 18 and len(set(settings)) >= len(settings) - 1


def test_a_diverged_setting_is_told_as_bad():
    ranges = {"inflation": (1.0, 1e200)}
    result = run_search(search(trials=8, ranges=ranges, prune=False, given=experiment(), storage=None))
    assert any(not trial.finite for trial in result.trials) and result.best.finite


def test_an_interrupted_search_says_how_to_go_on(tmp_path, monkeypatch):
    """A record alone would not do."""
    monkeypatch.setattr(search_module, "_run_batch", lambda *_: None)  # the interrupt came before it

    def press(what, done, total):
        if what == "trial":
            signal.raise_signal(signal.SIGINT)

    asked = {"trials": 1, "prune": False, "given": experiment(), "at_once": 1}
    with pytest.raises(Interrupted, match=r"^give --storage FILE, and the same command will go on from it$"):
        run_search(search(**asked), tmp_path / "s.json", press)
    with pytest.raises(Interrupted, match=r"what is done is kept in .*journal"):
        run_search(search(**asked, storage=tmp_path / "journal"), None, press)


def test_choices_are_static(monkeypatch):
    asked = search(trials=6, prune=False, given=experiment(), choices={"members": ["3", "4"]})
    result = run_search(asked)
    assert {trial.parameters["members"] for trial in result.trials} == {3, 4} and len(result.trials) == 6


@pytest.mark.parametrize(
    "options, message",
    [
        ({"trials": 0}, "trials: expected at least 1, got 0"),
        ({"ranges": {}}, "ranges: expected at least one option to search, got none"),
        ({"ranges": {"members": (3, 9)}}, "members: every value of it would be compiled"),
        ({"ranges": {"additve": (3, 9)}}, "additve: not an option of persistence, .* did you mean additive"),
        ({"ranges": {"localization": (0.0, 1.0)}}, "localization: its logarithm is drawn, expected a range above 0"),
        ({"choices": {"localization": [1.0]}}, "localization: given twice, as a range and as choices"),
        ({"choices": {"members": [1]}}, "members: expected at least 2"),
    ],
)
def test_bad_searches(options, message):
    with pytest.raises(ValueError, match=message):
        search(**{"given": experiment()} | options)


def test_without_optuna_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        ValueError, match=r'search: needs Optuna, which is not installed: pip install "jaxsrda\[sweep\]"'
    ):
        search(given=experiment())
