"""Fields of a file of analyses as frames of bytes that a page plays, and as still pictures."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxsrda.app.fields import open_dataset

VORTICITY, MAGNITUDE = "vorticity", "magnitude"
"""The two kinds of panel, each with colours and limits of its own on the whole page."""

LEVELS = 255
"""Steps of a byte from a panel's least to its largest value."""


@dataclasses.dataclass(frozen=True)
class Movie:
    """The first truth's fields in a file of analyses.

    panels: name → (kind, fields (time, nx, ny)); sensors: frame → (p, 3), positions in x and y over the grid spacing,
    and the number of their set; maer: (time,) of the whole fields, None without a truth.
    """

    times: np.ndarray
    panels: dict[str, tuple[str, np.ndarray]]
    sensors: dict[int, np.ndarray]
    maer: np.ndarray | None
    truths: int
    attrs: dict[str, Any]


def read_movie(path: Path) -> Movie:
    """The movie of a file that `assimilate --out` wrote; ValueError says why there is none."""
    with open_dataset(path) as dataset:
        names = {"Truth": "omega_truth", "Analysis mean": "omega_mean", "Spread": "omega_std"}
        if missing := [name for name in ("omega_mean", "omega_std", "time", "x", "y") if name not in dataset.variables]:
            raise ValueError(f"no analyses of `jaxsrda assimilate`: it has no {missing[0]}")
        truths = dataset.sizes.get("truth", 1)
        first = dataset.isel(truth=0) if "truth" in dataset.sizes else dataset
        fields = {
            name: first[variable].transpose("time", "x", "y").values.astype(np.float32)
            for name, variable in names.items()
            if variable in dataset.variables
        }
        times = dataset["time"].values
        kept = {str(name): dataset[name].values for name in dataset.variables if str(name).startswith("obs_")}
        attrs = dict(dataset.attrs)
    if not all(field.size and np.isfinite(field).all() for field in fields.values()):
        raise ValueError("its fields are empty or not finite")
    panels = {name: (MAGNITUDE if name == "Spread" else VORTICITY, field) for name, field in fields.items()}
    maer = None
    if "Truth" in fields:
        error = abs(fields["Analysis mean"] - fields["Truth"])
        panels["|Error|"] = MAGNITUDE, error
        maer = error.sum((1, 2)) / np.maximum(abs(fields["Truth"]).sum((1, 2)), np.finfo(float).tiny)
    return Movie(times, panels, _sensors(kept, times), maer, truths, attrs)


def _sensors(kept: Mapping[str, np.ndarray], times: np.ndarray) -> dict[int, np.ndarray]:
    """Frame → sensors of the first truth, at the frames where there are any."""
    if not {"obs_time", "obs_x_index", "obs_y_index"} <= set(kept):
        return {}
    sets = kept.get("obs_set", np.zeros(len(kept["obs_time"])))
    every = np.stack([kept["obs_x_index"], kept["obs_y_index"], sets], -1)
    mine = kept.get("obs_truth", np.zeros(len(every))) == 0
    at = {i: every[mine & np.isclose(kept["obs_time"], time)] for i, time in enumerate(times)}
    return {i: sensors for i, sensors in at.items() if len(sensors)}


def colour_limits(movies: Iterable[Movie]) -> dict[str, float]:
    """Upper colour limit of each kind for all movies together: the 99.8th percentile of the magnitudes."""
    limits = {}
    movies = list(movies)
    for kind in (VORTICITY, MAGNITUDE):
        fields = [abs(field).ravel() for movie in movies for of, field in movie.panels.values() if of == kind]
        limits[kind] = float(np.percentile(np.concatenate(fields), 99.8)) or 1.0
    return limits


def palettes() -> dict[str, np.ndarray]:
    """Colours (256, 3) of each kind, uint8.  ValueError without cmocean."""
    try:
        import cmocean
    except ImportError as error:
        raise ValueError(f'fields: need {error.name}, which is not installed: pip install "jaxsrda[plot]"') from None
    maps = {VORTICITY: cmocean.cm.curl, MAGNITUDE: cmocean.cm.amp}  # type: ignore[attr-defined]
    return {kind: np.round(255 * shown(np.arange(256))[:, :3]).astype(np.uint8) for kind, shown in maps.items()}


# Frames of bytes ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Panel:
    """Frames as a page stores them: bytes (time, rows from the top, columns), 0 for `low`, 255 for `high`."""

    kind: str
    low: float
    high: float
    frames: np.ndarray

    @property
    def key(self) -> str:
        """The name of the frames on the page: equal frames, as of one truth, are stored once."""
        return hashlib.sha256(repr(self.frames.shape).encode() + self.frames.tobytes()).hexdigest()[:16]

    def encoded(self) -> str:
        """The frames as base64 text."""
        return base64.b64encode(self.frames.tobytes()).decode()


def panels(movie: Movie, points: int = 1, frames: int = 1) -> dict[str, Panel]:
    """The panels of a movie, every `points`-th point in x and y of every `frames`-th frame, in bytes."""
    return {name: _panel(kind, field[::frames, ::points, ::points]) for name, (kind, field) in movie.panels.items()}


def _panel(kind: str, fields: np.ndarray) -> Panel:
    low, high = float(fields.min()), float(fields.max())
    steps = np.round((fields - low) * (LEVELS / ((high - low) or 1))).astype(np.uint8)
    return Panel(kind, low, high, np.ascontiguousarray(steps.swapaxes(1, 2)[:, ::-1]))


def still(panel: Panel, frame: int, palette: np.ndarray, limit: float) -> bytes:
    """One frame as a PNG of indexed colours, with the page's colour limits."""
    values = np.linspace(panel.low, panel.high, 256)
    below, width = (-limit, 2 * limit) if panel.kind == VORTICITY else (0.0, limit)
    colours = palette[np.clip(np.round(255 * (values - below) / width), 0, 255).astype(int)]
    rows, columns = panel.frames.shape[1:]
    lines = b"".join(b"\0" + row.tobytes() for row in panel.frames[frame])
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),  # eight bits, indices into a palette
        (b"PLTE", colours.tobytes()),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
