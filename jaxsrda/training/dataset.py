"""What a training learns from: which runs, with which sensors, in which cycle."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.core.checks import check_choice
from jaxsrda.core.records import key_of, renamed
from jaxsrda.diffsrda.prior import PRIORS
from jaxsrda.flow.testbed import Level, Testbed, jet
from jaxsrda.networks.layers import on_cpu
from jaxsrda.observing.layouts import parse_layout
from jaxsrda.observing.observations import NOISE_STD
from jaxsrda.training.sources import Sensing, make_truths, truth_program
from jaxsrda.training.truths import BLOCK, training_runs
from jaxsrda.training.windows import STARTS

EXTRA_LAYOUTS = ("random-moving:128", "lattice:12", "lattice:8+dropout:0.3+silent:0.3", "lattice:6", "lattice:4")
"""Sensor layouts that training meets beside its main one."""

MAIN = 3
"""Runs with the main layout for each one with another."""

AT_ONCE = 256
"""Training runs that an accelerator simulates side by side."""


@renamed(others="extra_layouts", observation_std="noise_std", repeats="none: windows are made anew all the time")
@dataclasses.dataclass(frozen=True)
class DataConfig:
    """A training set: testbed, runs, truth level, prior, and sensors.

    testbed: the flow; level: of the training runs, by name, empty for that of the testbed's truths.  runs: training
    runs, a multiple of 8.  layout: the sensors of three quarters of the runs; extra_layouts: those of the others, in
    equal parts, so that one network serves many.  prior, members: the forecasts that give the first guess.  noise_std:
    of the observations; noise_range: for half of the runs, log-uniform between two numbers instead; empty for none.
    starts: of the forecasts of prior lr, `cycle`, the model's own analyses, or bare ones (`windows.STARTS`).  times:
    assimilation times used of each run, the earliest; 0 takes all.
    """

    prior: str = "dual"
    members: int = 30
    level: str = ""
    runs: int = 160
    layout: str = "lattice:8"
    extra_layouts: tuple[str, ...] = EXTRA_LAYOUTS
    noise_std: float = NOISE_STD
    noise_range: tuple[float, ...] = ()
    starts: str = "cycle"
    times: int = 0
    testbed: Testbed = dataclasses.field(default_factory=jet)

    def __post_init__(self):
        check_choice("prior", self.prior, PRIORS)
        _ = self.truth_level
        check_choice("starts", self.starts, ("cycle", *STARTS))
        if self.starts != "cycle" and self.prior != "lr":
            raise ValueError(f"starts: bare forecasts are those of prior lr, got {self.starts} with {self.prior}")
        if self.times < 0:
            raise ValueError(f"times: expected 1 or more, or 0 for all, got {self.times}")
        _ = self.sensings
        if self.runs < BLOCK or self.runs % BLOCK:
            raise ValueError(f"runs: expected a multiple of {BLOCK}, at least {BLOCK}; got {self.runs}")

    @property
    def truth_level(self) -> Level:
        """The level of the training runs, which is not coarser than that of analyses."""
        fine = {level.name: level for level in self.testbed.levels if level.nx >= self.testbed.analysis.nx}
        return fine[check_choice("level", self.level, fine)] if self.level else self.testbed.truth

    @property
    def frames(self) -> int:
        """Frames of a run that are used: the first time and those after it, and one more frame."""
        every = self.testbed.frames_per_cycle
        return min(every * (self.times + 1), self.testbed.frames) + 1 if self.times else self.testbed.frames + 1

    @property
    def sensings(self) -> dict[str, Sensing]:
        """Sensors by what is added to the prior's name: those of most runs, and `dense` ones, which take more slots.

        Programs of many slots cost more, so they are not asked of the runs that need few.
        """
        grid = self.testbed.grid
        slots = {name: parse_layout(name, grid).capacity for name in (self.layout, *self.extra_layouts)}
        few = [name for name in self.extra_layouts if slots[name] <= slots[self.layout]]
        many = [name for name in self.extra_layouts if slots[name] > slots[self.layout]]
        main = MAIN * len(self.extra_layouts) or 1
        noise = self.noise_std, self.noise_range
        parts = {"": Sensing((self.layout, *few), (main, *(1 for _ in few)), *noise)}
        return parts | ({", dense": Sensing(tuple(many), tuple(1 for _ in many), *noise)} if many else {})


def truths_of(
    data: DataConfig, runs: int, report: Callable[[int, int], None] = lambda *_: None, program: Callable | None = None
) -> Array:
    """Training runs (runs, frames, nx, ny) on the device, float16: from the cache on CPUs, elsewhere made there.

    program: `truth_program` for `AT_ONCE` seeds, if it was compiled before.
    """
    frames = data.testbed.frames + 1
    if on_cpu():
        made = jnp.asarray(training_runs(data.testbed, data.truth_level, runs, progress=report))
    else:
        program = program or jax.jit(truth_program(data.testbed, data.truth_level, frames))
        made = make_truths(program, runs, AT_ONCE, report=report)
    return made[:, : data.frames]


def one_set_of_truths(data: tuple[DataConfig, ...]) -> DataConfig:
    """The first of several training sets; ValueError if they are not of the same runs."""

    runs = {(key_of(each.testbed), each.truth_level.name, each.runs, each.frames) for each in data}
    if len(runs) > 1:
        raise ValueError(
            "data: expected the same testbed, level, runs and times for all training sets, got several; train one "
            "model for each"
        )
    return data[0]
