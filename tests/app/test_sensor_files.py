"""Files of sensors and observations: every way to write the same table, and what is refused with its line."""

import dataclasses
import json

import numpy as np
import pytest
import xarray

from jaxsrda.app.sensor_files import layout_from_file, observations_from_file
from jaxsrda.flow.testbed import jet_small

SMALL = jet_small()
X, Y, STD = [1.0, 2.5, 2.5], [0.5, 3.0, 3.0], [0.2, 0.1, 0.3]


def written(tmp_path, text, name="s.csv"):
    path = tmp_path / name
    if isinstance(text, bytes):
        path.write_bytes(text)
    else:
        path.write_text(text, encoding="utf-8")
    return path


def said(function, *arguments, **options):
    """What a function returns, and what it says."""
    lines = []
    return function(*arguments, say=lines.append, **options), lines


def places(layout):
    positions, mask = layout.place(None, None, 0)
    assert mask.all() and len(mask) == layout.capacity
    return np.asarray(positions)


PLAIN = "1,0.5,0.2\n2.5,3,0.1\n2.5,3,0.3\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (PLAIN, "s.csv"),
        (PLAIN.replace("\n", "\r\n"), "S.CSV"),
        ("\ufeff" + PLAIN, "bom.csv"),
        (PLAIN.encode("utf-16"), "utf16.txt"),
        ("x,y,std\n" + PLAIN, "header.csv"),
        ("\ufeffX, Y, Error\n" + PLAIN.replace(",", ", "), "upper.csv"),
        ('"x","y","std"\n"1","0.5","0.2"\n"2.5","3","0.1"\n"2.5","3","0.3"\n', "quoted.csv"),
        ("lon;lat;sigma\n" + PLAIN.replace(",", ";"), "semicolon.csv"),
        ("x;y;noise\n" + PLAIN.replace(",", ";").replace(".", ","), "decimal.csv"),
        (PLAIN.replace(",", "\t").replace(".", ","), "tabs.tsv"),
        (PLAIN.replace(",", "   "), "spaces.dat"),
        ("x y std\n" + PLAIN.replace(",", " ").replace(".", ","), "spaces.txt"),
        ("# x, y, std\n\n" + PLAIN.replace("\n", "  # a sensor\n"), "comments.csv"),
        ("% sensors of 2023, in Kiel\n" + PLAIN, "matlab.txt"),
        ("std,y [1],x (rad)\n0.2,0.5,1\n0.1,3,2.5\n0.3,3,2.5", "order.csv"),
        ("# std,y,x\n0.2,0.5,1\n0.1,3,2.5\n0.3,3,2.5", "order_in_a_comment.csv"),
        ("x,y,std,\n" + PLAIN.replace("\n", ",\n"), "trailing.csv"),
        ("x,y,variance\n1,0.5,0.04\n2.5,3,0.01\n2.5,3,0.09", "variance.csv"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value and "\n" not in value else "",
)
def test_a_table_in_every_guise(tmp_path, text, name):
    (layout, std), lines = said(layout_from_file, written(tmp_path, text, name))
    np.testing.assert_allclose(places(layout), np.stack([X, Y], 1), rtol=1e-12)
    np.testing.assert_allclose(std, STD, rtol=1e-12)
    assert layout.name == name and not lines


def test_positions_alone_and_arrays(tmp_path):
    (layout, std), _ = said(layout_from_file, written(tmp_path, "1,0.5\n"))
    assert std is None and layout.capacity == 1
    np.save(tmp_path / "p.npy", np.stack([X, Y, STD], 1))
    (layout, std), _ = said(layout_from_file, tmp_path / "p.npy")
    np.testing.assert_allclose(places(layout), np.stack([X, Y], 1))
    np.testing.assert_allclose(std, STD)


def test_x_is_periodic_and_said_once(tmp_path):
    text = f"station,x,y\nA,-1,1\nB,{2 * np.pi},1\nC,7,1\nD,-1e-17,1\nE,3,1\n"
    (layout, _), lines = said(layout_from_file, written(tmp_path, text))
    np.testing.assert_allclose(places(layout)[:, 0], [2 * np.pi - 1, 0, 7 - 2 * np.pi, 0, 3], atol=1e-12)
    assert [line.split(": ", 1)[1] for line in lines] == [
        "columns not used: station",
        "x of 4 of 5 brought into [0, 2π); the channel is periodic",
    ]
    with pytest.warns(UserWarning, match="x of 1 of 1 brought into"):
        layout_from_file(written(tmp_path, "-1,1"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,1\n1,4\n1,-1\n", r"s.csv, line 3: expected y between the walls, .*, got 4 \(and 1 more\)"),
        ("1,0\n", "line 1: expected y between the walls, 0 < y < π"),
        ("# walls\n\n1,3.15\n", "line 3: expected y between the walls"),
        ("120,1\n", r"line 1: expected x within a turn of \[0, 2π\) \(radians, not degrees\), got 120"),
        ("x,y\n1,1\n2,\n", "line 3: expected a position y, got nan"),
        ("x,y\n1,inf\n", "line 2: expected a position y, got inf"),
        ("x,y\n1,one\n", "line 2: expected a number as y, got 'one'"),
        ("1,5 2,5\n", "line 1: expected a number as y, got '5 2'"),
        ("1,5;2.5\n", "line 1: expected a decimal comma in y, as elsewhere in the file, got '2.5'"),
        ("1,1,0.1,7\n", "line 1: expected 2 to 3 columns, x, y, std, got 4; name them in a header"),
        ("1\n", "line 1: expected 2 to 3 columns, x, y, std, got 1"),
        ("x,y\n1,1\n1\n", "line 3: expected 2 columns as in the first line, got 1"),
        ("x,y\n1,1,1\n", "line 2: expected 2 columns as in the first line, got 3"),
        ("x,lon,y\n1,1,1\n", "expected one column x, got 'x' and 'lon'"),
        ("x,depth\n1,1\n", "expected columns x, y and perhaps std, found no y"),
        ("x,y,std\n1,1,0\n", "line 2: expected a std above 0, got 0"),
        ("x,y,std\n1,1,\n", "line 2: expected a std above 0, got nan"),
        ("x,y,std,var\n1,1,1,1\n", "expected std or variance, got both"),
        ("x,y\n", "expected numbers below the header, found none"),
        ("# nothing\n", "expected a table of numbers, found no line of it"),
        (b"\x89PNG\x00\x00", "expected a text file, found binary data"),
    ],
)
def test_bad_sensors_are_refused_with_their_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        said(layout_from_file, written(tmp_path, text))


def test_bad_arrays_and_names_are_refused(tmp_path):
    np.save(tmp_path / "p.npy", np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"expected positions \(sensors, 2\), or \(sensors, 3\) with std, got shape"):
        layout_from_file(tmp_path / "p.npy")
    np.save(tmp_path / "p.npy", [[1.0, 1.0], [1.0, 5.0]])
    with pytest.raises(ValueError, match=r"p.npy, row 1: expected y between the walls"):
        layout_from_file(tmp_path / "p.npy")
    (tmp_path / "p.npy").write_bytes(b"")
    with pytest.raises(ValueError, match="expected a file of positions x, y, could not read it"):
        layout_from_file(tmp_path / "p.npy")
    with pytest.raises(ValueError, match=r"suffix: expected one of .csv, .tsv, .txt, .dat, .npy; got '.xlsx'"):
        layout_from_file(tmp_path / "s.xlsx")
    with pytest.raises(ValueError, match="expected a text file, could not read it"):
        layout_from_file(tmp_path / "nowhere.csv")


# Observations ---------------------------------------------------------------------------------

ROWS = """time,x,y,value,std,operator
0,1,1,0.5,0.1,vorticity
2,1.5,1,-0.5,0.2,speed
0,2,2,,0.1,vorticity
2,2,2,1.5,0.1,vorticity
2,-1,2,1e0,0.1,vorticity
"""


def test_observations_of_text(tmp_path):
    """Unequal counts, moving sensors, an empty time, a missing value, two operators."""
    (own, sensors, testbed), lines = said(observations_from_file, written(tmp_path, ROWS), SMALL)
    assert testbed is SMALL and [each.operator for each in sensors] == ["vorticity", "speed"]
    assert own.values.shape == (3, 3) and own.mask.sum(1).tolist() == [1, 0, 3]
    np.testing.assert_allclose(own.values[2], [-0.5, 1.5, 1])
    np.testing.assert_allclose(own.variance[2], [0.04, 0.01, 0.01])
    np.testing.assert_allclose(own.positions[2], [[1.5, 1], [2, 2], [2 * np.pi - 1, 2]])
    assert own.sets[2].tolist() == [1, 0, 0] and own.sets[0, 0] == 0
    assert [line.split(": ")[1] for line in lines] == [
        "1 of 5 values are missing and left out",
        "x of 1 of 4 brought into [0, 2π); the channel is periodic",
    ]


@pytest.mark.parametrize(
    ("times", "every", "counts"),
    [
        ((0, 1, 1.75, 3), 1, [1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1]),
        ((0.5, 2.5, 3.0), 2, [0, 1, 0, 0, 0, 1, 1]),
        ((4, 2), 8, [0, 1, 1]),
        ((0, 0), 4, [2]),
        ((0, 0.7500001), 3, [1, 1]),
    ],
)
def test_cycles_follow_observations(tmp_path, times, every, counts):
    rows = "".join(f"{t},1,1,0.5,0.1\n" for t in times)
    path = written(tmp_path, "time,x,y,value,std\n" + rows)
    (own, _, testbed), _ = said(observations_from_file, path, SMALL, cycle_at="observations")
    assert testbed == dataclasses.replace(SMALL, frames_per_cycle=every) and own.mask.sum(1).tolist() == counts


HEADER = "time,x,y,value,std\n0,1,1,1,1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEADER + "1.75,1,1,1,1\n",
            r"line 3: expected a time that a cycle meets, one each 1 from 0 \(--cycle-at observations makes cycles",
        ),
        (HEADER + "0.3,1,1,1,1\n", "line 3: expected times in multiples of a frame, 0.25, got 0.3"),
        (HEADER + "-1,1,1,1,1\n", r"line 3: expected a time from 0 to 250000 \(non-dimensional\), got -1"),
        (HEADER + "1.7e9,1,1,1,1\n", "line 3: expected a time from 0 to 250000 .*, got 1.7e"),
        (HEADER + ",1,1,1,1\n", "line 3: expected a time from 0 to 250000 .*, got nan"),
        (HEADER + "2020-01-01,1,1,1,1\n", "line 3: expected a number as time, got '2020-01-01'"),
        (HEADER + "0,1,1,1e20,1\n", r"line 3: expected a value within ± 141 \(leave the cell .*, got 1e\+20"),
        (HEADER + "0,1,1,-999,1\n", "line 3: expected a value within ± 141"),
        (HEADER + "0,1,1,1,-1\n", "line 3: expected a std above 0, got -1"),
        (HEADER + "0,1,4,1,1\n", "line 3: expected y from 0 to π"),
        ("time,x,y,value\n0,1,1,1\n", r"expected columns time, x, y, value, std \(or variance\), found no std"),
        ("x,y,value,std\n1,1,1,1\n", "found no time; name it so"),
        ("0,1,1,1,0.1\n", "expected a header that names the columns"),
        ("time,x,y,value,std\n0,1,1,,1\n", "expected observations, found no value"),
        (ROWS.replace("speed", "sped"), "line 3: expected an operator, one of vorticity, .*, got 'sped'"),
    ],
)
def test_bad_observations_are_refused_with_their_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        said(observations_from_file, written(tmp_path, text), SMALL)


def test_what_disagrees_is_refused(tmp_path):
    path = written(tmp_path, ROWS)
    with pytest.raises(ValueError, match="names the operators itself; leave sensors and operator out"):
        said(observations_from_file, path, SMALL, sensors=[])
    with pytest.raises(ValueError, match=r"cycle_at: expected one of testbed, observations; got 'both'"):
        observations_from_file(path, SMALL, cycle_at="both")
    with pytest.raises(ValueError, match=r"expected one of .csv, .tsv, .txt, .dat, .nc, .zarr; got '.npy'"):
        observations_from_file("a.npy", SMALL)


def dataset(**changes):
    columns = {
        "obs_time": [0.0, 1],
        "obs_x": [1.0, 2],
        "obs_y": [1.0, 2],
        "obs_value": [0.5, 1],
        "obs_variance": [1, 1],
    }
    return xarray.Dataset({name: ("obs", np.asarray(values)) for name, values in (columns | changes).items()})


def test_datasets(tmp_path):
    path = tmp_path / "a.nc"
    dataset(obs_value=[np.nan, 1]).assign_coords(x=[0.0, 1, 2], time=[5.0]).to_netcdf(path, engine="h5netcdf")
    (own, sensors, _), lines = said(observations_from_file, path, SMALL)
    assert own.mask.tolist() == [[False], [True]] and len(sensors) == 1 and "1 of 2 values are missing" in lines[0]
    described = {
        "sensors": [{"operator": "speed", "role": "assimilated"}, {"operator": "vorticity", "role": "guiding"}]
    }
    sets = dataset(obs_set=[1, 0]).assign_coords(analysis_time=[0.0, 1, 2, 3])
    sets.assign_attrs(config=json.dumps(described)).to_netcdf(path, engine="h5netcdf")
    (own, sensors, _), _ = said(observations_from_file, path, SMALL)
    assert [(each.operator, each.role) for each in sensors] == [("speed", "assimilated"), ("vorticity", "guiding")]
    assert own.mask.sum(1).tolist() == [1, 1, 0, 0] and own.sets[:, 0].tolist() == [1, 0, 0, 0]  # the last two silent


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            lambda: dataset().rename(obs_value="omega"),
            "expected a variable value or observation or obs_value along one",
        ),
        (lambda: dataset(obs_truth=[0, 1]), "holds observations of several truths; select those of one"),
        (lambda: dataset(obs_set=[0, 1]), r"belong to sets up to number 1, 1 set\(s\) of sensors are described"),
        (lambda: dataset(x=[1.0, 2]), "expected one variable x, got x and obs_x"),
        (
            lambda: dataset(obs_set=[0, 0]).assign_attrs(config='{"sensors": [{"operator": "mine", "role": ""}]}'),
            "was measured with an operator that is none of vorticity, ",
        ),
        (lambda: dataset(obs_time=[0.0, 1.75]), "a.nc, obs 1: expected a time that a cycle meets"),
        (lambda: dataset(obs_time=[0.0, 1]).assign({"obs_x": ("obs", [True, False])}), "expected numbers as obs_x"),
    ],
)
def test_bad_datasets_are_refused(tmp_path, made, message):
    made().to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match=message):
        said(observations_from_file, tmp_path / "a.nc", SMALL)


def test_dates_and_broken_files_are_refused(tmp_path):
    dated = dataset()
    dated["obs_time"].attrs["units"] = "days since 2020-01-01"
    dated.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match="expected non-dimensional times, got 'days since 2020-01-01'"):
        observations_from_file(tmp_path / "a.nc", SMALL)
    (tmp_path / "a.nc").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"expected a complete .nc file, could not read it"):
        observations_from_file(tmp_path / "a.nc", SMALL)
