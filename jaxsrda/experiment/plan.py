"""What a run will cost before it is made: memory, operations and time by method, grid, members, sensors, truths.

Memory is XLA's account of the very program that would run, compiled for these sizes and not run.  Operations are
counted from the formulas of each part; time is their number times the rates of a machine (`experiment.rates`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsrda.core.checks import check_choice
from jaxsrda.core.devices import divisions
from jaxsrda.cycling.assimilator import Setup
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.experiment import rates
from jaxsrda.experiment.rates import Need, Rate
from jaxsrda.experiment.registry import METHODS, check_config, configured_model
from jaxsrda.experiment.scan import Recipe, program_of
from jaxsrda.filters.analysis import LOCAL
from jaxsrda.filters.config import FilterConfig
from jaxsrda.flow.climatology import CLIMATOLOGY_RUNS, Climatology
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.lagrangian import SUBSTEPS
from jaxsrda.flow.testbed import Testbed, jet
from jaxsrda.observing.observations import Observations
from jaxsrda.observing.sensors import Sensors

if TYPE_CHECKING:
    from jaxsrda.diffsrda.model import Model


class Parts(NamedTuple):
    """What a method does in a cycle.

    hr, lr, carried: members that it forecasts at the level of analyses, at that of forecasts, and that these carry; ALL
    stands for the ensemble.  analysis: its name in `ANALYSES`, empty for none.
    """

    hr: int = 0
    lr: int = 0
    carried: int = 0
    analysis: str = ""


ALL = -1

FILTER_PARTS: dict[str, Parts] = {
    "enkf-hr": Parts(hr=ALL, analysis="enkf"),
    "enkf-sr": Parts(lr=ALL, analysis="enkf"),
    "enkf-dual": Parts(hr=1, lr=ALL, analysis="enkf"),
    "enkf-lagrange": Parts(carried=ALL, analysis="enkf"),
    "letkf-lagrange": Parts(carried=ALL, analysis="letkf"),
    "enkf-dual-lagrange": Parts(carried=1, lr=ALL, analysis="enkf"),
    "oi-lagrange": Parts(carried=1, analysis="enkf"),
    "etkf-hr": Parts(hr=ALL, analysis="etkf"),
    "letkf-hr": Parts(hr=ALL, analysis="letkf"),
    "letkf-sr": Parts(lr=ALL, analysis="letkf"),
    "ensf-sr": Parts(lr=ALL, analysis="ensf"),
    "free-run": Parts(hr=ALL),
    "bicubic": Parts(lr=ALL),
    "climatology": Parts(),
    "persistence": Parts(analysis="enkf"),
}
"""What the filters and controls do."""

PRIOR_PARTS: dict[str, Parts] = {
    "dual": Parts(hr=2, lr=ALL, analysis="enkf"),
    "enkf-sr": Parts(lr=ALL, analysis="enkf"),
    "lagrange": Parts(carried=ALL, analysis="enkf"),
    "carried": Parts(carried=2, analysis="enkf"),
    "lr": Parts(lr=ALL),
}
"""What the priors of the diffusion model do; single forecasts are made again from the restart."""


@dataclasses.dataclass(frozen=True)
class Outline:
    """What a plan is of: a method on a testbed.

    config: of the method, by default its preset; sensors: slots of observations; truths: side by side; cycles: of each,
    by default the testbed's frames; devices: that share the truths (and
    the members, which are still counted whole).  Raises ValueError for numbers below 1, and for a
    method whose parts are not known here.
    """

    method: str
    testbed: Testbed = dataclasses.field(default_factory=jet)
    config: Any = None
    sensors: int = 128
    truths: int = 1
    cycles: int | None = None
    devices: int = 1

    def __post_init__(self):
        check_choice("method", self.method, METHODS)
        object.__setattr__(self, "config", check_config(self.method, self.config))
        if self.cycles is None:
            object.__setattr__(self, "cycles", max(self.testbed.frames // self.testbed.frames_per_cycle, 1))
        for name in ("sensors", "truths", "cycles", "devices"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        known = isinstance(self.config, DiffSRDAConfig) or self.method in FILTER_PARTS
        if not known or (isinstance(self.config, DiffSRDAConfig) and self.config.prior not in PRIOR_PARTS):
            what = self.method if not known else f"prior {self.config.prior}"
            raise ValueError(f"plan: expected a method of the package, whose parts are known, got {what}")

    @property
    def parts(self) -> Parts:
        """What the method does in a cycle, its members counted."""
        diffusion = isinstance(self.config, DiffSRDAConfig)
        own = PRIOR_PARTS[self.config.prior] if diffusion else FILTER_PARTS[self.method]
        single = getattr(self.config, "controls", 1)
        counts = {
            name: self.config.members if count == ALL else count * single
            for name, count in own._asdict().items()
            if name != "analysis"
        }
        return own._replace(**counts)

    @property
    def truths_a_device(self) -> int:
        """Truths that each device has: all of them where the devices divide their members alone."""
        return self.truths // divisions(self.devices, (self.truths, self.config.members))[0]


class Work(NamedTuple):
    """A part of a cycle: its name, the kind and size of its work, how many units of it, and operations."""

    name: str
    need: Need
    units: float
    flops: float = 0.0


class Plan(NamedTuple):
    """What a run needs on each device.

    memory: bytes; seconds: of all cycles, by part; flops: operations of products, factors and networks, by part;
    compile: seconds that compiling took here.
    """

    outline: Outline
    memory: int | None
    seconds: dict[str, float]
    flops: dict[str, float]
    compile: float

    @property
    def total_seconds(self) -> float:
        """Seconds of the run, compiling left out."""
        return sum(self.seconds.values())


def work_of(outline: Outline) -> list[Work]:
    """The parts of a cycle of one truth."""
    testbed, config, parts = outline.testbed, outline.config, outline.parts
    grid, frames = testbed.grid, testbed.frames_per_cycle
    ensemble, shown = ensemble_of(outline), config.members
    found = []
    for name, level, members in (("hr", testbed.analysis, parts.hr), ("lr", testbed.forecast, parts.lr)):
        if members:
            flops = 4.0 * members * frames * level.steps * rates.tendency_flops(level.grid)
            need = Need("transform", level.grid.shape, members)
            found.append(Work(f"forecasts, {name}", need, flops, flops))
    if parts.carried:
        found += carried_work(testbed, getattr(config, "substeps", 0) or SUBSTEPS, parts.carried)
    # Fields of frames, noise and analyses; those of a coarser level are brought to the grid of analyses.
    flops = (frames + 3.0) * max(ensemble, shown) * rates.transform_flops(grid)
    found.append(Work("transforms", Need("transform", grid.shape, ensemble), flops, flops))
    found += analysis_work(outline, grid, ensemble)
    if isinstance(config, DiffSRDAConfig):
        points = grid.nx * grid.ny
        found.append(Work("network, conditions", Need("encode", grid.shape), points))
        samples = 0 if config.sampler == "mean" else shown * config.steps
        found.append(Work("network, samples", Need("sample", grid.shape), points * samples))
    points = frames * grid.nx * grid.ny
    found.append(Work("scores", Need("score", grid.shape, shown), points))
    return found


def ensemble_of(outline: Outline) -> int:
    """Members that are analysed."""
    carried = isinstance(outline.config, DiffSRDAConfig) and outline.config.prior == "carried"
    return METHODS["oi-lagrange"].config.members if carried else outline.config.members


def carried_work(testbed: Testbed, substeps: int, members: int) -> list[Work]:
    """Of fields that cheap forecasts carry: the driver, trajectories and interpolation, and transforms."""
    fine, coarse, times = testbed.grid, testbed.forecast.grid, testbed.frames_per_cycle * substeps * members
    steps = 2 * -(-testbed.forecast.steps // (2 * substeps))
    drive = 4.0 * times * steps * rates.tendency_flops(coarse)
    both = times * (2.0 * rates.transform_flops(fine) + 4.0 * fine.nx * coarse.ny * (coarse.nx + fine.ny))
    taps = times * (6 * coarse.nx * coarse.ny + fine.nx * fine.ny)
    return [
        Work("forecasts, driver", Need("transform", coarse.shape, members), drive, drive),
        Work("forecasts, interpolation", Need("interpolate", fine.shape, members), taps),
        Work("forecasts, carried transforms", Need("transform", fine.shape, members), both, both),
    ]


def analysis_work(outline: Outline, grid: ChannelGrid, members: int) -> list[Work]:
    """Of the analysis of one time."""
    name, p, n = outline.parts.analysis, outline.sensors, grid.nx * grid.ny
    if not name:
        return []
    if name == "enkf":
        elements, factor = float(n + p) * p, rates.factor_flops(p, members)
        gain = Work("analysis, gain", Need("gain", grid.shape, members, p), elements, 4.0 * members * elements)
        return [gain, Work("analysis, factor", Need("factor", (0, 0), members, p), factor, factor)]
    near = min(LOCAL, p)
    flops = {"letkf": 8.0 * near * near * members + 150.0 * near**3, "etkf": 4.0 * min(members, p) * members}
    work = flops.get(name, 400.0 * members * members)
    return [Work(f"analysis, {name}", Need(name, grid.shape, members, p), n, n * work)]


def plan(outline: Outline, known: Sequence[Rate] | None = None) -> Plan:
    """The plan of an outline; known: rates from a file, by default those that are needed are measured here and now.

    Raises ValueError for weights that do not fit the method, and if the file lacks a rate.
    """
    work = work_of(outline)
    if known is None:
        plain = [part.need for part in work if part.need.kind in rates.PROBES]
        known = rates.measured_all(plain)
        if isinstance(outline.config, DiffSRDAConfig):
            known += rates.measured_draw(outline.config)
    times = outline.truths_a_device * outline.cycles  # type: ignore[operator]
    # One after the other on a CPU's cores, so truths side by side take as long as one by one.
    seconds = {part.name: times * part.units * rates.seconds_a_unit(known, part.need) for part in work}
    program, took = memory_of(outline)
    return Plan(outline, program, seconds, {part.name: times * part.flops for part in work}, took)


def memory_of(outline: Outline) -> tuple[int | None, float]:
    """Bytes that the program of a device needs, and the seconds that compiling it took; nothing is run."""
    testbed, truths, dtype = outline.testbed, outline.truths_a_device, jnp.zeros(()).dtype
    cycles, p = int(outline.cycles or 1), outline.sensors

    def array(*shape: int, dtype: Any = dtype) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    spectral, times = testbed.grid.spectral_shape, testbed.frames // testbed.frames_per_cycle + 1
    climate = Climatology(
        array(times, *spectral),
        array(CLIMATOLOGY_RUNS, times, *spectral),
        testbed.grid,
        testbed.symmetries,
    )
    setup = Setup(testbed, climate, (Sensors(),))
    shape = truths, cycles, p
    observed = Observations(array(*shape), array(*shape, 2), array(*shape, dtype=bool), array(*shape))
    truth = array(truths, cycles * testbed.frames_per_cycle, *testbed.grid.shape)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), truths))
    model = resized(configured_model(outline.config), testbed) if isinstance(outline.config, DiffSRDAConfig) else None
    compiled = program_of(Recipe(outline.method, outline.config, model), setup)
    carry = compiled.begin(setup, keys, True, dtype, compute=False)
    costs = compiled.planned(setup, keys, observed, truth, carry)
    return costs.costs.memory, costs.lower + costs.compile


def resized(model: Model, testbed: Testbed) -> Model:
    """The model as if it were for a testbed's grid: its networks are convolutions, whose weights suit any."""
    (nx, ny), kind = testbed.grid.shape, model.config
    if (kind.nx, kind.ny) == (nx, ny):
        return model
    return dataclasses.replace(model, config=dataclasses.replace(kind, nx=nx, ny=ny))


def members_of(config: FilterConfig | DiffSRDAConfig, members: int | None, steps: int | None) -> Any:
    """A configuration with other members, and, for a sampler, other steps; ValueError for steps of a filter."""
    changes: dict[str, int] = {} if members is None else {"members": members}
    if steps is not None:
        if not isinstance(config, DiffSRDAConfig):
            raise ValueError("steps: are those of a sampler, and this method has none; leave them out")
        changes["steps"] = steps
    return dataclasses.replace(config, **changes)
