"""The flow: grid, solver, testbed, forecast models, climatology and long simulations.

A `Testbed` is one experiment's flow as a value; a `ForecastModel` is what a method forecasts with.
"""

from jaxsrda.flow.climatology import Climatology, from_runs, simulate_climatology
from jaxsrda.flow.forecasts import Forecast, ForecastModel, spectral
from jaxsrda.flow.frames import Frames, align
from jaxsrda.flow.grid import ChannelGrid, regrid, spectra, to_physical, to_spectral, velocity
from jaxsrda.flow.jet import Physics, initial_state, jet_vorticity
from jaxsrda.flow.labelled import Labelled, labelled
from jaxsrda.flow.lagrangian import lagrangian
from jaxsrda.flow.simulate import Run, Trajectory, integrate, simulate_resumable
from jaxsrda.flow.solver import FlowParams, Speeds, UnstableStepError, etdrk4, rk2, rollout, tendency
from jaxsrda.flow.testbed import TESTBEDS, Level, Testbed, jet, jet_small

__all__ = [
    "TESTBEDS",
    "ChannelGrid",
    "Climatology",
    "FlowParams",
    "Forecast",
    "ForecastModel",
    "Frames",
    "Labelled",
    "Level",
    "Physics",
    "Run",
    "Speeds",
    "Testbed",
    "Trajectory",
    "UnstableStepError",
    "align",
    "etdrk4",
    "from_runs",
    "initial_state",
    "integrate",
    "jet",
    "jet_small",
    "jet_vorticity",
    "labelled",
    "lagrangian",
    "regrid",
    "rk2",
    "rollout",
    "simulate_climatology",
    "simulate_resumable",
    "spectra",
    "spectral",
    "tendency",
    "to_physical",
    "to_spectral",
    "velocity",
]
