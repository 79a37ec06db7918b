"""Pictures of fields: truth, background, analysis, spread and error side by side, and an animation.

Fields are ω[nx, ny], drawn with x to the right and y up; every quantity is non-dimensional.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cmocean
import matplotlib
import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from jaxsrda.app.plotting import STYLE, note, save
from jaxsrda.core.checks import check_shape
from jaxsrda.core.files import atomic_path

VORTICITY, MAGNITUDE = "Vorticity", "Magnitude"
"""The two kinds of column, each with colours and a scale of its own."""

MAX_GIF_FRAMES = 96
"""Frames of an animation at most; longer runs are thinned evenly."""


@matplotlib.rc_context(STYLE)
def plot_fields(
    path: str | Path,
    times: Any,
    truth: Any,
    background: Any,
    mean: Any,
    std: Any,
    sensors: Sequence[Any] | None = None,
    title: str = "",
) -> None:
    """Rows of times; columns truth, background, analysis mean, spread and |error| with its MAER.

    truth, background, mean, std: (rows, nx, ny); without a truth (None) its two columns go.
    times: (rows,).  sensors: positions (p, 2) as x and y for each row, dots on the analysis mean.
    """
    columns = _field_columns(times, truth, background, mean, std)
    if sensors is not None and len(sensors) != len(mean):
        raise ValueError(f"sensors: expected positions for each of {len(mean)} rows, got {len(sensors)} sets")
    rows = len(mean)
    height = 1.35 * rows + (1.5 if title else 1.25)
    figure = Figure(figsize=(2.5 * len(columns) + 0.4, height), layout="compressed")  # panels of fixed aspect
    axes = figure.subplots(rows, len(columns), squeeze=False, sharex=True, sharey=True)
    limits = _limits(columns)
    for column, (name, (kind, fields)) in enumerate(columns.items()):
        axes[0, column].set_title(name)
        for row, field in enumerate(fields):
            _draw(axes[row, column], field, kind, limits)
            if name == "Analysis mean" and sensors is not None:
                x, y = np.reshape(sensors[row], (-1, 2)).T
                axes[row, column].plot(x, y, ".", color="black", markersize=2.5, markeredgewidth=0)
            if name == "|Error|":
                maer = field.sum() / max(np.abs(columns["Truth"][1][row]).sum(), np.finfo(float).tiny)
                note(axes[row, column], f"MAER {maer:.3f}")
    for row, time in enumerate(times):
        axes[row, 0].set_ylabel(f"t = {float(time):g}\ny")
    for axis in axes[-1]:
        axis.set_xlabel("x")
    _colorbars(figure, axes, columns)
    if title:
        figure.suptitle(title)
    save(figure, path)


@matplotlib.rc_context(STYLE)
def animate(path: str | Path, times: Any, truth: Any, mean: Any, std: Any, fps: int = 8) -> None:
    """A GIF of truth, analysis mean and spread, each (frames, nx, ny), at fixed colour limits.

    times: (frames,).  truth may be None.  Runs of more than `MAX_GIF_FRAMES` frames are thinned.
    """
    columns = _field_columns(times, truth, None, mean, std)
    columns.pop("|Error|", None)
    figure = Figure(figsize=(2.8 * len(columns), 2.8), layout="compressed", dpi=75)
    axes = figure.subplots(1, len(columns), squeeze=False, sharex=True, sharey=True)
    limits, images = _limits(columns), []
    for axis, (name, (kind, fields)) in zip(axes[0], columns.items()):
        images.append(_draw(axis, fields[0], kind, limits))
        axis.set(title=name, xlabel="x")
    axes[0, 0].set_ylabel("y")
    _colorbars(figure, axes, columns)
    heading = figure.suptitle("t = 0.00")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # keep the panels where they are from frame to frame
    with atomic_path(path, (".gif",)) as temporary:
        writer = PillowWriter(fps=fps)
        with writer.saving(figure, str(temporary), dpi=figure.dpi):
            for frame in range(0, len(mean), -(-len(mean) // MAX_GIF_FRAMES)):
                for image, (_, fields) in zip(images, columns.values()):
                    image.set_data(_image(fields[frame]))
                heading.set_text(f"t = {float(times[frame]):.2f}")
                writer.grab_frame()


def _field_columns(times: Any, truth: Any, background: Any, mean: Any, std: Any) -> dict[str, tuple[str, np.ndarray]]:
    """The columns that there are: name → (what its colours show, fields (rows, nx, ny))."""
    check_shape("mean", mean, (None, None, None), hint=" (rows, nx, ny)")
    shape = tuple(np.shape(mean))
    given = {"Truth": truth, "Background": background, "Analysis mean": mean, "Spread": std}
    for name, fields in given.items():
        if fields is not None:
            check_shape(name.lower(), fields, shape, hint=" as the mean has")
    check_shape("times", times, shape[:1], hint=" as the mean has rows")
    if not shape[0]:
        raise ValueError("mean: expected at least one row, got none")
    columns = {
        name: (MAGNITUDE if name == "Spread" else VORTICITY, np.asarray(fields, float))
        for name, fields in given.items()
        if fields is not None
    }
    if truth is not None:
        columns["|Error|"] = MAGNITUDE, np.abs(columns["Analysis mean"][1] - columns["Truth"][1])
    return columns


def _limits(columns: Mapping[str, tuple[str, np.ndarray]]) -> dict[str, float]:
    """Upper colour limit of each kind of column: the 99.8th percentile of the magnitudes."""
    limits = {}
    for kind in (VORTICITY, MAGNITUDE):
        values = np.concatenate([np.abs(fields).ravel() for shown, fields in columns.values() if shown == kind])
        values = values[np.isfinite(values)]
        limits[kind] = float(np.percentile(values, 99.8)) if values.any() else 1.0
    return limits


def _image(field: np.ndarray) -> np.ndarray:
    """A field [nx, ny] as an image, rows along y, closed by the periodic column x = 2π."""
    return np.concatenate([field, field[:1]]).T


def _draw(axis: Axes, field: np.ndarray, kind: str, limits: Mapping[str, float]) -> AxesImage:
    """Draw a field with each pixel centred on its grid point, on [0, 2π] × [0, π]."""
    half_x, half_y = np.pi / field.shape[0], np.pi / (field.shape[1] - 1) / 2
    signed = kind == VORTICITY
    image = axis.imshow(
        _image(field),
        cmap=cmocean.cm.curl if signed else cmocean.cm.amp,  # type: ignore[attr-defined]
        vmin=-limits[kind] if signed else 0.0,
        vmax=limits[kind],
        origin="lower",
        extent=(-half_x, 2 * np.pi + half_x, -half_y, np.pi + half_y),
        aspect="equal",
    )
    axis.set(xlim=(0, 2 * np.pi), ylim=(0, np.pi))
    axis.set_xticks([0, np.pi, 2 * np.pi], ["0", "π", "2π"])
    axis.set_yticks([0, np.pi], ["0", "π"])
    axis.spines[:].set_visible(True)
    return image


def _colorbars(figure: Figure, axes: np.ndarray, columns: Mapping[str, tuple[str, np.ndarray]]) -> None:
    """A colour bar below the columns of each kind, with pointed ends for the values beyond its limits."""
    for kind, extend in ((VORTICITY, "both"), (MAGNITUDE, "max")):
        names = [name for name, (shown, _) in columns.items() if shown == kind]
        below = axes[:, [name in names for name in columns]]
        label = VORTICITY if kind == VORTICITY else ", ".join(names)
        shrink = min(1.0, 0.4 + 0.4 / len(names))
        bar = figure.colorbar(
            below[0, 0].images[0], ax=below, location="bottom", extend=extend, label=label, aspect=30, shrink=shrink
        )
        bar.outline.set_visible(False)  # type: ignore[operator]
