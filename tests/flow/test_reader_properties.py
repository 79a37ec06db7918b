"""However frames come, in whatever order, packing and type, the reader gives the same numbers."""

import numpy as np
from helpers import GRID, TESTBED
from hypothesis import given
from hypothesis import strategies as st

from jaxsrda.experiment.truth import read_truth
from jaxsrda.flow.frames import in_common
from jaxsrda.flow.labelled import AXES, Labelled

TRUTHS, TIMES = 2, 5
SHAPE = (TRUTHS, TIMES, *GRID.shape)
ORDER = ("truth", "time", "x", "y")


def frames(seed=0):
    """Numbers that are all different, zero on the walls (truths, times, nx, ny)."""
    values = np.random.default_rng(seed).uniform(-9, 9, SHAPE)
    values[..., [0, -1]] = 0
    return values


def named(axis):
    """The names by which an axis goes, in any case."""
    cases = st.sampled_from((str.lower, str.upper, str.title))
    return st.tuples(st.sampled_from(AXES[axis]), cases).map(lambda pair: pair[1](pair[0]))


@st.composite
def ways(draw):
    """A way to write frames down: names, order, where x begins, directions, further dimensions, type and packing."""
    return {
        "order": draw(st.permutations(ORDER)),
        "names": {axis: draw(named(axis)) for axis in ORDER},
        "roll": draw(st.integers(0, GRID.nx - 1)),
        "back": draw(st.sets(st.sampled_from(("x", "y")))),
        "turns": draw(st.integers(-2, 2)),
        "extra": draw(st.integers(0, 2)),
        "kind": draw(st.sampled_from(("float64", "float32", ">f8", ">f4", "packed", "unsigned"))),
        "begin": draw(st.sampled_from((0.0, 3.0))),
    }


def written(values, way):
    """Frames in that way, as a file holds them."""
    values, points = values.copy(), {"x": GRID.x, "y": GRID.y, "time": way["begin"] + TESTBED.frame * np.arange(TIMES)}
    attrs = {}
    if way["kind"] in ("packed", "unsigned"):
        step = 20 / 2**16
        values, attrs = np.rint(values / step).astype("i2"), {"scale_factor": step, "add_offset": 0.0}
        if way["kind"] == "unsigned":
            values = (values.astype(int) + 2**15).astype("u2").view("i2")
            attrs |= {"_Unsigned": "true", "add_offset": -(2**15) * step}
    else:
        values = values.astype(way["kind"])
    # x begins at another point, and may count from another turn of the channel.
    values = np.roll(values, way["roll"], axis=2)
    points["x"] = np.roll(points["x"], way["roll"]) + 2 * np.pi * way["turns"]
    for axis in way["back"]:
        values, points[axis] = np.flip(values, ORDER.index(axis)), points[axis][::-1]
    values = values.transpose([ORDER.index(axis) for axis in way["order"]])
    dims = tuple(way["names"][axis] for axis in way["order"])
    for number in range(way["extra"]):
        values, dims = values[None], (f"level{number}", *dims)
    coords = {way["names"][axis]: Labelled(each, (way["names"][axis],), source=axis) for axis, each in points.items()}
    return Labelled(values, dims, coords, attrs, "file")


@given(ways())
def test_frames_come_out_the_same_however_they_are_written(way):
    values = frames()
    got = read_truth(written(values, way), TESTBED)
    packed = way["kind"] in ("packed", "unsigned")
    np.testing.assert_allclose(got.values, values, atol=2e-4 if packed else 1e-6)
    assert got.shape == SHAPE and got.start == way["begin"] and got.timed
    rolled = any(each.startswith("x ") for each in got.notes)
    assert rolled or not (way["roll"] or "x" in way["back"])  # what was moved is said
    assert any(each.startswith("y flipped") for each in got.notes) == ("y" in way["back"])


@given(ways(), st.sampled_from(("nan", "inf", "huge", "masked", "wall")), st.data())
def test_one_bad_number_is_refused_wherever_it_is(way, kind, data):
    """And its place is said, whatever the order of the dimensions."""
    way = way | {"kind": "float64"}
    values = frames()
    at = tuple(data.draw(st.integers(0, size - 1)) for size in SHAPE)
    at = (*at[:3], 0 if kind == "wall" else 1 + at[3] % (GRID.ny - 2))
    values[at] = {"nan": np.nan, "inf": -np.inf, "huge": 1e3, "masked": -9.0, "wall": 3.0}[kind]
    given_ = written(values, way)
    if kind == "masked":
        given_.values[...] = np.where(given_.values == -9.0, -999.0, given_.values)
        given_.attrs["missing_value"] = -999.0
    try:
        read_truth(given_, TESTBED)
    except ValueError as error:
        message = str(error)
    else:
        raise AssertionError("nothing was said")
    assert message.startswith("file: expected ") and "\n" not in message
    if kind != "wall":
        place = [int(i) for i in message.split("index (")[1].split(")")[0].split(", ")]
        assert not abs(given_.values[tuple(place)]) < 500


@given(st.sets(st.integers(0, 11), min_size=1), st.integers(0, 8), st.integers(1, 12))
def test_analyses_meet_the_truth_at_their_own_times(chosen, begin, count):
    """Whichever frames analyses have, each is compared with the truth's frame of its time, and no other."""
    grid = np.zeros((1, 12, 3, 3))
    truth = Labelled(grid, ORDER)
    times = TESTBED.frame * np.arange(12)
    from jaxsrda.flow.frames import Frames

    true = Frames(truth.values[:, :count], times[:count] + TESTBED.frame * begin, source="truth")
    own = sorted(chosen)
    analyses = Frames(grid[:, own], times[own], source="analyses")
    wanted = [i for i in own if begin <= i < begin + count]
    if not wanted:
        try:
            in_common(true, analyses, TESTBED.frame)
        except ValueError as error:
            assert "expected times of the truth" in str(error)
            return
        raise AssertionError("no time in common, and nothing was said")
    at, kept = in_common(true, analyses, TESTBED.frame)
    np.testing.assert_array_equal(at, [i - begin for i in wanted])
    np.testing.assert_array_equal(np.array(own)[kept], wanted)
