"""Columns of numbers from text files as spreadsheets and other programs write them, and from arrays."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

Say = Callable[[str], None]

COLUMNS: dict[str, tuple[str, ...]] = {
    "time": ("time", "t", "obs_time"),
    "x": ("x", "lon", "longitude", "obs_x"),
    "y": ("y", "lat", "latitude", "obs_y"),
    "value": ("value", "observation", "obs_value"),
    "std": ("std", "error", "sigma", "noise", "noise_std"),
    "variance": ("variance", "var", "obs_variance"),
    "set": ("set", "operator", "obs_set"),
}
"""Columns, and the names that they go by."""

MISSING = ("", "na", "n/a", "null", "none", "-", "--", "nan")
"""What stands for a missing number, in lower case."""


class Columns(NamedTuple):
    """Columns of one file by their names in COLUMNS, each (rows,), and where each row is there.

    unit: what a row is called, such as line; numbers: (rows,), of each row in the file.
    """

    source: str
    unit: str
    numbers: np.ndarray
    arrays: dict[str, np.ndarray]

    def refuse(self, bad: np.ndarray, expected: str, got: Sequence[object] | np.ndarray) -> None:
        """ValueError for the first row that is bad, if there is one."""
        if bad.any():
            first, more = int(np.argmax(bad)), int(bad.sum()) - 1
            also = f" (and {more} more)" if more else ""
            value = got[first]
            shown = f"{value:.6g}" if isinstance(value, float) else repr(str(value))
            where = f"{self.source}, {self.unit} {self.numbers[first]}"
            raise ValueError(f"{where}: expected {expected}, got {shown}{also}")

    def where(self, keep: np.ndarray) -> Columns:
        """The rows to keep."""
        return self._replace(numbers=self.numbers[keep], arrays={name: a[keep] for name, a in self.arrays.items()})


def canonical(name: str) -> str:
    """The name in COLUMNS of a column, whatever its case and with a unit in brackets behind it; empty for another."""
    plain = re.sub(r"[\[(].*", "", name).strip().strip("\"'").lower()
    return next((known for known, names in COLUMNS.items() if plain in names), "")


def named(source: str, names: Sequence[str]) -> dict[str, int]:
    """Where the columns of COLUMNS are among the names of a header; ValueError for two of one kind."""
    found: dict[str, int] = {}
    for index, name in enumerate(names):
        known = canonical(name)
        if known in found:
            raise ValueError(f"{source}: expected one column {known}, got {names[found[known]]!r} and {name!r}")
        if known:
            found[known] = index
    return found


def read_table(path: Path, order: Sequence[str], say: Say, text: Sequence[str] = ()) -> Columns:
    """The columns of a text file: separated by commas, semicolons, tabs or spaces, with or without a header.

    order: what the first columns are in a file without a header (none: a header is needed).  A comment begins with #
    or, first in its line, with %; one of known names before the numbers is the header.  Commas are decimal ones where
    they separate nothing.  say: is told of columns that are not used.  text: columns that hold words.  Missing numbers
    become NaN.  Raises ValueError, with the line, for what is not a table of numbers.
    """
    source, header, rows = str(path), None, []
    for number, line in enumerate(_lines(path), 1):
        content, _, comment = line.partition("#")
        content, comment = content.strip(), comment.strip()
        if content.startswith("%"):
            content, comment = "", content[1:].strip()
        if content:
            rows.append((number, content))
        elif not rows and header is None and _is_header(comment):
            header = comment
    if not rows:
        raise ValueError(f"{source}: expected a table of numbers, found no line of it")
    separator = next((mark for mark in (";", "\t", ",") if mark in rows[0][1]), None)
    cells = [(number, _split(content, separator)) for number, content in rows]
    if header is not None:
        titles = _split(header, next((mark for mark in (";", "\t", ",") if mark in header), None))
    elif not any(_is_number(cell, separator) for cell in cells[0][1]):
        titles, cells = _trimmed(cells[0][1]), cells[1:]
    else:
        titles = None
    if titles is None:
        width = len(_trimmed(cells[0][1]))
        if not order:
            raise ValueError(f"{source}: expected a header that names the columns, such as time, x, y, value, std")
        if not 2 <= width <= len(order):
            raise ValueError(
                f"{source}, line {cells[0][0]}: expected 2 to {len(order)} columns, {', '.join(order)}, got {width}; "
                "name them in a header"
            )
        places = {name: index for index, name in enumerate(order[:width])}
    else:
        width, places = len(titles), named(source, titles)
        if unused := [title for title in titles if not canonical(title)]:
            say(f"{source}: columns not used: {', '.join(unused)}")
    for number, row in cells:
        if len(row) < width or any(row[width:]):
            raise ValueError(f"{source}, line {number}: expected {width} columns as in the first line, got {len(row)}")
    if not cells:
        raise ValueError(f"{source}: expected numbers below the header, found none")
    numbers = np.array([number for number, _ in cells])
    columns = Columns(source, "line", numbers, {})
    written = {name: [row[index] for _, row in cells] for name, index in places.items()}
    numeric = {name: column for name, column in written.items() if name not in text}
    decimal = separator != "," and any("," in cell for column in numeric.values() for cell in column)
    arrays = {name: _numbers(columns, name, column, decimal) for name, column in numeric.items()}
    return columns._replace(arrays=arrays | {name: np.array(written[name]) for name in text if name in written})


def _lines(path: Path) -> list[str]:
    """The lines of a text file; ValueError for a file that is missing or is not text."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: expected a text file, could not read it ({error.strerror})") from None
    wide = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
    if not wide and b"\0" in raw:
        raise ValueError(f"{path}: expected a text file, found binary data; save it as CSV")
    # Names and comments in another encoding do no harm; numbers are the same in all.
    return raw.decode("utf-16" if wide else "utf-8-sig", errors="replace").splitlines()


def _split(content: str, separator: str | None) -> list[str]:
    if separator is None:
        return content.split()
    return [cell.strip() for cell in next(csv.reader([content], delimiter=separator, skipinitialspace=True))]


def _trimmed(cells: list[str]) -> list[str]:
    """Cells without the empty ones at the end."""
    last = max((i for i, cell in enumerate(cells) if cell), default=-1)
    return cells[: last + 1]


def _is_header(comment: str) -> bool:
    words = re.split(r"[,;\s]+", comment.strip())
    return len(words) > 1 and all(canonical(word) for word in words)


def _is_number(cell: str, separator: str | None) -> bool:
    try:
        float(cell if separator == "," else cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _numbers(columns: Columns, name: str, cells: list[str], decimal_commas: bool) -> np.ndarray:
    """A column as numbers, NaN where they are missing."""
    if decimal_commas:
        pointed = np.array(["." in cell for cell in cells])
        columns.refuse(pointed, f"a decimal comma in {name}, as elsewhere in the file", cells)
        cells = [cell.replace(",", ".") for cell in cells]
    bad = np.array([cell.lower() not in MISSING and not _is_number(cell, ",") for cell in cells])
    columns.refuse(bad, f"a number as {name}", cells)
    return np.array([np.nan if cell.lower() in MISSING else float(cell) for cell in cells])
