"""What each score means, and which value of it is best."""

from __future__ import annotations

import math
from collections.abc import Mapping

from jaxsrda.app.report import SHOWN
from jaxsrda.scoring.aims import Aim, aim

MEANINGS = {
    "maer": "absolute error of the analysis over the truth's absolute vorticity, Σ|ω̂ − ω| / Σ|ω|, without units",
    "mssim_loss": "1 − mean structural similarity of analysis and truth, without units",
    "rmse": "root mean square error of the analysis, in units of vorticity",
    "crps": "fair continuous ranked probability score of the ensemble, in units of vorticity",
    "spread": "root mean square spread of the ensemble, in units of vorticity; to be read with the RMSE",
    "spread_skill": "spread over error: below 1 the ensemble is overconfident, above 1 too wide",
    "error_spread_correlation": "correlation in space of spread and |error|",
    "observation_rmse_background": "distance of the background from the observations, in their units",
    "observation_rmse_analysis": "distance of the analysis from observations that it used, in their units",
    "observation_rmse_withheld": "distance of the analysis from observations that it did not use, in their units",
    "observation_chi2_background": "squared distance of the background from the observations over the expected one",
    "observation_chi2_analysis": "squared distance of the analysis from the observations over the expected one",
    "observations_rejected": "observations that the background check kept from the analysis",
    "energy_distance_mean": "distance of the analysis's energy spectrum from the truth's, in dB",
    "energy_distance_members": "distance of the members' energy spectrum from the truth's, in dB",
    "energy": "fair energy score: the CRPS of whole fields, in units of vorticity",
    "variogram": "variogram score of pairs of points",
    "crps_gradient": "CRPS of differences along x, in units of vorticity",
    "crps_laplacian": "CRPS of ∇²ω",
    "crps_change": "CRPS of the change since the analysis time, in units of vorticity",
    "laplacian_rmse": "root mean square error of ∇²ω",
}
for _size in (4, 8, 16):
    MEANINGS[f"crps_block{_size}"] = f"CRPS of means over {_size} × {_size} points, in units of vorticity"
    MEANINGS[f"spread_skill_block{_size}"] = f"spread over error of means over {_size} × {_size} points"

WORDS: dict[Aim, str] = {"least": "smaller is better", "most": "larger is better", "one": "nearest 1 is best"}
"""What to look for in a score."""

HEADINGS = SHOWN | {
    "error_spread_correlation": "error–spread correlation",
    "observation_chi2_analysis": "obs. χ², analysis",
    "energy_distance_mean": "mean's energy spectrum, dB",
}
"""What a table calls the scores."""


def heading(name: str) -> str:
    """What a table calls a score; any other score goes by its own name."""
    return HEADINGS.get(name, name.replace("_", " "))


def aim_of(name: str) -> Aim:
    """Which value of a score is best; empty if none is, or the score is not known."""
    return aim(name) if name in MEANINGS else ""


def meaning(name: str) -> str:
    """A score in words."""
    return "; ".join(part for part in (MEANINGS.get(name, "a score of this record"), WORDS.get(aim_of(name))) if part)


def best(name: str, values: Mapping[str, float]) -> str | None:
    """The label of the best of several values; None if there are fewer than two, or none is better."""
    known = {label: value for label, value in values.items() if math.isfinite(value)}
    if len(known) < 2 or not aim_of(name):
        return None
    distance = {"one": lambda v: abs(v - 1), "most": lambda v: -v}.get(aim_of(name), lambda v: v)
    return min(known, key=lambda label: distance(known[label]))
