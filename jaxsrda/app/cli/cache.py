"""The `cache` command."""

from __future__ import annotations

import dataclasses
from typing import Literal

from jaxsrda.app.cli.common import console

DAY = 86400.0


@dataclasses.dataclass
class Cache:
    """Show what the cache holds (truths, climatologies, training runs, compiled programs), or remove some of it."""

    prune: Literal["none", "old", "all"] = "none"
    """old: what other versions of the package made, which is never used again; all: everything."""
    older_than: float | None = None
    """Remove what was written before so many days (of prune, if both are given, that alone)."""

    def run(self) -> None:
        """Print a table of what is there, or remove and say what."""
        from rich.table import Table

        from jaxsrda.core.cache import cache_dir, entries, remove

        if self.older_than is not None and not self.older_than >= 0:
            raise ValueError(f"older_than: expected a number of days, 0 or more, got {self.older_than}")
        found = entries()
        if self.prune == "none" and self.older_than is None:
            table = Table("what", "size", "age", "used by this version", title=str(cache_dir()), title_justify="left")
            used = {True: "yes", False: "no", None: ""}
            for each in found:
                table.add_row(each.what, _size(each.size), _age(each.age), used[each.current])
            console.print(table)
            console.print(f"{len(found)} entries, {_size(sum(each.size for each in found))}")
            return
        chosen = [
            each
            for each in found
            if (self.prune != "old" or each.current is False) and each.age >= DAY * (self.older_than or 0)
        ]
        removed = [each for each in chosen if remove(each)]
        console.print(f"removed {len(removed)} entries, {_size(sum(each.size for each in removed))}")
        if len(removed) < len(chosen):
            console.print(f"{len(chosen) - len(removed)} stay: processes are at work on them")


def _size(count: float) -> str:
    return f"{count / 1e6:.1f} MB"


def _age(seconds: float) -> str:
    return f"{seconds / DAY:.1f} days" if seconds >= DAY else f"{seconds / 3600:.1f} h"
