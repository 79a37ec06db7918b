"""Charts as inline SVG, drawn in user units of a fixed frame; a script reads their values off, tables hold them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxsrda.app.page.html import Html, details, joined, table, tag

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 380, 230, 46, 10, 10, 38
"""A chart's size and the margins around its axes."""

COLOURS, DASHES = 6, 4
"""Line styles of the style sheet: classes c0 … c5, and d0 … d3 for the seventh line on."""


@dataclasses.dataclass(frozen=True)
class Axis:
    """From a quantity's limits to places in the frame, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low or 1) * (self.end - self.start), 2)

    def ticks(self) -> list[float]:
        """Round values in the limits."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**power for power in range(first, last + 1, max(1, math.ceil((last - first) / 6)))]
        rough = (self.high - self.low or 1) / 5
        unit = 10 ** math.floor(math.log10(rough))
        step = next(unit * n for n in (1, 2, 2.5, 5, 10) if unit * n >= rough * (1 - 1e-9))
        return [round(step * i, 12) for i in range(math.ceil(self.low / step - 1e-9), int(self.high / step + 1e-9) + 1)]


def style(index: int) -> str:
    """The classes of the index-th line of a page."""
    return f"c{index % COLOURS} d{index // COLOURS % DASHES}"


def line_charts(
    charts: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
    xlabel: str,
    styles: Mapping[str, str],
    log: bool = False,
    reference: Mapping[str, float] | None = None,
) -> Html:
    """Charts side by side over one axis, with a slider that reads all of them off, and a table of each.

    charts: heading → label → (x, y), both (n,); NaN is a gap.  styles: label → classes of its line.
    log: both axes are logarithmic and only positive values are drawn.  reference: heading → a level to compare with.
    """
    lines = [line for chart in charts.values() for line in chart.values()]
    x = np.unique(np.concatenate([at for at, _ in lines]))
    axis = Axis(float(x[0]), float(x[-1]), LEFT, WIDTH - RIGHT, log)
    places = [axis.place(float(value)) for value in x]
    figures = [
        _figure(heading, chart, x, axis, xlabel, styles, (reference or {}).get(heading))
        for heading, chart in charts.items()
    ]
    slider = tag("input", type="range", min=0, max=len(x) - 1, value=len(x) - 1, step=1, aria_label=f"Read at {xlabel}")
    chosen = tag("output", f"{xlabel} {x[-1]:g}")
    reader = tag("label", "Values at ", slider, chosen, class_="reader scripted")
    tables = [_values_table(heading, chart, x, xlabel) for heading, chart in charts.items()]
    holds = {"data_x": json.dumps([f"{value:g}" for value in x]), "data_places": json.dumps(places)}
    grid = tag("div", *figures, class_="charts")
    return tag("div", reader, grid, *tables, class_="chart-group", data_label=xlabel, **holds)


def _values_table(heading: str, chart: Mapping[str, tuple], x: np.ndarray, xlabel: str) -> Html:
    columns = {label: _aligned(line, x) for label, line in chart.items()}
    rows = [[f"{at:g}", *(_short(columns[label][i]) for label in chart)] for i, at in enumerate(x)]
    return details(f"{heading}: table", table([xlabel, *chart], rows, f"{heading} against {xlabel}"))


def _figure(
    heading: str,
    chart: Mapping[str, tuple[np.ndarray, np.ndarray]],
    x: np.ndarray,
    across: Axis,
    xlabel: str,
    styles: Mapping[str, str],
    reference: float | None,
) -> Html:
    """One chart: axes, lines, and a legend that shows values."""
    columns = {label: _aligned(line, x) for label, line in chart.items()}
    values = np.concatenate(list(columns.values()))
    up = _upward(np.append(values, np.nan if reference is None else reference), across.log)
    paths = [_path(columns[label], x, across, up, styles[label]) for label in chart]
    if reference is not None:
        y = up.place(reference)
        paths.insert(0, tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="reference"))
    cursor = tag("line", x1=-9, x2=-9, y1=TOP, y2=HEIGHT - BOTTOM, class_="cursor scripted")
    summary = "; ".join(f"{label} {_range(columns[label])}" for label in chart)
    picture = _svg(f"{heading} against {xlabel}: {summary}", _axes(across, up, xlabel), *paths, cursor)
    legend = [
        tag("li", _swatch(styles[label]), f"{label} ", tag("span", _short(columns[label][-1]), class_="value"),
            data_values=json.dumps([_short(value) for value in columns[label]]))
        for label in chart
    ]  # fmt: skip
    return tag("figure", tag("figcaption", heading), picture, tag("ul", *legend, class_="legend"))


def _aligned(line: tuple[np.ndarray, np.ndarray], x: np.ndarray) -> np.ndarray:
    """A line's values at all x of the charts, NaN where it has none."""
    values = np.full(len(x), np.nan)
    values[np.searchsorted(x, line[0])] = line[1]
    return values


def _upward(values: np.ndarray, log: bool) -> Axis:
    """The vertical axis of some values: from zero, or, logarithmic, ten decades at most."""
    known = values[np.isfinite(values) & ((values > 0) | (not log))]
    if not known.size:
        return Axis(0.1 if log else 0.0, 1.0, HEIGHT - BOTTOM, TOP, log)
    top = float(known.max())
    if log:
        return Axis(max(float(known.min()), 1e-10 * top) / 1.5, top * 1.5, HEIGHT - BOTTOM, TOP, True)
    low = min(0.0, float(known.min()))
    return Axis(low, top + 0.05 * (top - low or 1), HEIGHT - BOTTOM, TOP)


def _path(values: np.ndarray, x: np.ndarray, across: Axis, up: Axis, classes: str) -> Html:
    """A line of straight pieces; a gap where there is no value, a dot where a value has no neighbour."""
    drawn, known = "", np.isfinite(values) & ((values >= up.low) | (not up.log))
    for i in np.flatnonzero(known):
        place = f"{across.place(float(x[i]))} {up.place(float(values[i]))}"
        drawn += f"{'L' if i and known[i - 1] else 'M'}{place}"
        if not (i and known[i - 1]) and not (i + 1 < len(x) and known[i + 1]):
            drawn += "h0.01"
    return tag("path", d=drawn, class_=f"line {classes}")


def _axes(across: Axis, up: Axis, xlabel: str) -> Html:
    bottom, marks = HEIGHT - BOTTOM, []
    for value in up.ticks():
        y = up.place(value)
        marks.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        marks.append(tag("text", _tick(value, up), x=LEFT - 5, y=y + 4, text_anchor="end"))
    for value in across.ticks():
        marks.append(tag("text", _tick(value, across), x=across.place(value), y=bottom + 15, text_anchor="middle"))
    marks.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=bottom, y2=bottom, class_="axis"))
    marks.append(tag("text", xlabel, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 6, text_anchor="middle"))
    return joined(*marks)


def _tick(value: float, axis: Axis) -> str:
    if not axis.log or 0.05 < value < 10_000:
        return f"{value:g}".replace("-", "−")
    return "10" + str(round(math.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def bars(heading: str, values: np.ndarray, xlabel: str, classes: str, name: Callable[[int], str]) -> Html:
    """A histogram over its mean, a line at 1; name: bar → its words.  Values (n,) that are not finite are no bars."""
    across, up = Axis(0, len(values), LEFT, WIDTH - RIGHT), _upward(np.append(values, 1.0), False)
    drawn = []
    for i in np.flatnonzero(np.isfinite(values)):
        left, right, y = across.place(float(i)), across.place(float(i + 1)), up.place(float(values[i]))
        size = {"x": left, "y": y, "width": round((right - left) * 0.9, 2), "height": round(HEIGHT - BOTTOM - y, 2)}
        drawn.append(tag("rect", tag("title", f"{name(int(i))}: {_short(values[i])}"), class_=classes, **size))
    y = up.place(1.0)
    line = tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="reference")
    ticks = Axis(0, len(values) - 1, across.place(0.5), across.place(len(values) - 0.5))
    label = f"{heading}, {xlabel}: {_range(values)}, first {_short(values[0])}, last {_short(values[-1])}"
    picture = _svg(label, _axes(ticks, up, xlabel), tag("g", *drawn, class_="bars"), line)
    rows = [[name(i), _short(value)] for i, value in enumerate(values)]
    values_table = details(f"{heading}: table", table([xlabel, "frequency over uniform"], rows, heading))
    return tag("figure", tag("figcaption", heading), picture, values_table)


def _svg(label: str, *children: Html) -> Html:
    return tag("svg", *children, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)


def _swatch(classes: str) -> Html:
    line = tag("path", d="M0 5h26", class_=f"line {classes}")
    return tag("svg", line, viewBox="0 0 26 10", class_="swatch", aria_hidden="true")


def _range(values: Sequence[float] | np.ndarray) -> str:
    known = np.asarray(values)[np.isfinite(values)]
    return f"from {_short(known.min())} to {_short(known.max())}" if known.size else "without values"


def _short(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"
