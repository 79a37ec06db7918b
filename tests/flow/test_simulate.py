"""Long runs: that they go on where they were stopped, and what they refuse."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import COARSE, TESTBED, quick_jit

from jaxsrda.flow import simulate as simulate_module
from jaxsrda.flow.grid import to_physical
from jaxsrda.flow.jet import truth_key
from jaxsrda.flow.simulate import Run, estimate_seconds, integrate, simulate_resumable, start_state
from jaxsrda.flow.solver import UnstableStepError

RUN = Run(TESTBED, COARSE, 8, seed=3)


class StoppedError(Exception):
    """Raised in the middle of a run."""


def stopped_at(last):
    def progress(done, total):
        if done == last:
            raise StoppedError

    return progress


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A folder that holds the parts of a run which was stopped in the middle."""
    monkeypatch.setattr(simulate_module, "SAVE_EVERY", 0.0)
    with pytest.raises(StoppedError):
        simulate_resumable(RUN, tmp_path / "parts", progress=stopped_at(5))
    return tmp_path / "parts"


def test_a_run_that_was_stopped_goes_on(stopped, tmp_path):
    assert stopped.is_dir()
    told = []
    omega = simulate_resumable(RUN, stopped, progress=lambda *numbers: told.append(numbers))
    assert told == [(done, 8) for done in range(4, 9)]  # four frames were kept, none of them is run again
    straight = simulate_resumable(RUN, tmp_path / "other")
    np.testing.assert_array_equal(omega, straight)
    assert not stopped.exists() and not (tmp_path / "other").exists()
    start = start_state(RUN)
    np.testing.assert_allclose(start, TESTBED.start(truth_key(3), COARSE.grid), atol=1e-12)
    run = quick_jit(lambda state: integrate(TESTBED, COARSE, state, 8).omega_hat)(start)
    fields = jax.vmap(lambda a: to_physical(COARSE.grid, a))(run)
    assert omega.shape == (8, 16, 9)
    np.testing.assert_allclose(omega, fields, atol=1e-9)


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 4},
        {"frames": 9},
        {"steps": 12},
        {"scheme": "rk2"},
        {"testbed": TESTBED.vary(beta=0.2)},
        {"level": dataclasses.replace(COARSE, viscosity=2e-3)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_parts_of_another_run_are_refused(stopped, other):
    with pytest.raises(ValueError, match="holds a checkpoint of other work"):
        simulate_resumable(dataclasses.replace(RUN, **other), stopped)
    assert stopped.exists()


def test_a_run_from_a_field_goes_on_like_the_run_it_came_from(tmp_path):
    whole = simulate_resumable(RUN, tmp_path / "a")
    later = simulate_resumable(dataclasses.replace(RUN, frames=3), tmp_path / "b", initial=whole[5])
    np.testing.assert_allclose(later, whole[5:], atol=1e-9)
    with pytest.raises(ValueError, match=r"initial field: expected shape \(16, 9\), got \(16, 8\); the lr level"):
        simulate_resumable(RUN, tmp_path / "c", initial=whole[0, :, 1:])


def test_bad_runs_raise(tmp_path):
    with pytest.raises(ValueError, match=r"frames: expected at least 1 \(the start counts as one\), got 0"):
        Run(TESTBED, COARSE, 0)
    with pytest.raises(ValueError, match="scheme: expected one of etdrk4, rk2; got 'rk4'"):
        Run(TESTBED, COARSE, 2, scheme="rk4")
    with pytest.raises(ValueError, match="steps: expected a finite number above 0, got 0"):
        Run(TESTBED, COARSE, 2, steps=0)
    assert Run(TESTBED, COARSE, 2).steps_a_frame == 6 and Run(TESTBED, COARSE, 2, "rk2").steps_a_frame == 250
    fast = dataclasses.replace(TESTBED.vary(speed=300.0), name="fast")
    with pytest.raises(UnstableStepError, match="became unstable by t = 0 "):
        simulate_resumable(Run(fast, COARSE, 4, steps=6), tmp_path / "parts")


def test_the_time_that_a_run_takes_is_estimated():
    assert 0 < estimate_seconds(RUN) < 60
    assert estimate_seconds(dataclasses.replace(RUN, frames=1)) == 0
