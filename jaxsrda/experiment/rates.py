"""Rates of this machine: what a unit of each kind of work takes, measured by the package's own functions."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core.costs import compiled, seconds_of
from jaxsrda.core.linalg import cholesky, solve
from jaxsrda.cycling.assimilator import Assimilator, Setup
from jaxsrda.cycling.cycle import run_cycles
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.experiment.registry import configured_model
from jaxsrda.filters.analysis import ANALYSES
from jaxsrda.filters.config import FilterConfig, filter_params
from jaxsrda.flow.climatology import Climatology
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.lagrangian import ODD, interpolate
from jaxsrda.flow.solver import etdrk4, rollout
from jaxsrda.flow.testbed import Level, Testbed, jet
from jaxsrda.observing.observations import Observations, pack
from jaxsrda.observing.sensors import Sensors

SMALL = ChannelGrid(64, 33)
"""Where work that goes point by point is measured."""

MOST_MEMBERS, MOST_SENSORS = 128, 512
"""Of what is run to measure a rate; more are extrapolated in proportion."""

AT_ONCE = 8
"""Members of a forecast that is timed."""

MOST_STEPS, MOST_FLOPS = 4, 4e9
"""Time steps that are timed, fewer, and of fewer members, where these are more operations."""

FACTOR = 1024
"""Sensors of the factor that is timed."""

BUDGET = 0.5
"""Seconds of a timing, without compiling."""


class Need(NamedTuple):
    """A kind of work of a size: `KINDS` says what; grid: (nx, ny); members and sensors of the ensemble."""

    kind: str
    grid: tuple[int, int] = (0, 0)
    members: int = 1
    sensors: int = 0


class Rate(NamedTuple):
    """Seconds of a unit of a kind of work, and the size that it was measured at."""

    kind: str
    points: int
    members: int
    seconds: float


def transform_flops(grid: ChannelGrid) -> int:
    """Operations of one transform between field and amplitudes: two products with truncated bases."""
    rows, columns = grid.spectral_shape
    return 2 * rows * grid.ny * (columns + grid.nx)


def tendency_flops(grid: ChannelGrid) -> int:
    """Operations of the four transforms of a tendency."""
    return 4 * transform_flops(grid)


def factor_flops(sensors: int, right: int) -> float:
    """Operations of a Cholesky factor and two triangular solves with `right` right-hand sides."""
    return sensors**3 / 3 + 2 * sensors**2 * right


# Probes: each gives a function, its arguments, and the units of a call -------------------------

Probe = tuple[Callable[..., Any], tuple[Any, ...], float]


def _transform(need: Need) -> Probe:
    grid, testbed = ChannelGrid(*need.grid), jet()
    affordable = max(int(MOST_FLOPS / (4 * tendency_flops(grid))), 1)
    members = min(need.members, AT_ONCE, affordable)
    steps = min(MOST_STEPS, max(affordable // members, 1))
    level = Level("timed", grid.nx, grid.ny, 1e-5 * (128 / grid.nx) ** 4, 1)
    step = etdrk4(grid, testbed.flow_params(level, "float32"), 0.01 * 128 / max(grid.nx, 128))
    states = jnp.stack([testbed.start(jax.random.key(0), grid, "float32")] * members)
    run = rollout(jax.vmap(step), steps, 1, lambda state: state[0, 0, 0])
    return run, (states,), 4 * steps * members * tendency_flops(grid)


def _interpolate(need: Need) -> Probe:
    grid, rng, members = ChannelGrid(*need.grid), np.random.default_rng(0), min(need.members, AT_ONCE)
    field, x, y = (jnp.asarray(rng.normal(size=(members, *grid.shape)), jnp.float32) for _ in range(3))
    shift = 0.1 * x, 0.1 * y
    run = jax.vmap(lambda field, x, y: interpolate(grid, field, (x, y), ODD))
    return run, (field, *shift), members * grid.nx * grid.ny


def _gain(need: Need) -> Probe:
    run, arguments = _analysis("enkf", need)
    sensors, points = min(need.sensors, MOST_SENSORS), SMALL.nx * SMALL.ny
    return run, arguments, (points + sensors) * sensors


def _factor(need: Need) -> Probe:
    sensors, members = FACTOR, min(need.members, MOST_MEMBERS)
    a = jnp.asarray(np.random.default_rng(0).normal(size=(sensors, sensors)) / math.sqrt(sensors), jnp.float32)
    matrix, right = a @ a.T + jnp.eye(sensors, dtype=a.dtype), a[:, :members]

    def run(matrix: Array, right: Array) -> Array:
        lower = cholesky(matrix)
        return solve(lower, solve(lower, right), transposed=True)

    return run, (matrix, right), factor_flops(sensors, members)


def _columns(name: str, need: Need) -> Probe:
    return *_analysis(name, need), SMALL.nx * SMALL.ny


def _analysis(name: str, need: Need) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    members, sensors = min(need.members, MOST_MEMBERS), min(need.sensors, MOST_SENSORS)
    rng, params = np.random.default_rng(0), filter_params(FilterConfig(), "float32")
    ensemble = jnp.asarray(rng.normal(size=(members, *SMALL.shape)), jnp.float32)
    predicted = jnp.asarray(rng.normal(size=(members, sensors)), jnp.float32)

    def run(key: Array, ensemble: Array, predicted: Array, observations: Observations) -> Array:
        return ANALYSES[name](key, SMALL, ensemble, predicted, observations, params)

    return run, (jax.random.key(0), ensemble, predicted, _sensors(sensors))


def _sensors(count: int) -> Observations:
    rng = np.random.default_rng(0)
    packed = pack(rng.normal(size=count), rng.uniform((0, 0.01), (6.28, 3.13), (count, 2)), 0.01)
    return jax.tree.map(lambda leaf: leaf if leaf.dtype == bool else leaf.astype("float32"), packed)


def _score(need: Need) -> Probe:
    """A cycle of a method that does nothing: what remains is health, fit to observations, scores and sums."""
    members = min(need.members, MOST_MEMBERS)
    testbed = _at(jet(), SMALL)
    every, none = testbed.frames_per_cycle, jnp.zeros((1, *SMALL.spectral_shape), jnp.float32)
    setup = Setup(testbed, Climatology(none, none[None], SMALL), (Sensors(),))
    rng = np.random.default_rng(0)
    ensemble = jnp.asarray(rng.normal(size=(members, every, *SMALL.shape)), jnp.float32)
    truth = jnp.asarray(rng.normal(size=(every, *SMALL.shape)), jnp.float32)
    observed = jax.tree.map(lambda leaf: leaf[None], _sensors(16))

    def run(key: Array, ensemble: Array, truth: Array, observed: Observations) -> Any:
        method = Assimilator(lambda key: ensemble, lambda key, state, seen: (state, setup.window(seen, state)), members)
        return run_cycles(method, key, observed, truth, testbed=testbed)

    return run, (jax.random.key(0), ensemble, truth, observed), every * SMALL.nx * SMALL.ny


def _at(testbed: Testbed, grid: ChannelGrid) -> Testbed:
    """A testbed that analyses on another grid."""
    return dataclasses.replace(testbed, analysis=Level("timed", grid.nx, grid.ny, 1e-4, 1))


def _draw(config: DiffSRDAConfig, members: int, need: Need) -> Probe:
    from jaxsrda.diffsrda.sampling import make_draw

    model = configured_model(config)
    run = make_draw(model, dataclasses.replace(config, members=members, guidance=None))
    kind = model.config
    conditions = jnp.zeros((1, kind.nx, kind.ny, kind.channels), jnp.float32)
    return lambda key, conditions: run.corrections(key, conditions), (jax.random.key(0), conditions), kind.nx * kind.ny


PROBES: dict[str, Callable[[Need], Probe]] = {
    "transform": _transform,
    "interpolate": _interpolate,
    "gain": _gain,
    "factor": _factor,
    "letkf": functools.partial(_columns, "letkf"),
    "etkf": functools.partial(_columns, "etkf"),
    "ensf": functools.partial(_columns, "ensf"),
    "score": _score,
}
"""How each kind is run, and its units: `transform` and `factor` in operations, `interpolate` in points of members,
`gain` in elements of the covariances between sensors and of sensors with the grid, the other analyses in grid points,
`score` in points of frames."""

BY_MEMBERS = ("gain", "letkf", "etkf", "ensf", "score")
"""Kinds whose unit takes longer the more members there are."""

DRAWS = ("encode", "sample")
"""Kinds of the diffusion model: a condition encoded, and a step of a sample, in grid points."""

KINDS = (*PROBES, *DRAWS)


def measured(need: Need) -> Rate:
    """The rate of a kind of work of a size (of a diffusion model: `measured_draw`)."""
    run, arguments, units = PROBES[need.kind](need)
    program = compiled(run, *arguments).program
    seconds = min(seconds_of([lambda: program(*arguments)], budget=BUDGET)[0])
    points = math.prod(need.grid) if need.kind in ("transform", "interpolate") else SMALL.nx * SMALL.ny
    members = min(need.members, MOST_MEMBERS) if need.kind in BY_MEMBERS else 1
    return Rate(need.kind, points, members, seconds / units)


def measured_draw(config: DiffSRDAConfig) -> list[Rate]:
    """Rates of a diffusion model, from draws of 2 and of 8 members in turns: encoding is what is left without any."""
    few, many = 2, 8
    probes = [_draw(config, members, Need("sample")) for members in (few, many)]
    programs = [(compiled(run, *arguments).program, arguments) for run, arguments, _ in probes]
    calls = [lambda p=program, a=arguments: p(*a) for program, arguments in programs]
    short, long = (min(times) for times in seconds_of(calls, budget=BUDGET))
    points, member = int(probes[0][2]), max(long - short, 0.0) / (many - few)
    drawn = Rate("sample", points, 1, member / config.steps / points)
    return [Rate("encode", points, 1, max(short - few * member, 0.0) / points), drawn]


def measured_rates(quick: bool = False) -> list[Rate]:
    """Rates at usual sizes, for a file that plans are made from."""
    flow, members = jet(), (40,) if quick else (10, 40, 100)
    grids = [level.grid.shape for level in flow.levels[: 2 if quick else 4]]
    needs = [Need("transform", grid, AT_ONCE) for grid in grids]
    needs += [Need("interpolate", flow.grid.shape, AT_ONCE), Need("factor", members=40)]
    needs += [Need(kind, members=count, sensors=128) for kind in BY_MEMBERS[: 2 if quick else 4] for count in members]
    needs += [Need("score", members=count) for count in members]
    return [measured(need) for need in needs] + measured_draw(DiffSRDAConfig())


def read_rates(path: str | Path) -> list[Rate]:
    """The rates of a record of `python -m benchmarks`; ValueError for a file without any."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        rates = [Rate(**rate) for rate in record["rates"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"rates: expected a record of `python -m benchmarks … --out FILE`, could not read {path} ({error!r})"
        ) from None
    if not rates:
        raise ValueError(f"rates: {path} has none; write another with `python -m benchmarks all --quick --out FILE`")
    return rates


def seconds_a_unit(rates: Iterable[Rate], need: Need) -> float:
    """Seconds of a unit of a size: of the rates of its kind on the grid nearest in points, straight lines between their
    members, and in proportion beyond the largest.  ValueError if there is none."""
    own = [rate for rate in rates if rate.kind == need.kind]
    if not own:
        raise ValueError(f"rates: none of {need.kind} among them; leave --rates out to measure here")
    wanted = math.log(max(math.prod(need.grid), 1))
    nearest = min((abs(math.log(rate.points) - wanted), rate.points) for rate in own)[1]
    line = sorted({rate.members: rate.seconds for rate in own if rate.points == nearest}.items())
    if need.kind not in BY_MEMBERS:
        return line[0][1]
    members, seconds = np.array(line).T
    return float(np.interp(need.members, members, seconds)) * max(1.0, need.members / members[-1])


def measured_all(needs: Sequence[Need]) -> list[Rate]:
    """Rates of all kinds of work but a diffusion model's, measured now."""
    return [measured(need) for need in dict.fromkeys(needs)]
