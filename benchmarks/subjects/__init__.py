"""What is measured, a module a subject: each gives its cases, small sizes alone if it has to be quick."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.case import Case
from benchmarks.subjects import cycle, enkf, forecasts, sampler, solver, sweep, training

SUBJECTS: dict[str, Callable[[bool], list[Case]]] = {
    "solver": solver.cases,
    "forecasts": forecasts.cases,
    "enkf": enkf.cases,
    "sampler": sampler.cases,
    "training": training.cases,
    "cycle": cycle.cases,
    "sweep": sweep.cases,
}
"""Cases by subject, in the order in which they are run."""
