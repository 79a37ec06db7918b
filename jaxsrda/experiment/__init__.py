"""The twin experiment: methods by name, the experiment as a value, its truth, its run and its result.

`Experiment(...)` is checked when it is made; `run(experiment)` gives a `Result`.
"""

from jaxsrda.experiment.experiment import Experiment, from_options
from jaxsrda.experiment.registry import METHODS, Method, make_assimilator, make_diffsrda, method_preset, register_method
from jaxsrda.experiment.result import DivergedError, Result
from jaxsrda.experiment.run import assimilate
from jaxsrda.experiment.scan import Recipe, run_scan
from jaxsrda.experiment.search import Search, run_search
from jaxsrda.experiment.space import combined, grid_settings, random_settings, read_settings
from jaxsrda.experiment.sweep import Sweep, run_sweep
from jaxsrda.experiment.trials import SweepResult, Trial
from jaxsrda.experiment.truth import default_climatology, prepare_truth, read_truth, simulate_truth

__all__ = [
    "METHODS",
    "DivergedError",
    "Experiment",
    "Method",
    "Recipe",
    "Result",
    "Search",
    "Sweep",
    "SweepResult",
    "Trial",
    "assimilate",
    "combined",
    "default_climatology",
    "from_options",
    "grid_settings",
    "make_assimilator",
    "make_diffsrda",
    "method_preset",
    "prepare_truth",
    "random_settings",
    "read_settings",
    "read_truth",
    "register_method",
    "run_scan",
    "run_search",
    "run_sweep",
    "simulate_truth",
]
