"""Runs of many truths keep what is finished, and go on from it to the same numbers."""

import dataclasses
import functools
import signal

import jax
import numpy as np
import pytest
from helpers import TESTBED, setup, truth

from jaxsrda.core.interrupts import Interrupted
from jaxsrda.core.locks import locked
from jaxsrda.experiment import parts
from jaxsrda.experiment import run as run_module
from jaxsrda.experiment.experiment import Experiment
from jaxsrda.experiment.result import DivergedError
from jaxsrda.experiment.run import run
from jaxsrda.filters.config import FilterConfig
from jaxsrda.observing.sensors import Sensors

TRUTHS = np.stack([np.asarray(truth(seed=seed)) for seed in range(3)])
GIVEN = Experiment(
    "enkf-sr",
    truth=TRUTHS,
    testbed=TESTBED,
    climatology=setup().climatology,
    sensors=(Sensors("random-moving:9+dropout:0.3"),),
    config=FilterConfig(members=3, localization=1.0),
    keep="members",
    withhold=0.2,
)


def quiet(*_):
    """Progress that no one looks at; its segments of one cycle are one program for all of these tests."""


@functools.cache
def undisturbed():
    return run(GIVEN, quiet, at_once=1)


def same(a, b):
    """To the last bit, but for the time that it took."""
    for field in dataclasses.fields(a):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if field.name in ("mean", "std", "background", "members", "per_truth", "series", "carry", "statistics"):
            assert jax.tree.structure(one) == jax.tree.structure(other)
            jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture
def calls(monkeypatch):
    """How many truths each call had; every one is kept at once."""
    found, scan = [], parts.run_scan
    monkeypatch.setattr(parts, "run_scan", lambda *a: found.append(len(a[1].keys)) or scan(*a))
    monkeypatch.setattr(parts, "SAVE_EVERY", 0.0)
    return found


def stop_at(cycle):
    """What presses Ctrl-C once so many cycles of all truths are done."""

    def progress(what, done, total):
        if what == "cycle":
            assert total == 9
            if done == cycle:
                signal.raise_signal(signal.SIGINT)

    return progress


def test_an_interrupted_run_goes_on_to_the_same_numbers(tmp_path, calls):
    folder = tmp_path / "parts"
    with pytest.raises(Interrupted, match="parts, and the same command goes on from there"):
        run(GIVEN, stop_at(7), kept=folder)  # in the third truth
    assert calls == [1, 1, 1] and folder.is_dir()
    told = []
    resumed = run(GIVEN, lambda *a: told.append(a), kept=folder)
    assert calls == [1, 1, 1, 1] and ("cycle", 7, 9) in told and ("cycle", 4, 9) not in told
    same(resumed, undisturbed())


def test_a_run_whose_result_was_not_saved_is_not_run_again(tmp_path, calls):
    """Such as one that found the disk full in the end: the structure of what is kept is known without a call."""
    first = run(GIVEN, quiet, kept=tmp_path / "parts")
    assert calls == [1, 1, 1]
    again = run(GIVEN, quiet, kept=tmp_path / "parts")
    assert calls == [1, 1, 1]
    same(again, first)
    same(again, undisturbed())


def test_calls_are_of_one_size(calls):
    """One that has too few truths is filled up, and what fills it up is dropped."""
    result = run(GIVEN, quiet, at_once=2)
    assert calls == [2, 2] and result.members.shape[0] == 3
    np.testing.assert_allclose(result.members, undisturbed().members, rtol=1e-7, atol=1e-9)
    assert [parts.truths_a_call(10, most) for most in (1, 3, 4, 6, 99, None)] == [1, 3, 4, 5, 10, 10]
    assert parts.truths_a_call(10, None, kept=True) == 1  # on a CPU
    with pytest.raises(ValueError, match="at_once: expected"):
        run(GIVEN, quiet, at_once=0)


def test_a_run_that_goes_on_from_a_carry_is_kept_too(tmp_path, calls):
    """All of the truths' carries, of some truths at a time."""
    whole = undisturbed()
    halves = [dataclasses.replace(GIVEN, truth=TRUTHS[:, part], unscored=True) for part in (slice(0, 4), slice(4, 12))]
    first = run(halves[0], quiet, kept=tmp_path / "one", at_once=2)
    second = run(dataclasses.replace(halves[1], carry=first.carry, start=None), quiet, kept=tmp_path / "two", at_once=2)
    np.testing.assert_allclose(second.members, whole.members[:, :, 4:], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": dataclasses.replace(GIVEN.config, additive=0.3)}, "its option additive is 0.07, this one's is 0.3"),
        ({"seed": 1}, "its seed is 0, this one's is 1"),
        ({"joint": True}, "its joint is False, this one's is True"),
        ({"sensors": (Sensors("lattice:4"),)}, "its set of sensors is"),
        ({"truth": TRUTHS[:2]}, "its number of truths is 3, this one's is 2"),
        ({"truth": TRUTHS + 1e-5}, "its truth is .*, this one's is"),
        ({"truth_seeds": (0, 1, 3)}, "its observations is .*, this one's is"),
        ({"members_from": TRUTHS[:, 0]}, "its members at the start is none, this one's is [0-9a-f]{12}"),
        ({"members_from": TRUTHS[:, 1]}, "its members at the start is none, this one's is [0-9a-f]{12}"),
    ],
)
def test_parts_of_another_run_are_refused(tmp_path, calls, change, message):
    folder = tmp_path / "parts"
    run(GIVEN, quiet, kept=folder)
    other = dataclasses.replace(GIVEN, truth_seeds=None, **change) if "truth" in change else None
    other = other or dataclasses.replace(GIVEN, **change)
    with pytest.raises(ValueError, match=f"parts: holds a checkpoint of other work .{message}.*remove it"):
        run(other, quiet, kept=folder)
    assert calls == [1, 1, 1]
    same(run(GIVEN, quiet, kept=folder), undisturbed())  # they are still there


def test_an_interrupt_before_the_first_truth_is_finished_says_so(tmp_path, calls):
    with pytest.raises(Interrupted, match=r"^no truth was finished, nothing is kept$"):
        run(GIVEN, stop_at(1), kept=tmp_path / "parts")
    assert calls == [1] and not (tmp_path / "parts").exists()


def test_several_processes_do_not_look_at_what_is_kept(tmp_path, calls, monkeypatch):
    """They would neither go on from it nor add to it."""
    run(GIVEN, quiet, kept=tmp_path / "parts")
    monkeypatch.setattr(run_module, "run_parts", lambda *a: pytest.fail("kept") if a[4] else scan_all(*a))
    with pytest.raises(ValueError, match="other work"):
        run(dataclasses.replace(GIVEN, seed=1), quiet, kept=tmp_path / "parts")
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ZeroDivisionError):
        run(dataclasses.replace(GIVEN, seed=1), quiet, kept=tmp_path / "parts")


def scan_all(*_):
    raise ZeroDivisionError


def test_another_process_is_not_disturbed(tmp_path):
    with locked(tmp_path / "parts.lock"), pytest.raises(ValueError, match="another process is at work on this run"):
        run(GIVEN, quiet, kept=tmp_path / "parts")


@pytest.mark.parametrize(("step", "what", "anew"), [(2, "d/*", 2), (3, "notes/*", 1)])
def test_a_damaged_part_is_run_again(tmp_path, calls, step, what, anew):
    run(GIVEN, quiet, kept=tmp_path / "parts")
    for data in (path for path in (tmp_path / "parts" / str(step)).rglob(what) if path.is_file()):
        whole = bytearray(data.read_bytes())
        whole[len(whole) // 2] ^= 1
        data.write_bytes(whole)
    with pytest.warns(UserWarning, match=f"parts: the part up to {step} is damaged or has a gap; run anew"):
        again = run(GIVEN, quiet, kept=tmp_path / "parts")
    assert calls == [1] * (3 + anew)
    same(again, undisturbed())


def test_a_lost_ensemble_is_named_by_its_truth_and_not_in_the_way(tmp_path, calls, monkeypatch):
    scan = parts.run_scan

    def lost(*arguments):
        if len(calls) == 2:
            raise DivergedError(0, "time 3: lost")
        return scan(*arguments)

    monkeypatch.setattr(parts, "run_scan", lost)
    with pytest.raises(DivergedError, match="truth 2, time 3: lost"):
        run(GIVEN, quiet, kept=tmp_path / "parts")
    assert not (tmp_path / "parts").exists()
