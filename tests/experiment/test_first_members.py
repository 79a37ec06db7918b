"""Members at the start from the user's own fields."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID, TESTBED, held, setup, states, truth

from jaxsrda.cycling.assimilator import Assimilator
from jaxsrda.experiment.experiment import Experiment
from jaxsrda.experiment.first_members import read_members
from jaxsrda.experiment.run import settings
from jaxsrda.experiment.space import grid_settings
from jaxsrda.experiment.sweep import Sweep, run_sweep
from jaxsrda.filters.config import FilterConfig
from jaxsrda.flow.grid import to_physical
from jaxsrda.flow.labelled import Labelled
from jaxsrda.observing.sensors import Sensors

TIMES = np.array([0.0, 1.0, 2.0])


def fields(members=4):
    """Different smooth fields (members, nx, ny), zero on the walls."""
    own = np.asarray(jax.vmap(lambda a: to_physical(GRID, a))(states()))
    return np.stack([own[i % 4] * (1 + 0.1 * i) for i in range(members)])


def run_of(method="enkf-sr", **options):
    known = {"testbed": TESTBED, "climatology": setup().climatology, "sensors": (Sensors("lattice:4"),)}
    return Experiment(method, **known | options)


def test_the_run_starts_from_the_members():
    """Each state is its field in the model's own amplitudes; a time other than the start's is left out."""
    own = fields()
    timed = Labelled(np.stack([2 * own, own, own / 2], 1), ("number", "time", "x", "y"), {"time": Labelled(TIMES - 1)})
    for given in (own, Labelled(own.transpose(0, 2, 1), ("member", "lat", "lon")), timed):
        made = run_of(members_from=given)
        assert made.config.members == 4 and made.members_from.shape == (4, 1, *GRID.shape)
        where = made.setup(setup().climatology)
        for model in (held(TESTBED.analysis), where.forecast_model()):
            start = where.first_states(model, jax.random.key(0), 4)
            np.testing.assert_allclose(start, model.from_analysis_grid(jnp.asarray(own)), atol=1e-6)
    assert made.members_from.notes == ("the members of time 0 taken, of 3 times",)


def test_fewer_states_are_means_of_groups():
    """One control or one forecast starts from the mean of all; of two controls each from its own members'."""
    own = fields(5)
    where = run_of(members_from=own).setup(setup().climatology)
    model = held(TESTBED.analysis)
    for count, wanted in ((1, [own.mean(0)]), (2, [own[::2].mean(0), own[1::2].mean(0)])):
        got = where.first_states(model, jax.random.key(0), count)
        np.testing.assert_allclose(got, model.from_analysis_grid(jnp.asarray(np.stack(wanted))), atol=1e-6)
    with pytest.raises(ValueError, match="members: expected at most the 5 fields to start from, got 6"):
        where.first_states(model, jax.random.key(0), 6)


def test_members_of_a_later_start_are_those_of_its_time():
    own = fields()
    timed = Labelled(np.stack([2 * own, own, own / 2], 1), ("member", "time", "x", "y"), {"time": Labelled(TIMES)})
    made = run_of(members_from=timed, start=1.0)
    np.testing.assert_allclose(made.members_from.values[:, 0], own, atol=1e-6)
    assert made.setup(setup().climatology).first == 1


def test_members_do_not_touch_a_truth_or_observations():
    plain, given = run_of(truth=np.asarray(truth(2))), run_of(truth=np.asarray(truth(2)), members_from=fields())
    np.testing.assert_array_equal(plain.truth.values, given.truth.values)
    assert settings(plain)["members_from"] is None
    record = settings(given)["members_from"]
    assert record["members"] == 4 and record["source"] == "members_from" and len(record["sha256"]) == 64


@pytest.mark.parametrize(
    "options, message",
    [
        ({"config": FilterConfig(members=7)}, "members_from: expected 7 members, as enkf-sr is set to have, got 4"),
        ({"method": "climatology"}, "members_from: climatology starts from no fields"),
        ({"method": Assimilator(None, None, 2)}, "members_from: an Assimilator has its own"),
        ({"start": 1.0, "time": TIMES[1:] + 1}, "expected members of the time 1, at which the run begins, got 2 to 3"),
        ({"start": 1.0, "time": TIMES[:1]}, "expected members of the time 1, at which the run begins, got 0"),
        ({"frames": 2}, "expected the time 0, at which the run begins, got 2 frames with no times"),
        ({"values": np.nan}, "expected finite numbers, got 1 NaN"),
        ({"values": 1e4}, "expected vorticity within"),
        ({"walls": 5.0}, r"expected vorticity 0 on the walls \(free slip\), got 5"),
        ({"shape": (4, 30, 17)}, "members_from: expected a grid of 32 × 17 points"),
        ({"units": "s-1"}, "expected non-dimensional vorticity"),
    ],
)
def test_members_that_cannot_be_meant_are_refused(options, message):
    options = dict(options)
    own = fields() if "shape" not in options else np.ones(options.pop("shape"))
    if "values" in options:
        own[2, 3, 4] = options.pop("values")
    if "walls" in options:
        own[1, 3, -1] = options.pop("walls")
    times, attrs = options.pop("time", None), {"units": options.pop("units", "1")}
    count = options.pop("frames", 0 if times is None else len(times))
    given = own
    if count:
        coords = {} if times is None else {"time": Labelled(times)}
        given = Labelled(np.stack([own] * count, 1), ("member", "time", "x", "y"), coords, source="members_from")
    elif attrs["units"] != "1":
        given = Labelled(own, ("member", "x", "y"), attrs=attrs, source="members_from")
    with pytest.raises(ValueError, match=message):
        run_of(**options, members_from=given)


def test_a_sweep_and_a_carry_have_members_of_their_own():
    given = run_of(members_from=fields(), truth=np.asarray(truth(2)))
    with pytest.raises(ValueError, match="members_from: a sweep draws the members of every setting"):
        run_sweep(Sweep(given, grid_settings(inflation=[1.0])))
    from test_going_on import begun

    with pytest.raises(ValueError, match="members_from: the carry has the members"):
        dataclasses.replace(given, carry=begun())


def test_reading_leaves_all_times_until_the_start_is_known():
    own = np.stack([fields()] * 3, 1)
    given = Labelled(own, ("member", "time", "x", "y"), {"time": Labelled(TIMES)})
    assert read_members(given, TESTBED).shape == (4, 3, *GRID.shape)
