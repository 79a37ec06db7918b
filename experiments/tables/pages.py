"""The generated files."""

from __future__ import annotations

from experiments.tables.cards import card
from experiments.tables.claims import claims_section
from experiments.tables.joint import joint
from experiments.tables.latent import latent
from experiments.tables.layouts import layouts
from experiments.tables.leaderboard import leaderboard_page
from experiments.tables.reconstruction import few_steps, perfect_starts, reconstruction
from experiments.tables.records import LEADERBOARD, RELEASED, Records, renewed
from experiments.tables.sensors import sensor_shift
from experiments.tables.soak import soak
from experiments.tables.speed import benchmarks_page
from experiments.tables.text import page, prose
from experiments.tables.training import deterministic, mixup, target_level, training_length

SECTIONS = (
    claims_section,
    reconstruction,
    joint,
    layouts,
    soak,
    perfect_starts,
    deterministic,
    few_steps,
    mixup,
    training_length,
    target_level,
    latent,
    sensor_shift,
)
"""Sections of the page on experiments."""


def experiments_page(records: Records) -> str:
    """The page on experiments."""
    return page(
        "# Experiments",
        prose(
            "Each section has the command that made its record, the table, and what the table shows. MAER is "
            "Σ|ω̂ − ω| / Σ|ω| of the ensemble mean, CRPS is the fair one, and spread–skill is 1 if the spread "
            "is right. "
            "A command continues where it was stopped. It keeps rows in the record that the same source made with the "
            "same settings; with `--reuse-any-code` it keeps those of other sources too. The costs are in "
            "[`benchmarks/README.md`](../benchmarks/README.md)."
        ),
        *(section(records) for section in SECTIONS),
    )


def pages(records: Records) -> dict[str, str]:
    """Text of every generated file by its path below the repository; records may have the names of before."""
    records = renewed(records)
    cards = {
        f"{RELEASED}/{name.removeprefix('released/')}.md": card(records, name.removeprefix("released/"))
        for name in records
        if name.startswith("released/")
    }
    return {
        "experiments/README.md": experiments_page(records),
        "benchmarks/README.md": benchmarks_page(records),
        f"{LEADERBOARD}/README.md": leaderboard_page(records),
        **cards,
    }
