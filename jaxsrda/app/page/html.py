"""HTML from Python: elements with everything escaped."""

from __future__ import annotations

import base64
import html
import math
from typing import Any

VOID = {"img", "input", "br", "meta"}
"""Elements without an end tag."""


class Html(str):
    """Text that is HTML already; any other text is escaped."""


def tag(name: str, *children: Any, **attributes: Any) -> Html:
    """An element; `class_` is class, `data_x` is data-x, True is an attribute alone, None and False are none."""
    written = ""
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        written += f" {key}" if value is True else f' {key}="{html.escape(str(value))}"'
    return Html(f"<{name}{written}>" + ("" if name in VOID else f"{joined(*children)}</{name}>"))


def joined(*children: Any) -> Html:
    """Children one after the other; None is nothing."""
    parts = (child if isinstance(child, Html) else html.escape(str(child)) for child in children if child is not None)
    return Html("".join(parts))


def details(summary: Any, *children: Any) -> Html:
    """What opens on demand."""
    return tag("details", tag("summary", summary), *children)


def table(heads: list[Any], rows: list[list[Any]], caption: str, class_: str | None = None) -> Html:
    """A table whose first column names the rows, in a frame that scrolls sideways on a phone."""
    head = tag("tr", *(tag("th", cell, scope="col") for cell in heads))
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows]
    return scrolling(
        tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body), class_=class_), caption
    )


def scrolling(content: Html, label: str) -> Html:
    """A frame that scrolls sideways, with the keyboard too."""
    return tag("div", content, class_="wide", role="region", aria_label=label, tabindex=0)


def number(value: float | None) -> str:
    """A score as the tables show it: three decimals, more where these would say nothing; – for none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2g}"


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
