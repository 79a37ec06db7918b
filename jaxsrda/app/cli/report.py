"""The `report` command."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tyro

from jaxsrda.app.cli.common import console


@dataclasses.dataclass
class Report:
    """Make one page (HTML) of all results in a folder: tables, charts, fields in motion, pictures; it opens offline."""

    folder: tyro.conf.Positional[Path]
    """Where the records (--json), analyses (--out) and pictures (--plot) of assimilate and evaluate lie, in it or in
    folders below it."""
    out: Path | None = None
    """The page, by default report.html in the folder."""

    def run(self) -> None:
        """Read the folder, write the page, say what it holds."""
        from jaxsrda.app.page import write_page

        page = write_page(self.folder, self.out)
        for note in page.notes:
            console.print(note, markup=False, highlight=False, soft_wrap=True)
        counts = ((page.results, "result"), (page.players, "player"), (page.pictures, "picture"))
        held = ", ".join(f"{count} {what}{'s' * (count != 1)}" for count, what in counts)
        console.print(f"{page.path}: {held}, {page.size / 1e6:.1f} MB", markup=False, highlight=False, soft_wrap=True)
