"""Analyses that are there already score as the method that made them."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import TESTBED, setup

import jaxsrda
from benchmark import methods
from benchmark.conftest import truths
from jaxsrda.benchmark import Selection, run_benchmark
from jaxsrda.benchmark.analyses import Given, score_analyses
from jaxsrda.benchmark.row import KEPT


def drifting(setup):
    """Three members that differ in x and grow from frame to frame, so that changes within a cycle are no zeros."""
    right = methods.hold(setup, 3)
    growth = jnp.asarray(1 + 0.1 * np.arange(setup.testbed.frames_per_cycle)[:, None, None], setup.dtype)
    x, y = setup.grid.x[:, None], setup.grid.y
    waves = jnp.asarray(np.cos(np.arange(3)[:, None, None] + x) * np.sin(y), setup.dtype)

    def step(key, state, observations):
        frames = (state + waves)[:, None] * growth
        frames = frames.at[..., (0, -1)].set(0)
        return state, setup.window(setup.assimilated(observations), frames)

    return right._replace(step=step)


def members():
    """The members of `drifting` on both truths."""
    result = jaxsrda.assimilate(
        drifting, truths(TESTBED, (0, 1)), testbed=TESTBED, climatology=setup().climatology, keep="members"
    )
    return result.members


def given(omega, **more):
    return Given("mine", "mine", lambda task: {"omega": omega} | more, {"lattice-4": "aa", "speed": "bb"})


def test_every_score_is_that_of_the_run(protocol):
    plan = Selection(protocol, ("lattice-4",), reference="none")
    row = score_analyses(given(members()), plan)
    ran = run_benchmark(drifting, protocol, None, tasks=("lattice-4",), reference="none")
    entry, wanted = row.data["tasks"]["lattice-4"], ran.data["tasks"]["lattice-4"]
    assert entry["members"] == wanted["members"] == 3
    for score in KEPT:
        assert entry["per_truth"][score] == pytest.approx(wanted["per_truth"][score], rel=1e-5), score


def test_one_field_and_moments(protocol):
    """A single field is an ensemble of one; mean and standard deviation give what needs no members."""
    plan, omega = Selection(protocol, ("speed",), truths=1, reference="none"), members()[:1]
    one = score_analyses(given(omega[:, :1]), plan).data["tasks"]["speed"]
    assert one["members"] == 1
    error = np.abs(omega[:, 0] - truths(TESTBED, (0,)))[:, 4:]
    assert one["per_truth"]["crps"] == pytest.approx([error.mean()], rel=1e-5)
    fields = {"omega_mean": omega.mean(1), "omega_std": omega.std(1, ddof=1)}
    moments = Given("mine", "mine", lambda task: fields, {"speed": "cc"})
    entry = score_analyses(moments, plan).data["tasks"]["speed"]
    assert set(entry["per_truth"]) == {"maer", "mssim_loss", "rmse", "spread_skill"} and entry["members"] == 1


def test_joint_scores_need_whole_cycles_and_members():
    truth, omega = truths(TESTBED, (0,)), members()[:1]
    with pytest.raises(ValueError, match=r"joint scores need members, got none; give omega with an axis member"):
        jaxsrda.evaluate(TESTBED, truth, omega.mean(1), joint=True)
    with pytest.raises(ValueError, match=r"joint scores need all 4 frames of each cycle; give these"):
        jaxsrda.evaluate(TESTBED, truth[:, :11], members=omega[:, :, :11], joint=True)
