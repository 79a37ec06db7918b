"""How good an analysis is: scores of single frames, spectra, fit to observations, and sums over frames that merge.

`SCORES` has the scores of a frame by name: one more line there is one more score everywhere.  `JOINT_SCORES` has those
of many points together, on request.
"""

from jaxsrda.scoring.aims import aim
from jaxsrda.scoring.fit import bootstrap_interval, observation_fit
from jaxsrda.scoring.joint import JOINT_SCORES, energy_score, variogram_score
from jaxsrda.scoring.point import (
    SCORES,
    Scored,
    correlation,
    crps,
    error_spread_correlation,
    frame_scores,
    maer,
    mssim_loss,
    rmse,
    spread,
    spread_skill,
)
from jaxsrda.scoring.spectra import log_spectral_distance
from jaxsrda.scoring.tally import Tally, empty_tally, frame_tally, merge, summarize

__all__ = [
    "JOINT_SCORES",
    "SCORES",
    "Scored",
    "Tally",
    "aim",
    "bootstrap_interval",
    "correlation",
    "crps",
    "empty_tally",
    "energy_score",
    "error_spread_correlation",
    "frame_scores",
    "frame_tally",
    "log_spectral_distance",
    "maer",
    "merge",
    "mssim_loss",
    "observation_fit",
    "rmse",
    "spread",
    "spread_skill",
    "summarize",
    "variogram_score",
]
