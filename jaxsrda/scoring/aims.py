"""Which value of a score is best."""

from __future__ import annotations

from typing import Literal

Aim = Literal["least", "most", "one", ""]

NO_BEST = ("spread", "observation_rmse_analysis", "observation_chi2_analysis", "observations_rejected")
"""Scores to be read beside others: no value of them is best by itself."""


def aim(name: str) -> Aim:
    """The best value of a score: the least, the most, one, or empty if none is.

    Sums that only lead to a score, `variance_…` and `error_…` of block means, have no best value either.
    """
    if name == "error_spread_correlation":
        return "most"
    if name in NO_BEST or name.startswith(("variance_", "error_")):
        return ""
    return "one" if "spread_skill" in name or "chi2" in name else "least"
