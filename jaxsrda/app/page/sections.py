"""Sections of the page: summary, scores, series, spectra, rank histograms, pictures, how each result was made."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsrda.app.page.charts import bars, line_charts
from jaxsrda.app.page.found import PICTURES, Found, Record
from jaxsrda.app.page.html import Html, data_uri, details, joined, number, scrolling, table, tag
from jaxsrda.app.page.scores import HEADINGS, best, heading, meaning

SERIES = {"maer": "MAER", "crps": "CRPS", "spread_skill": "Spread–skill"}
"""Scores whose series are drawn."""

COMPARED = {
    "testbed": "testbed",
    "sensors": "sensors",
    "withhold": "withheld sensors",
    "seed": "seed",
    "start": "start",
    "frames_per_cycle": "frames between analyses",
}
"""Settings that methods have to share for their scores to compare."""

CAPTIONS = {
    "fields": "truth, background, analysis mean, spread and |error| at some times",
    "series": "scores against time",
    "spectra": "kinetic energy against wavenumber",
    "rank_histogram": "ranks of the truth among the members",
    "animation": "truth, analysis mean and spread in motion",
}
"""What the pictures of `jaxsrda assimilate --plot` show."""

Records = Mapping[str, Record]


def summary(records: Records) -> Html:
    """What was run: a line for each record, and a warning where the records do not compare."""
    heads = ["result", "method", "testbed", "truths", "seed", "sensors", "members", "run, s"]
    rows = [[name, *_settings(record)] for name, record in records.items()]
    return joined(
        table(heads, rows, "What was run", "words"), *(tag("p", text, class_="warning") for text in warnings(records))
    )


def _settings(record: Record) -> list[str]:
    config, seconds = record.config, record.payload.get("seconds")
    sensors = config.get("sensors")
    parts = [part for part in config.values() if isinstance(part, dict)]
    members = next((part["members"] for part in parts if "members" in part), None)
    run = seconds.get("run") if isinstance(seconds, dict) else None
    values = (config.get("testbed"), record.payload.get("truths"), config.get("seed"))
    sets = [_sensor_set(of) for of in sensors] if isinstance(sensors, list) else []
    last = ("; ".join(sets) or None, members, f"{run:.3g}" if isinstance(run, (int, float)) else None)
    return [record.method, *("–" if value is None else str(value) for value in (*values, *last))]


def _sensor_set(of: Any) -> str:
    if not isinstance(of, dict):
        return str(of)
    text = f"{of.get('layout', '?')} of {of.get('operator', '?')}, noise {of.get('noise_std', '?')}"
    role = of.get("role", "assimilated")
    return text if role == "assimilated" else f"{text}, {role}"


def warnings(records: Records) -> list[str]:
    """What makes the records hard to compare, or wrong."""
    lost = [name for name, record in records.items() if record.payload.get("finite") is False]
    found = [f"{name}: the ensemble did not stay finite." for name in lost]
    known = [record for record in records.values() if "testbed" in record.config]
    differ = [
        words
        for key, words in COMPARED.items()
        if len({json.dumps(record.config.get(key), sort_keys=True) for record in known}) > 1
    ]
    if len({record.payload.get("truths") for record in known}) > 1:
        differ.append("number of truths")
    if differ:
        found.append(f"The results differ in {', '.join(differ)}: compare their scores with care.")
    return found


# Scores ---------------------------------------------------------------------------------------


def score_table(records: Records) -> Html:
    """Results × scores with intervals, the best value of each marked, and what the scores mean."""
    named = {name for record in records.values() for name in record.scores}
    shown = [name for name in HEADINGS if name in named] + sorted(named - set(HEADINGS))
    means = {name: {label: r.scores[name][0] for label, r in records.items() if name in r.scores} for name in shown}
    first = {name: best(name, values) for name, values in means.items()}
    heads = [_sorting("result", None, "text")]
    heads += [_sorting(heading(name), meaning(name), "number") for name in shown]
    rows = []
    for label, r in records.items():
        cells = [_cell(r, name, first[name] == label) for name in shown]
        rows.append(tag("tr", tag("th", label, scope="row", data_value=label), *cells))
    truths = {record.payload.get("truths") for record in records.values()}
    caption = "Mean and 95 % interval over the truths" if truths != {1} else "Scores of one truth"
    inside = (tag("caption", caption), tag("thead", tag("tr", *heads)), tag("tbody", *rows))
    terms = [part for name in shown for part in (tag("dt", heading(name)), tag("dd", meaning(name)))]
    return joined(
        scrolling(tag("table", *inside, class_="sortable"), caption),
        tag(
            "p",
            "★ marks the best value of a score; a heading sorts by its column; wide tables scroll sideways.",
            class_="small",
        ),
        details("What the scores mean", tag("dl", *terms)),
    )


def _sorting(text: str, title: str | None, kind: str) -> Html:
    return tag("th", tag("button", text, type="button", title=title, data_kind=kind), scope="col", aria_sort="none")


def _cell(record: Record, name: str, is_best: bool) -> Html:
    mean, low, high = record.scores.get(name, (math.nan,) * 3)
    interval = None if low == high or not math.isfinite(low) else f"[{number(low)}, {number(high)}]"
    star = tag("span", "★", class_="star", role="img", aria_label="best") if is_best else None
    value = repr(mean) if math.isfinite(mean) else ""
    small = tag("small", interval) if interval else None
    return tag("td", number(mean), star, small, data_value=value, class_="best" if is_best else None)


# Charts ---------------------------------------------------------------------------------------


def series_charts(records: Records, times: Mapping[str, np.ndarray], styles: Mapping[str, str]) -> Html | None:
    """MAER, CRPS and spread–skill against time, means over the truths; against the scored frame if times are unknown.

    times: result → times of its analyses, for records that hold none themselves.
    """
    timed = {name: _times(record, times.get(name)) for name, record in records.items()}
    lines: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    drawn = [name for name, record in records.items() if any(len(record.series.get(s, ())) for s in SERIES)]
    by_time = all(timed[name] is not None for name in drawn)
    for score, words in SERIES.items():
        for name in drawn:
            values = records[name].series.get(score)
            if values is not None and len(values):
                x = timed[name] if by_time else np.arange(1.0, len(values) + 1)
                lines.setdefault(words, {})[name] = x, values  # type: ignore[assignment]
    if not lines:
        return None
    return line_charts(lines, "time" if by_time else "scored frame", styles, reference={SERIES["spread_skill"]: 1.0})


def _times(record: Record, of_analyses: np.ndarray | None) -> np.ndarray | None:
    """Times of a record's series, all of one length: its own, or the last of the analyses beside it."""
    lengths = {len(values) for name, values in record.series.items() if name in SERIES}
    (length,) = lengths if len(lengths) == 1 else (-1,)
    if record.times is not None:
        return record.times if len(record.times) == length else None
    return of_analyses[-length:] if of_analyses is not None and 0 < length <= len(of_analyses) else None


def spectra(records: Records, styles: Mapping[str, str]) -> Html | None:
    """Kinetic energy of analyses and of members against wavenumber, beside the truth's."""
    charts: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for name, record in records.items():
        for source, words in (("mean", "Energy of the analysis"), ("members", "Energy of the members")):
            truth, own = (_spectrum(record.statistics.get(f"energy_{of}")) for of in ("truth", source))
            if truth is not None:
                _add_truth(charts.setdefault(words, {}), truth, name)
            if own is not None:
                charts.setdefault(words, {})[name] = own
    if not charts:
        return None
    looks = {label: styles.get(label, "truth") for chart in charts.values() for label in chart}
    return line_charts(charts, "wavenumber", looks, log=True)


def _spectrum(values: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
    """A spectrum from wavenumber 1 on as a line, NaN where it is empty; None if there is none."""
    if values is None or values.ndim != 1 or not (values[1:] > 0).any():
        return None
    return np.arange(1.0, len(values)), np.where(values[1:] > 0, values[1:], np.nan)


def _add_truth(lines: dict[str, tuple[np.ndarray, np.ndarray]], line: tuple[np.ndarray, np.ndarray], name: str) -> None:
    """The truth's line once, and once more for a result of other truths."""
    truths = [values for label, (_, values) in lines.items() if label.startswith("the truth")]
    if not any(values.shape == line[1].shape and np.allclose(values, line[1], equal_nan=True) for values in truths):
        lines[f"the truth of {name}" if truths else "the truth"] = line


def rank_histograms(records: Records, styles: Mapping[str, str]) -> Html | None:
    """A rank histogram of each result that has one, over the frequency of a calibrated ensemble."""
    figures = []
    for name, record in records.items():
        ranks = record.statistics.get("rank_histogram")
        if ranks is None or ranks.ndim != 1 or not ranks.size or not np.nansum(ranks) > 0:
            continue
        label = f"rank of the truth among {len(ranks) - 1} members"
        figures.append(bars(name, ranks / np.nanmean(ranks), label, styles[name], lambda i: f"rank {i}"))
    return tag("div", *figures, class_="charts") if figures else None


# Pictures and provenance ----------------------------------------------------------------------


def pictures(found: Found, room: int) -> tuple[Html | None, list[str]]:
    """The pictures in at most `room` characters, by folder, and notes on those that were left out."""
    folders: dict[str, list[Html]] = {}
    notes = []
    for path in found.pictures:
        size = path.stat().st_size
        if size * 4 / 3 > room:
            notes.append(f"{found.relative(path)}: left out to keep the page small ({size / 1e6:.1f} MB)")
            continue
        room -= size * 4 // 3
        folder = found.relative(path.parent)
        words = CAPTIONS.get(path.stem, path.stem)
        where = found.relative(path)
        image = tag("img", src=data_uri(path.read_bytes(), PICTURES[path.suffix.lower()]), alt=f"{where}: {words}")
        caption = tag("figcaption", f"{words} ({path.name})")
        folders.setdefault("" if folder == "." else folder, []).append(tag("figure", image, caption))
    parts = [
        joined(tag("h3", folder or "In the folder itself"), tag("div", *figures, class_="pictures"))
        for folder, figures in folders.items()
    ]
    return (joined(*parts) if parts else None), notes


def provenance(found: Found, attrs: Mapping[str, Mapping[str, Any]]) -> Html:
    """For each result its files, command, versions and configuration, closed until asked for.

    attrs: result → the attributes of its analyses.
    """
    parts = []
    for name in found.names:
        record, analyses = found.records.get(name), found.analyses.get(name)
        payload = record.payload if record else {}
        config = payload.get("config", attrs.get(name, {}).get("config"))
        versions = {key: value for key, value in attrs.get(name, {}).items() if key.endswith("_version")}
        origin = payload.get("provenance", versions or None)
        command = payload.get("command")
        files = [f"{name}.json"] * (record is not None)
        files += [found.relative(analyses)] if analyses else []
        body = [tag("p", f"Files: {', '.join(files)}"), None if command else tag("p", "Its command is not recorded.")]
        parts_of = {"Command": command, "Configuration": config, "Versions and provenance": origin}
        for words, content in parts_of.items():
            if content is not None:
                body += [tag("p", words), tag("pre", _pretty(content), tabindex=0, aria_label=f"{words} of {name}")]
        parts.append(details(name, *body))
    return joined(*parts)


def _pretty(content: Any) -> str:
    if isinstance(content, str):
        try:
            content = json.loads(content)
        except ValueError:
            return content
    return json.dumps(content, indent=2, ensure_ascii=False, default=str)
