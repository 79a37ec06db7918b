"""Pictures: each is there, of a sensible size and not blank; bad arrays say why."""

import os
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from jaxsrda.app import field_pictures, plotting
from jaxsrda.flow.grid import ChannelGrid, bases

GRID = ChannelGrid(32, 17)
TIMES = np.array([1.0, 2.25])


def turbulence(frames: int, seed: int = 0) -> np.ndarray:
    """Random fields (frames, nx, ny) with a smooth spectrum."""
    basis = bases(GRID)
    amplitudes = np.random.default_rng(seed).standard_normal((frames, *GRID.spectral_shape)) / (1 + basis.k2 / 9)
    return np.einsum("xk,nkl,ly->nxy", basis.fourier, amplitudes, basis.sine)


@pytest.fixture
def fields():
    truth, error = turbulence(2), 0.2 * turbulence(2, seed=1)
    return {"truth": truth, "background": truth + 2 * error, "mean": truth + error, "std": 0.2 + 0 * truth}


def picture(path) -> np.ndarray:
    """The pixels (rows, columns, 3) of a written picture, which must not be blank or leave other files."""
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    pixels = imread(path)[..., :3]
    assert 300 < pixels.shape[0] < 3000 and 400 < pixels.shape[1] < 3000
    assert pixels[:2].min() == 1.0, "something is cut off at the top"
    assert 0.005 < (pixels < 0.99).any(-1).mean() < 0.95
    return pixels


def series(shape, seed=0):
    rng = np.random.default_rng(seed)
    return {score: rng.uniform(0.5, 1.5, shape) for score in ("maer", "crps", "spread_skill", "mssim_loss")}


def test_intervals(tmp_path):
    labels = {name: {"maer": (m, m - 0.1, m + 0.1), "crps": (m, m, m)} for name, m in (("none", 1.0), ("oi", 0.8))}
    plotting.plot_intervals(tmp_path / "a.png", {"8-4": labels, "8-12": labels}, ("maer", "crps"))
    picture(tmp_path / "a.png")
    with pytest.raises(ValueError, match="8-4: expected spread_skill of every label, none, oi lack it"):
        plotting.plot_intervals(tmp_path / "b.png", {"8-4": labels})
    with pytest.raises(ValueError, match="groups: expected at least one label"):
        plotting.plot_intervals(tmp_path / "b.png", {})


def test_fields(tmp_path, fields):
    sensors = [np.array([[1.0, 1.0], [4.0, 2.0]])] * 2
    path = tmp_path / "a.png"
    field_pictures.plot_fields(path, TIMES, **fields, sensors=sensors, title="LETKF")
    with_sensors = picture(path)
    field_pictures.plot_fields(path, TIMES, **fields, title="LETKF")
    without = picture(path)
    changed = (with_sensors != without).any(-1)
    assert 0 < changed.mean() < 0.01  # the dots and nothing else
    columns = np.nonzero(changed.any(0))[0] / changed.shape[1]
    assert 0.4 < columns.min() and columns.max() < 0.62  # in the third of five columns


def test_fields_without_truth_are_narrower(tmp_path, fields):
    field_pictures.plot_fields(tmp_path / "a.png", TIMES, **fields)
    full = picture(tmp_path / "a.png")
    field_pictures.plot_fields(tmp_path / "a.png", TIMES, **(fields | {"truth": None}))
    assert picture(tmp_path / "a.png").shape[1] < 0.7 * full.shape[1]


def test_fields_are_drawn_with_y_up(tmp_path):
    """Vorticity at large x and large y only: its colours are in the upper right quarter of a panel."""
    field = np.zeros((1, *GRID.shape))
    field[:, 24:28, 12:15] = 1.0
    columns = field_pictures._field_columns([0.0], None, None, field, field)
    axis = plotting.Figure().subplots()
    image = field_pictures._draw(axis, field[0], field_pictures.VORTICITY, field_pictures._limits(columns))
    values, (left, right, bottom, top) = np.asarray(image.get_array()), image.get_extent()
    assert image.origin == "lower"
    rows, cols = np.nonzero(values)
    y = bottom + (rows + 0.5) * (top - bottom) / values.shape[0]
    x = left + (cols + 0.5) * (right - left) / values.shape[1]
    np.testing.assert_allclose(np.unique(x), GRID.x[24:28])
    np.testing.assert_allclose(np.unique(y), GRID.y[12:15])


def test_colour_scales_are_shared(fields):
    limits = field_pictures._limits(field_pictures._field_columns(TIMES, *fields.values()))
    assert 0 < limits[field_pictures.MAGNITUDE] < limits[field_pictures.VORTICITY] <= np.abs(fields["background"]).max()
    zero = np.zeros((1, *GRID.shape))
    assert set(field_pictures._limits(field_pictures._field_columns([0.0], zero, zero, zero, zero)).values()) == {1.0}


def test_fields_that_are_not_finite_still_give_a_picture(tmp_path, fields):
    fields["mean"] = fields["mean"] * np.nan
    field_pictures.plot_fields(tmp_path / "a.png", TIMES, **fields)
    picture(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"std": np.ones((2, 32, 16))}, r"spread: expected shape \(2, 32, 17\), got \(2, 32, 16\)"),
        ({"mean": np.ones((32, 17))}, "mean: expected 3 dimensions"),
        ({"times": [1.0]}, r"times: expected shape \(2\), got \(1,\)"),
        ({"sensors": [np.ones((3, 2))]}, "sensors: expected positions for each of 2 rows, got 1"),
        ({"path": "a.bmp"}, r"expected one of \.png, \.pdf, \.svg; got '\.bmp'"),
        ({"path": "nowhere/a.png"}, "expected an existing folder"),
    ],
)
def test_field_errors(tmp_path, monkeypatch, fields, change, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        field_pictures.plot_fields(**({"path": "a.png", "times": TIMES} | fields | change))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(6,), (5, 6)])
def test_series(tmp_path, shape):
    lines = {"enkf-hr": series(shape), "cnn": {"maer": np.ones(shape)}}
    plotting.plot_series(tmp_path / "a.png", np.arange(6) * 0.25, lines)
    picture(tmp_path / "a.png")


def test_series_of_one_score_and_many_labels(tmp_path):
    lines = {f"method {i}": series((6,), seed=i) for i in range(9)}
    plotting.plot_series(tmp_path / "a.png", np.arange(6), lines, scores=("crps",))
    picture(tmp_path / "a.png")


def test_interval_of_the_mean_covers_it():
    values = np.random.default_rng(0).standard_normal((50, 400))
    low, high = plotting._interval(values)
    assert 0.88 < np.mean((low < 0) & (high > 0)) < 0.99


def test_series_errors(tmp_path):
    with pytest.raises(ValueError, match="scores: expected 'bias' in the series, found crps, maer"):
        plotting.plot_series(tmp_path / "a.png", np.arange(6), {"a": series((6,))}, scores=("bias",))
    with pytest.raises(ValueError, match="scores: expected at least one name"):
        plotting.plot_series(tmp_path / "a.png", np.arange(6), {"a": series((6,))}, scores=())
    with pytest.raises(ValueError, match=r"series 'a' maer: expected shape \(any, 5\), got \(1, 6\)"):
        plotting.plot_series(tmp_path / "a.png", np.arange(5), {"a": series((6,))})


def test_spectra(tmp_path):
    truth = np.arange(43.0) ** 2 * np.exp(-np.arange(43.0))
    plotting.plot_spectra(tmp_path / "a.png", {"truth": truth, "cnn": 0 * truth, "bicubic": truth**2})
    picture(tmp_path / "a.png")
    with pytest.raises(ValueError, match="spectra: expected at least one with energy"):
        plotting.plot_spectra(tmp_path / "b.png", {"truth": 0 * truth})
    with pytest.raises(ValueError, match="spectrum 'truth': expected 1 dimensions"):
        plotting.plot_spectra(tmp_path / "b.png", {"truth": np.ones((2, 3))})


def test_rank_histogram(tmp_path):
    plotting.plot_rank_histogram(tmp_path / "a.png", np.arange(1, 12))
    picture(tmp_path / "a.png")
    with pytest.raises(ValueError, match="counts: expected at least one truth counted, got none"):
        plotting.plot_rank_histogram(tmp_path / "a.png", np.zeros(11))


def test_reliability(tmp_path):
    probability = np.tile(np.linspace(0.05, 0.95, 10), (2, 1))
    counts = np.full((2, 10), 100)
    counts[1, 6:] = 0
    frequency = np.where(counts > 0, probability**1.2, np.nan)
    plotting.plot_reliability(tmp_path / "a.png", probability, frequency, counts, [2.0, 6.0])
    picture(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"counts: expected shape \(2, 10\), got \(2, 9\)"):
        plotting.plot_reliability(tmp_path / "a.png", probability, frequency, counts[:, 1:], [2.0, 6.0])


@pytest.mark.parametrize("truths", [True, False])
def test_animation(tmp_path, monkeypatch, truths):
    monkeypatch.setattr(field_pictures, "MAX_GIF_FRAMES", 3)
    fields = turbulence(5)
    path = tmp_path / "a.gif"
    field_pictures.animate(path, np.arange(5) * 0.25, fields if truths else None, fields + 0.1, np.abs(fields))
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]
    with Image.open(path) as gif:
        assert gif.n_frames == 3  # frames 0, 2 and 4
        assert gif.width > 400 and 150 < gif.height < 400
        first = np.asarray(gif.convert("L"), float)
        gif.seek(2)
        last = np.asarray(gif.convert("L"), float)
    assert first.std() > 5
    changed = (first != last).mean()
    assert 0.02 < changed < 0.7  # the fields move, the frame does not
    assert path.stat().st_size / 3 < 6e6 / 96


def test_animation_suffix(tmp_path):
    fields = turbulence(1)
    with pytest.raises(ValueError, match=r"expected one of \.gif; got '\.mp4'"):
        field_pictures.animate(tmp_path / "a.mp4", [0.0], fields, fields, fields)


def test_failed_picture_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    plotting.plot_rank_histogram(path, np.ones(5))
    old = path.read_bytes()

    def fail(self, file, **_):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(plotting.Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        plotting.plot_rank_histogram(path, np.arange(5))
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("suffix", [".pdf", ".svg"])
def test_vector_formats(tmp_path, suffix):
    plotting.plot_rank_histogram(tmp_path / f"a{suffix}", np.ones(5))
    start = (tmp_path / f"a{suffix}").read_bytes()[:200]
    assert start.startswith(b"%PDF") if suffix == ".pdf" else b"<?xml" in start


def test_the_core_imports_no_plotting():
    code = "import sys, jaxsrda, jaxsrda.app.datasets; assert not {'matplotlib', 'xarray', 'zarr'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})


def test_curve_of_a_training(tmp_path):
    rows = [{"samples": 16.0 * i, "loss": 2.0 / i, "diffusion": 1.0 / i, "regression": 1.0 / i} for i in range(1, 5)]
    plotting.plot_curve(tmp_path / "curve.png", rows)
    assert (tmp_path / "curve.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="expected at least one row"):
        plotting.plot_curve(tmp_path / "curve.png", [])
