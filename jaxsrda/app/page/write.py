"""The page: what a folder holds, put together and written."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from jaxsrda.app.page import sections
from jaxsrda.app.page.charts import style
from jaxsrda.app.page.found import SOUGHT, Found, find_results
from jaxsrda.app.page.frames import Movie, read_movie
from jaxsrda.app.page.html import Html, joined, tag
from jaxsrda.app.page.players import players
from jaxsrda.core.files import atomic_path, check_writable, require_packages

PAGE_BYTES = 8_000_000
"""Size of a page at most, unless its records alone take more."""

PICTURE_SHARE = 0.4
"""Part of the page that pictures may fill."""


@dataclasses.dataclass(frozen=True)
class Page:
    """What was written: the file, its bytes, how many results, players and pictures it holds, and notes."""

    path: Path
    size: int
    results: int
    players: int
    pictures: int
    notes: list[str]


def write_page(folder: str | Path, out: str | Path | None = None, size: int = PAGE_BYTES) -> Page:
    """Write one HTML page, open to any browser without a network, of the results in a folder.

    The folder and two levels below it hold records (.json), analyses (.nc, .zarr) and pictures; out is by default
    report.html in it.  size: bytes at most; fields are thinned and pictures left out, with a note, to stay below it.
    Raises ValueError for a missing folder, a folder without results, two analyses of one name, and an `out` that cannot
    be written.
    """
    found = find_results(folder)
    path = check_writable(found.folder / "report.html" if out is None else out, (".html",))
    movies = _movies(found)
    styles = {name: style(i) for i, name in enumerate(found.names)}
    pictures, left_out = sections.pictures(found, int(size * PICTURE_SHARE))
    times = {name: movie.times for name, movie in movies.items()}
    records = {name: found.records[name] for name in found.names if name in found.records}
    parts: dict[str, Html | None] = {
        "Summary": sections.summary(records) if records else None,
        "Scores": sections.score_table(records) if any(r.scores for r in records.values()) else None,
        "Scores in time": sections.series_charts(records, times, styles),
        "Fields": None,
        "Spectra": sections.spectra(records, styles),
        "Rank histograms": sections.rank_histograms(records, styles),
        "Pictures": pictures,
        "How each result was made": sections.provenance(found, {name: movie.attrs for name, movie in movies.items()}),
    }
    notes = [f"{name}: skipped, {why}" for name, why in found.skipped.items()] + left_out
    data = "{}"
    if movies:
        room = size - sum(len(part.encode()) for part in parts.values() if part) - 60_000  # script, style and notes
        played = players(movies, room)
        parts["Fields"], data = played.section, played.data
    text = _document(found, parts, notes, data)
    with atomic_path(path, (".html",)) as temporary:
        temporary.write_text(text, encoding="utf-8")
    shown = len(found.pictures) - len(left_out)
    return Page(path, len(text.encode()), len(found.names), len(movies), shown, notes)


def _movies(found: Found) -> dict[str, Movie]:
    """The movies of the analyses; files that hold none are skipped with the reason."""
    movies = {}
    for name, path in sorted(found.analyses.items()):
        require_packages(path.suffix.lower())
        try:
            movies[name] = read_movie(path)
        except ValueError as error:
            found.skipped[found.relative(path)] = str(error).splitlines()[0]
        except Exception as error:  # the readers raise many types; each of them means a bad file
            found.skipped[found.relative(path)] = f"not readable ({type(error).__name__})"
    found.analyses = {name: found.analyses[name] for name in movies}
    if not (found.names or found.pictures):
        why = "; ".join(f"{name}: {why}" for name, why in found.skipped.items())
        raise ValueError(f"{found.folder}: expected {SOUGHT}; found none ({why})")
    return movies


def _document(found: Found, parts: dict[str, Html | None], notes: list[str], data: str) -> str:
    """The document from the template, the style sheet and the script beside this file."""
    parts = {name: part for name, part in parts.items() if part}
    if notes:
        parts["Notes"] = tag("ul", *(tag("li", note) for note in notes))
    ids = {name: name.lower().replace(" ", "-") for name in parts}
    links = [tag("li", tag("a", name, href=f"#{ids[name]}")) for name in parts]
    bodies = [tag("section", tag("h2", name), part, id=ids[name]) for name, part in parts.items()]
    title = f"Results in {found.folder.resolve().name}"
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    made = f"{_count(found)}; made by jaxsrda {importlib.metadata.version('jaxsrda')}, {now}"
    head = tag("header", tag("h1", title), tag("p", made), tag("nav", tag("ul", *links), aria_label="Sections"))
    filled: dict[str, Any] = {
        "title": tag("title", title),
        "style": _file("page.css"),
        "head": head,
        "body": joined(*bodies),
        "data": data.replace("<", "\\u003c"),
        "script": _file("page.js"),
    }
    return Template(_file("page.html")).substitute(filled)


def _count(found: Found) -> str:
    methods = sorted({record.method for record in found.records.values()})
    results = f"{len(found.names)} result" + "s" * (len(found.names) != 1)
    return f"{results} ({', '.join(methods)})" if methods else results


def _file(name: str) -> str:
    return (resources.files("jaxsrda.app.page") / name).read_text(encoding="utf-8")
