"""The section on layouts of sensors that methods were not tuned or trained for."""

from __future__ import annotations

from experiments.tables.records import Records, experiment
from experiments.tables.text import interval, mean, prose, table


def layouts(records: Records) -> str:
    """MAER by method and layout, and the spread–skill beside it."""
    found = records["experiments/layouts"]
    names = list(dict.fromkeys(name for rows in found.values() for name in rows))
    lines = [
        [f"`{layout}`", *(cell(rows[name]) if name in rows else "–" for name in names)]
        for layout, rows in found.items()
    ]
    some = next(iter(next(iter(found.values())).values()))
    return "\n\n".join(
        [
            "## Other sensors",
            prose(
                f"MAER with its interval over {some['truths']} test truths, and spread–skill. `enkf-lagrange` and "
                "`enkf-sr` have settings of their own on each lattice down to `lattice:12`; everything else has the "
                "settings and the weights of `lattice:8`. The network of "
                "`diffsrda/carried/gaussian` met `lattice:4` to `lattice:12`, moving points, drop-out and silence in "
                f"training, and no tracks. The command is `{experiment('layouts')}`."
            ),
            table(["sensors", *(f"`{name}`" for name in names)], lines),
        ]
    )


def cell(row: dict) -> str:
    """MAER and spread–skill."""
    return f"{interval(row['scores']['maer'])}; {mean(row, 'spread_skill'):.2f}"
