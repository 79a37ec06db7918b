"""jaxsrda: high-resolution ensemble analyses of a chaotic ocean jet, in JAX.

In reading order: the grid and the flow, the truth, what is observed, the methods, the cycle that
runs them, the scores, and the experiment that puts them together.
"""

from importlib.metadata import version as _version

from jaxsrda.experiment.registry import CONFIGS
from jaxsrda.filters.config import FILTERS, PAPER_FILTERS, FilterConfig
from jaxsrda.flow.testbed import LEVELS, Level
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.flow.jet import JetConfig
from jaxsrda.flow.grid import ChannelGrid, regrid, to_physical, to_spectral, velocity
from jaxsrda.flow.solver import FlowParams, UnstableStepError, etdrk4, rk2, rollout, tendency
from jaxsrda.flow.testbed import flow_params
from jaxsrda.flow.jet import initial_state
from jaxsrda.flow.simulate import integrate, simulate
from jaxsrda.observing.layouts import Layout, parse_layout
from jaxsrda.observing.observations import Observations, observe, observe_run, pack
from jaxsrda.scoring.fit import bootstrap_interval
from jaxsrda.flow.climatology import Climatology
from jaxsrda.cycling.assimilator import Assimilator, Setup, Window
from jaxsrda.experiment.registry import METHODS, make_assimilator
from jaxsrda.cycling.cycle import run_cycles
from jaxsrda.cycling.sweep import sweep
from jaxsrda.experiment.result import Analysis, DivergedError
from jaxsrda.experiment.run import assimilate
from jaxsrda.experiment.truth import default_climatology, prepare_truth, simulate_truth

__version__ = _version("jaxsrda")

__all__ = [
    "CONFIGS",
    "FILTERS",
    "LEVELS",
    "METHODS",
    "PAPER_FILTERS",
    "Analysis",
    "Assimilator",
    "ChannelGrid",
    "Climatology",
    "DiffSRDAConfig",
    "DivergedError",
    "FilterConfig",
    "FlowParams",
    "JetConfig",
    "Layout",
    "Level",
    "Observations",
    "Setup",
    "UnstableStepError",
    "Window",
    "assimilate",
    "bootstrap_interval",
    "default_climatology",
    "etdrk4",
    "flow_params",
    "initial_state",
    "integrate",
    "make_assimilator",
    "observe",
    "observe_run",
    "pack",
    "parse_layout",
    "prepare_truth",
    "regrid",
    "rk2",
    "rollout",
    "run_cycles",
    "simulate",
    "simulate_truth",
    "sweep",
    "tendency",
    "to_physical",
    "to_spectral",
    "velocity",
]
