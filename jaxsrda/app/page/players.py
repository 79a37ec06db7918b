"""Players: truth, analysis mean, spread and |error| of each file side by side, with a slider over time."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsrda.app.page.frames import MAGNITUDE, VORTICITY, Movie, Panel, colour_limits, palettes, panels, still
from jaxsrda.app.page.html import Html, data_uri, joined, tag

REDUCTIONS = ((1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4))
"""Every so many points in x and y, every so many frames: the first that fits the page is taken."""

LARGEST_STILL = 256
"""Points along x of a still picture at most."""


@dataclasses.dataclass(frozen=True)
class Players:
    """The players' HTML, and the data (JSON) that the script plays."""

    section: Html
    data: str


def players(movies: Mapping[str, Movie], room: int) -> Players:
    """Players of the movies by name, in about `room` characters: frames are thinned, or left out, to stay in it."""
    limits, colours = colour_limits(movies.values()), palettes()
    stills = [_still_panels(movie) for movie in movies.values()]
    sections = [
        _player(name, number, movie, *shown, colours, limits)
        for number, ((name, movie), shown) in enumerate(zip(movies.items(), stills))
    ]
    data, note = _fitting(movies, room - sum(map(len, sections)), colours, limits)
    together = tag("label", tag("input", type="checkbox", class_="together"), " Move all players together")
    choice = tag("p", together, class_="scripted") if len(movies) > 1 and data != "{}" else None
    bars = tag("div", *(_colour_bar(kind, colours[kind], limits[kind]) for kind in limits), class_="scales")
    about = tag("p", "Colours and their limits are the same for all results. ", note)
    return Players(joined(about, bars, choice, *sections), data)


def _fitting(
    movies: Mapping[str, Movie], room: int, colours: Mapping[str, np.ndarray], limits: Mapping[str, float]
) -> tuple[str, str]:
    """The data of the first of `REDUCTIONS` that takes at most `room` characters, and what was reduced, in words."""
    values = sum(field.size for movie in movies.values() for _, field in movie.panels.values())
    for points, every in REDUCTIONS:
        # Truths, a quarter of the panels, may be stored once; base64 takes 4/3 of the rest's bytes: `values` at least.
        if values / (points**2 * every) <= room:
            data = _data(movies, points, every, colours, limits)
            if len(data) <= room:
                return data, _reduction(points, every)
    return "{}", "The fields do not fit the page in motion: one time of each is shown. Put fewer results in a folder."


def _reduction(points: int, frames: int) -> str:
    kept = [f"every {what}" for what in (_nth(points, "point in x and y"), _nth(frames, "frame"))]
    return (
        f"The players hold {' and '.join(kept)}, in 256 steps from the least to the largest value of each field; "
        "MAER is that of the whole fields."
    )


def _nth(step: int, what: str) -> str:
    return what if step == 1 else f"{step}{'nd' if step == 2 else 'th'} {what}"


def _still_panels(movie: Movie) -> tuple[int, dict[str, Panel]]:
    """The frame of the last analysis, or the last, and its panels, thinned to `LARGEST_STILL`."""
    frame = max(movie.sensors, default=len(movie.times) - 1)
    one = dataclasses.replace(
        movie, panels={name: (kind, fields[frame : frame + 1]) for name, (kind, fields) in movie.panels.items()}
    )
    width = next(iter(movie.panels.values()))[1].shape[1]
    return frame, panels(one, points=-(-width // LARGEST_STILL))


def _player(
    name: str,
    number: int,
    movie: Movie,
    frame: int,
    shown: Mapping[str, Panel],
    colours: Mapping[str, np.ndarray],
    limits: Mapping[str, float],
) -> Html:
    time = f"t = {float(movie.times[frame]):g}"
    figures = []
    for panel_name, panel in shown.items():
        picture = data_uri(still(panel, 0, colours[panel.kind], limits[panel.kind]), "image/png")
        rows, columns = panel.frames.shape[1:]
        image = tag("img", src=picture, alt=f"{panel_name} of {name} at {time}", width=columns, height=rows)
        canvas = tag("canvas", role="img", aria_label=f"{panel_name} of {name}, in motion", hidden=True)
        caption = tag("figcaption", f"{panel_name} ", tag("span", class_="value"))
        figures.append(tag("figure", caption, image, canvas))
    maer = "" if movie.maer is None else f", MAER {movie.maer[frame]:.3f}"
    of_truths = f", first of {movie.truths} truths" if movie.truths > 1 else ""
    slider = tag("input", type="range", class_="time", min=0, max=0, value=0, step=1, aria_label=f"Time of {name}")
    dots = tag("label", tag("input", type="checkbox", class_="dots", checked=True), " sensors")
    play = tag("button", "Play", type="button", class_="play", aria_label=f"Play {name}")
    controls = tag("div", play, slider, dots if movie.sensors else None, class_="controls scripted", hidden=True)
    now = tag("p", f"{time}{maer}{of_truths}", class_="now")
    heading = tag("h3", name)
    body = (heading, tag("div", controls, now, class_="above"), tag("div", *figures, class_="panels"))
    return tag("section", *body, class_="player", data_player=number, data_suffix=of_truths)


def _colour_bar(kind: str, palette: np.ndarray, limit: float) -> Html:
    signed = kind == VORTICITY
    low = -limit if signed else 0.0
    ramp = Panel(kind, low, limit, np.arange(256, dtype=np.uint8)[None, None])
    what = "vorticity" if kind == VORTICITY else "spread and |error|"
    ends = (f"{'≤ ' if signed else ''}{low:.3g}".replace("-", "−"), what, f"≥ {limit:.3g}")
    picture = tag(
        "img",
        src=data_uri(still(ramp, 0, palette, limit), "image/png"),
        alt=f"Colours of {what} from {low:.3g} to {limit:.3g}",
        width=256,
        height=1,
    )
    return tag("figure", picture, tag("figcaption", *(tag("span", end) for end in ends)), class_="bar")


def _data(
    movies: Mapping[str, Movie],
    points: int,
    every: int,
    colours: Mapping[str, np.ndarray],
    limits: Mapping[str, float],
) -> str:
    """What the script plays, as JSON."""
    arrays: dict[str, str] = {}
    played: list[dict[str, Any]] = []
    for movie in movies.values():
        reduced = panels(movie, points, every)
        arrays |= {panel.key: panel.encoded() for panel in reduced.values()}
        rows, columns = next(iter(reduced.values())).frames.shape[1:]
        played.append(
            {
                "times": [float(time) for time in movie.times[::every]],
                "width": columns,
                "height": rows,
                "maer": None if movie.maer is None else [round(float(value), 4) for value in movie.maer[::every]],
                "sensors": {
                    frame // every: _fractions(sensors, points, columns, rows)
                    for frame, sensors in movie.sensors.items()
                    if frame % every == 0
                },
                "panels": [
                    {"name": name, "kind": panel.kind, "low": panel.low, "high": panel.high, "frames": panel.key}
                    for name, panel in reduced.items()
                ],
            }
        )
    scales = {
        kind: {
            "colours": palette.ravel().tolist(),
            "low": -limits[kind] if kind != MAGNITUDE else 0.0,
            "high": limits[kind],
        }
        for kind, palette in colours.items()
    }
    return json.dumps({"scales": scales, "arrays": arrays, "players": played}, separators=(",", ":"))


def _fractions(sensors: np.ndarray, points: int, columns: int, rows: int) -> list[list[float]]:
    """Sensors as [from the left, from the top, set], fractions of a picture whose pixels are centred on its points."""
    across = (sensors[:, 0] / points + 0.5) / columns % 1
    down = 1 - (sensors[:, 1] / points + 0.5) / rows
    return np.round(np.stack([across, down, sensors[:, 2]], -1), 4).tolist()
