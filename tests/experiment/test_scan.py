"""One experiment is one compiled scan: compiled once, the same in segments, and no field moves unless it is kept."""

import dataclasses

import chex
import jax
import numpy as np
import pytest
from helpers import SENSORS, TESTBED, setup, truth

from jaxsrda.experiment import scan
from jaxsrda.experiment.registry import METHODS
from jaxsrda.experiment.run import assimilate
from jaxsrda.experiment.scan import Recipe, segment_length
from jaxsrda.filters.config import FilterConfig, filter_params
from jaxsrda.observing.sensors import Sensors
from jaxsrda.scoring import point

CONFIG = FilterConfig(members=3, localization=1.0)


def run(method="traced", seed=0, cycles=4, **options):
    frames = np.asarray(truth(cycles))
    own = {"config": CONFIG} if isinstance(method, str) else {}
    options = {"sensors": SENSORS, "climatology": setup().climatology, "testbed": TESTBED} | own | options
    return assimilate(method, frames, seed=seed, **options)


def test_equal_experiments_compile_once(traces, monkeypatch):
    first, second = run(seed=0), run(seed=1)
    traced = len(traces)
    assert first.seconds["compile"] > 0 == second.seconds["compile"]
    assert not np.array_equal(first.mean, second.mean)
    np.testing.assert_array_equal(run(seed=0).mean, first.mean)
    # Other places and noise of the sensors are other numbers; the testbed's physics are traced.
    louder = tuple(dataclasses.replace(each, layout="lattice-fixed:4", noise_std=0.3) for each in SENSORS)
    run(sensors=louder)
    run(testbed=TESTBED.vary(beta=0.3))
    assert len(traces) == traced
    run(config=dataclasses.replace(CONFIG, inflation=1.1))
    assert len(traces) > traced  # other settings are another program
    # So is another table of scores, and what is in it shows.
    monkeypatch.setitem(point.SCORES, "worst", lambda of: abs(of.best - of.truth).max())
    assert run(seed=0).scores["worst"][0] > 0


def test_an_own_assimilator_compiles_once(traces):
    method = METHODS["traced"].make(setup(), CONFIG, filter_params(CONFIG), None)
    first = run(method)
    traced = len(traces)
    assert run(method, seed=1).seconds["compile"] == 0 < first.seconds["compile"] and len(traces) == traced


def test_segments_are_the_whole(traces):
    reports = []
    parts = run(progress=lambda *report: reports.append(report), keep="members")
    whole = run(keep="members")
    assert [r[1:] for r in reports if r[0] == "cycle"] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for name in ("mean", "std", "background", "members", "series", "carry"):
        chex.assert_trees_all_close(getattr(parts, name), getattr(whole, name), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("cycles, length", [(1, 1), (7, 1), (8, 1), (24, 3), (23, 1), (96, 12), (100, 10)])
def test_segments_are_of_one_length(cycles, length):
    assert segment_length(cycles) == length


def test_scores_alone_move_no_field(traces, monkeypatch):
    moved, get = [], jax.device_get
    monkeypatch.setattr(scan.jax, "device_get", lambda tree: moved.append(jax.tree.leaves(tree)) or get(tree))
    bare, full = run(keep="scores"), run()
    (few, many) = (sum(leaf.size for leaf in leaves) for leaves in moved)
    points = full.mean.size
    assert few < points / 4 and many > 2 * points
    assert bare.mean is bare.std is bare.background is bare.members is None
    for name, values in full.per_truth.items():
        np.testing.assert_allclose(bare.per_truth[name], values, rtol=1e-9)
    with pytest.raises(ValueError, match="scores alone were kept; run with keep fields"):
        bare.fields()


def test_the_carry_is_donated(traces):
    run()
    sensors = tuple(Sensors("own", each.measure, role=each.role) for each in SENSORS)
    program = scan.program(Recipe("traced", CONFIG), sensors, "fields", 0, None)
    (text,) = [c.as_text() for name, c in program.compiled.items() if name[0] == "advance"]
    assert "input_output_alias" in text


def test_what_keep_may_be():
    with pytest.raises(ValueError, match="keep: expected one of scores, fields, members"):
        run("persistence", keep="everything")
    with pytest.raises(ValueError, match="withhold: analyses are compared with what was withheld; keep fields"):
        run("persistence", keep="scores", withhold=0.5)
