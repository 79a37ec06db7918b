"""Constants and presets of the testbed: the one place where the numbers live.

All quantities are non-dimensional.  The testbed is the barotropic ocean-jet instability of
Yasuda & Onishi (2023, doi:10.1029/2023MS003658) as used by Ayapilla, Miyashita, Yasuda & Onishi
(2026, arXiv:2604.21180).
"""

from __future__ import annotations

from jaxsrda.core.checks import check_choice
from jaxsrda.diffsrda.config import PAPER_SAMPLING, DiffSRDAConfig
from jaxsrda.filters.config import FILTERS, PAPER_FILTERS, FilterConfig

OTHERS = ("random-moving:128", "lattice:12", "lattice:8+dropout:0.3+silent:0.3", "lattice:6", "lattice:4")
"""Sensor layouts that training meets beside its main one."""

CONFIGS: dict[str, FilterConfig | DiffSRDAConfig] = {
    **FILTERS,
    "cnn": DiffSRDAConfig(sampler="mean", weights="4dsrda-small"),
    "diffsrda": DiffSRDAConfig(),
    "latent-diffsrda": DiffSRDAConfig(weights="latent-kl-small"),
}
"""The configuration that each method has unless told otherwise."""


def method_preset(method: str, layout: str = "lattice:8", tuning: str = "own") -> FilterConfig | DiffSRDAConfig:
    """The configuration of a method: `own` (re-tuned, CONFIGS) or `paper` (PAPER_FILTERS, enkf-hr on a lattice only).

    Raises ValueError for an unknown method or tuning, or where the paper gives none.
    """
    check_choice("method", method, CONFIGS)
    check_choice("tuning", tuning, ("own", "paper"))
    if tuning == "own":
        return CONFIGS[method]
    if method in PAPER_SAMPLING:
        return PAPER_SAMPLING[method]
    name, _, interval = layout.partition(":")
    if method != "enkf-hr" or name != "lattice" or interval not in map(str, PAPER_FILTERS):
        raise ValueError(
            f"tuning: the paper's is for {', '.join(PAPER_SAMPLING)}, and for enkf-hr on lattice:4, 6, 8 or 12; "
            f"got {method} on {layout}; use tuning own"
        )
    return PAPER_FILTERS[int(interval)]
