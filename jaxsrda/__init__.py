"""jaxsrda: high-resolution ensemble analyses of a chaotic ocean jet, in JAX.

In reading order: the flow and its testbed, what is observed, the cycle and its contract, the methods that run in it,
the scores, the experiment that puts them together, and the benchmark that compares methods.
"""

from importlib.metadata import PackageNotFoundError as _NotInstalled
from importlib.metadata import version as _version

from jaxsrda.core.lazy import later
from jaxsrda.flow.grid import ChannelGrid, regrid, to_physical, to_spectral, velocity
from jaxsrda.flow.solver import FlowParams, UnstableStepError, etdrk4, rk2, rollout, tendency
from jaxsrda.flow.testbed import Level, Physics, Testbed, jet, jet_small
from jaxsrda.flow.simulate import integrate, simulate
from jaxsrda.flow.forecasts import Forecast, ForecastModel, spectral
from jaxsrda.flow.lagrangian import lagrangian
from jaxsrda.flow.climatology import Climatology
from jaxsrda.observing.layouts import Layout, parse_layout
from jaxsrda.observing.observations import Observations, join, observe, observe_run, pack, stack
from jaxsrda.observing.sensors import Sensors
from jaxsrda.cycling.assimilator import Assimilator, Diagnostics, Setup, Window
from jaxsrda.cycling.background_check import background_checked
from jaxsrda.cycling.cycle import Carry, History, run_cycles, start
from jaxsrda.cycling.sweep import sweep
from jaxsrda.filters.config import FILTERS, LAYOUT_FILTERS, PAPER_FILTERS, FilterConfig, FilterParams, filter_params
from jaxsrda.filters.controls import free_run, optimal_interpolation, persistence
from jaxsrda.filters.dual import dual_filter
from jaxsrda.filters.ensemble import ensemble_filter
from jaxsrda.diffusion.guidance import DPS, GUIDES, MMPS, OI, SDA, Blend, DiffPIR, Guide, Lifted, PiGDM, Projected
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.prior import PRIORS, Prior, PriorKind, register_prior
from jaxsrda.scoring.fit import bootstrap_interval
from jaxsrda.scoring.joint import JOINT_SCORES, energy_score, variogram_score
from jaxsrda.scoring.point import SCORES, Scored, crps, frame_scores, maer, mssim_loss, rmse, spread_skill
from jaxsrda.experiment.registry import METHODS, Method, make_assimilator, make_diffsrda, method_preset
from jaxsrda.experiment.registry import register_method
from jaxsrda.experiment.experiment import Experiment
from jaxsrda.experiment.truth import default_climatology, prepare_truth, simulate_truth
from jaxsrda.experiment.result import DivergedError, Result
from jaxsrda.experiment.run import assimilate, run
from jaxsrda.experiment.space import grid_settings, random_settings
from jaxsrda.experiment.sweep import Sweep, run_sweep
from jaxsrda.experiment.search import Search, run_search
from jaxsrda.experiment.trials import SweepResult, Trial
from jaxsrda.experiment.carry_files import load_carry, save_carry
from jaxsrda.experiment.evaluate import evaluate
from jaxsrda.benchmark.protocol import PROTOCOLS, Protocol, Task
from jaxsrda.benchmark.run import run_benchmark

try:
    __version__ = _version("jaxsrda")
except _NotInstalled:  # a checkout on the path, such as on a machine where nothing can be installed
    __version__ = "unknown"

_LATER = {
    # What needs Flax, Optax, Orbax or xarray is loaded on first use.
    "observations_from_file": "app.sensor_files",
    "layout_from_file": "app.sensor_files",
    "Model": "diffsrda.model",
    "ModelConfig": "diffsrda.model",
    "load_model": "diffsrda.weights",
    "released": "diffsrda.weights",
    "save_model": "diffsrda.weights",
    "make_draw": "diffsrda.sampling",
    "mean_draw": "diffsrda.sampling",
    "register_network": "networks.registry",
    "NetworkKind": "networks.registry",
    "DataConfig": "training.dataset",
    "TrainConfig": "training.loss",
    "Job": "training.job",
    "train": "training.job",
}

_MOVED = {
    "Analysis": "Result",
    "CONFIGS": "METHODS[name].config",
    "JetConfig": "Physics",
    "LEVELS": "jet().levels, jet().level(name)",
    "flow_params": "Testbed.flow_params",
    "initial_state": "Testbed.start",
}


_later = later(__name__, _LATER)


def __getattr__(name: str) -> object:
    if name in _MOVED:
        raise AttributeError(f"jaxsrda.{name} is now jaxsrda.{_MOVED[name]}; use that name")
    return _later(name)


__all__ = [
    "DPS",
    "FILTERS",
    "GUIDES",
    "JOINT_SCORES",
    "LAYOUT_FILTERS",
    "METHODS",
    "MMPS",
    "OI",
    "PAPER_FILTERS",
    "PRIORS",
    "PROTOCOLS",
    "SCORES",
    "SDA",
    "Assimilator",
    "Blend",
    "Carry",
    "ChannelGrid",
    "Climatology",
    "DataConfig",
    "Diagnostics",
    "DiffPIR",
    "DiffSRDAConfig",
    "DivergedError",
    "Experiment",
    "FilterConfig",
    "FilterParams",
    "FlowParams",
    "Forecast",
    "ForecastModel",
    "Guide",
    "History",
    "Job",
    "Layout",
    "Level",
    "Lifted",
    "Method",
    "Model",
    "ModelConfig",
    "NetworkKind",
    "Observations",
    "Physics",
    "PiGDM",
    "Prior",
    "PriorKind",
    "Projected",
    "Protocol",
    "Result",
    "Scored",
    "Search",
    "Sensors",
    "Setup",
    "Sweep",
    "SweepResult",
    "Task",
    "Testbed",
    "TrainConfig",
    "Trial",
    "UnstableStepError",
    "Window",
    "assimilate",
    "background_checked",
    "bootstrap_interval",
    "crps",
    "default_climatology",
    "dual_filter",
    "energy_score",
    "ensemble_filter",
    "etdrk4",
    "evaluate",
    "filter_params",
    "frame_scores",
    "free_run",
    "grid_settings",
    "integrate",
    "jet",
    "jet_small",
    "join",
    "lagrangian",
    "layout_from_file",
    "load_carry",
    "load_model",
    "maer",
    "make_assimilator",
    "make_diffsrda",
    "make_draw",
    "mean_draw",
    "method_preset",
    "mssim_loss",
    "observations_from_file",
    "observe",
    "observe_run",
    "optimal_interpolation",
    "pack",
    "parse_layout",
    "persistence",
    "prepare_truth",
    "random_settings",
    "register_method",
    "register_network",
    "register_prior",
    "regrid",
    "released",
    "rk2",
    "rmse",
    "rollout",
    "run",
    "run_benchmark",
    "run_cycles",
    "run_search",
    "run_sweep",
    "save_carry",
    "save_model",
    "simulate",
    "simulate_truth",
    "spectral",
    "spread_skill",
    "stack",
    "start",
    "sweep",
    "tendency",
    "to_physical",
    "to_spectral",
    "train",
    "variogram_score",
    "velocity",
]
