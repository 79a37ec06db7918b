"""Draw the rooms of the package, and the imports between them, from the source.

python docs/rooms.py            # writes docs/rooms.svg and the table in docs/architecture.md
python docs/rooms.py --check    # exit code 1 if the table is out of step
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "jaxsrda"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: written by docs/rooms.py -->\n", "<!-- end of rooms -->"


def rooms() -> dict[str, set[str]]:
    """Which rooms each room imports."""
    found: dict[str, set[str]] = {path.parent.name: set() for path in PACKAGE.glob("*/__init__.py")}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if room in found and isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxsrda."):
                found[room].add(str(node.module).split(".")[1])
    return {room: {other for other in others if other != room} for room, others in found.items()}


def floors(imports: dict[str, set[str]]) -> dict[str, int]:
    """The floor of each room: one above the highest that it imports."""

    def floor(room: str) -> int:
        return 1 + max((floor(other) for other in imports[room]), default=-1)

    return {room: floor(room) for room in imports}


def purpose(room: str) -> str:
    """The first sentence of a room's docstring."""
    text = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def table() -> str:
    """The rooms from the ground floor up, with their purpose and what they import."""
    imports = rooms()
    level = floors(imports)
    order = sorted(imports, key=lambda room: (level[room], room))
    lines = ["| room | purpose | imports |", "|---|---|---|"]
    for room in order:
        below = ", ".join(f"`{other}`" for other in order if other in imports[room])
        lines.append(f"| `{room}` | {purpose(room)} | {below or '–'} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page with its table up to date."""
    text = PAGE.read_text(encoding="utf-8")
    return text[: text.index(BEGIN)] + BEGIN + table() + text[text.index(END) :]


def draw(path: Path) -> None:
    """The picture: a box a room, floors from the bottom up, an arrow from each room to those just below it."""
    import matplotlib
    from matplotlib.figure import Figure

    imports = rooms()
    level = floors(imports)
    rows: dict[int, list[str]] = {}
    for room in sorted(imports):
        rows.setdefault(level[room], []).append(room)
    place = {}
    for height, names in rows.items():
        for i, room in enumerate(names):
            place[room] = ((3.2 if len(names) > 2 else 2.4) * (i - (len(names) - 1) / 2), float(height))
    with matplotlib.rc_context({"svg.hashsalt": "rooms", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(7.5, 8.5))
        axis = figure.add_subplot()
        axis.set(xlim=(-4.6, 4.6), ylim=(-0.5, max(rows) + 0.5))
        axis.axis("off")
        for room, others in imports.items():
            # What is reached through another room need not be drawn again.
            near = {o for o in others if not any(o in reached(imports, via) for via in others if via != o)}
            for other in sorted(near):
                (x, y), (u, v) = place[room], place[other]
                arrow = {"arrowstyle": "-|>", "color": "#5b6b7b", "shrinkA": 16, "shrinkB": 16, "lw": 1.3}
                axis.annotate("", (u, v), (x, y), arrowprops=arrow)
        for room, (x, y) in place.items():
            box = {"boxstyle": "round,pad=0.5", "facecolor": "#eaf2f8", "edgecolor": "#2c5d7c", "lw": 1.4}
            axis.text(x, y, room, ha="center", va="center", fontsize=12, bbox=box)
        figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")


def reached(imports: dict[str, set[str]], room: str) -> set[str]:
    """All rooms that a room imports, directly or through others."""
    below = set(imports[room])
    return below.union(*(reached(imports, other) for other in below)) if below else below


def main() -> int:
    """Write or check."""
    if "--check" in sys.argv[1:]:
        if page() != PAGE.read_text(encoding="utf-8"):
            print("docs/architecture.md is out of step with the imports: run python docs/rooms.py")
            return 1
        return 0
    PAGE.write_text(page(), encoding="utf-8")
    draw(ROOT / "docs" / "rooms.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
