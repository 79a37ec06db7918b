"""Ensemble filters and controls, each an `Assimilator`: EnKF, ETKF, LETKF, EnSF, the dual-resolution EnKF.

A filter takes the `ForecastModel` that it forecasts with as an argument, the dual filter two.
"""

from jaxsrda.filters.analysis import ANALYSES
from jaxsrda.filters.config import FILTERS, LAYOUT_FILTERS, PAPER_FILTERS, FilterConfig, FilterParams, filter_params
from jaxsrda.filters.controls import climatology, free_run, optimal_interpolation, persistence
from jaxsrda.filters.dual import DualState, dual_filter
from jaxsrda.filters.ensemble import EnsembleState, ensemble_filter
from jaxsrda.filters.inflation import inflate, relax_perturbations, relax_spread

__all__ = [
    "ANALYSES",
    "FILTERS",
    "LAYOUT_FILTERS",
    "PAPER_FILTERS",
    "DualState",
    "EnsembleState",
    "FilterConfig",
    "FilterParams",
    "climatology",
    "dual_filter",
    "ensemble_filter",
    "filter_params",
    "free_run",
    "inflate",
    "optimal_interpolation",
    "persistence",
    "relax_perturbations",
    "relax_spread",
]
