"""One experiment is one compiled scan: what is compiled, what is kept between calls, and what leaves the device."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, PartitionSpec

from jaxsrda.core import costs
from jaxsrda.core.devices import divided, gathered, placed, shared
from jaxsrda.core.progress import Progress
from jaxsrda.core.trees import copied
from jaxsrda.cycling.assimilator import Assimilator, Setup
from jaxsrda.cycling.background_check import background_checked
from jaxsrda.cycling.cycle import Carry, History, Keep, run_cycles, start
from jaxsrda.cycling.spread import spread_members
from jaxsrda.experiment.carry import check_carry, interval, next_time
from jaxsrda.experiment.options import Numbers, joined
from jaxsrda.experiment.registry import METHODS, Config, make_assimilator
from jaxsrda.experiment.result import check_healthy
from jaxsrda.observing.observations import Observations
from jaxsrda.observing.sensors import Sensors
from jaxsrda.scoring.joint import JOINT_SCORES
from jaxsrda.scoring.point import SCORES

SEGMENTS = 8
"""About how often a run says how far it is."""

PROGRAMS = 32
"""Compiled programs that are kept."""


class Inputs(NamedTuple):
    """What the methods of an experiment are given: the setup, and by truth a key, observations (truths, cycles, p) and
    frames (truths, frames, nx, ny), None without a truth."""

    setup: Setup
    keys: Array
    observed: Observations
    truth: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class Recipe:
    """What makes an assimilator from a `Setup`: a method's name, its configuration and model, or an assimilator; and
    whether it has joint scores.  reject: threshold of the background check, None for none; it is traced.

    Equal recipes on equal shapes share one compiled program: names and configurations are equal by value, models,
    operators, assimilators and what `METHODS` and `SCORES` hold if they are the same objects.
    """

    method: str | Assimilator
    config: Config | None = None
    model: Any = None
    joint: bool = False
    reject: float | None = None

    def __call__(self, setup: Setup, numbers: Numbers | None = None) -> Assimilator:
        """The assimilator; numbers: traced ones in the place of the configuration's."""
        if isinstance(self.method, Assimilator):
            return self.method
        config, params = joined(self.config, numbers, setup.dtype) if numbers else (self.config, None)
        return make_assimilator(self.method, setup, config, params, self.model)

    def __post_init__(self):
        made = METHODS[self.method] if isinstance(self.method, str) else None
        scores = tuple((SCORES | JOINT_SCORES if self.joint else SCORES).items())
        named = self.method, made and made.make, id(self.model), scores
        try:
            hash(self.config)
            identity = *named, self.config
        except TypeError:  # a guide that holds arrays
            identity = *named, id(self.config)
        object.__setattr__(self, "_identity", identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self._identity == other._identity  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self._identity)  # type: ignore[attr-defined]


WHOLE, CASES = PartitionSpec(), PartitionSpec("case")
"""What every device has whole, and what is divided by truths."""


class Program:
    """The start and the scan of a recipe, compiled at their first call and used again for the same shapes.

    On a mesh each device has truths of its own along `case`; along `member` the compiler divides each step.
    """

    def __init__(
        self, recipe: Recipe, sensors: tuple[Sensors, ...], keep: Keep, first: int = 0, mesh: Mesh | None = None
    ):
        self.recipe, self.sensors, self.first, self.mesh = recipe, sensors, first, mesh
        self.keep: Keep = keep
        self.compiled: dict[Any, Any] = {}
        self.seconds = 0.0
        """Spent on compiling, ever."""

    def begin(self, setup: Setup, keys: Array, scored: bool, dtype: Any, compute: bool = True) -> Carry:
        """The carries of all truths before the first cycle, or their shapes alone."""

        dtype = jax.dtypes.canonicalize_dtype(dtype)

        def begin(testbed: Any, climatology: Any, fields: Array | None, keys: Array) -> Carry:
            assimilator = self.assimilator(testbed, climatology, fields)
            grid = testbed.grid if scored else None
            return self.over_truths(lambda key: start(assimilator, key, grid, dtype, self.first), keys)

        name, by_all = ("begin", scored, dtype), (setup.testbed, setup.climatology, setup.fields)
        if not compute:
            return self.shapes(name, begin, *by_all, keys)
        each = shared(begin, self.mesh, (WHOLE, WHOLE, WHOLE, CASES), CASES)
        inputs = *placed(by_all, self.mesh), placed(keys, self.mesh, "case")
        return self.call(name, lambda *inputs: self.laid(each(*inputs)), *inputs)

    def assimilator(self, testbed: Any, climatology: Any, fields: Array | None = None) -> Assimilator:
        """The recipe's, its members spread over the devices."""
        made = self.recipe(Setup(testbed, climatology, self.sensors, self.first, fields))
        return spread_members(made, self.mesh)

    def over_truths(self, function: Any, *by_truth: Any) -> Any:
        """A function of one truth, mapped over the leading axis of its arguments; one truth alone, on one device, is
        traced without it, which is quicker."""
        if self.mesh is not None or len(by_truth[0]) > 1:
            return jax.vmap(function)(*by_truth)
        return jax.tree.map(lambda a: a[None], function(*jax.tree.map(lambda a: a[0], by_truth)))

    def laid(self, carry: Carry) -> Carry:
        """A carry, inside a program, as every program takes and gives it."""
        return divided(carry, self.mesh, "case", fields="member")

    def advance(
        self,
        setup: Setup,
        keys: Array,
        observed: Observations,
        truth: Array | np.ndarray | None,
        carry: Carry,
        reject: Array | None = None,
        compute: bool = True,
    ) -> tuple[Carry, History]:
        """All truths side by side over the cycles of `observed`, or the shapes of it alone; the carry is donated."""
        if not compute:
            inputs = setup.testbed, setup.climatology, carry, keys, observed, truth, reject
            return jax.eval_shape(self._advancing(), *inputs)
        by_case = placed((keys, observed, truth), self.mesh, "case")
        testbed, climatology, reject = placed((setup.testbed, setup.climatology, reject), self.mesh)
        return self.call(("advance",), self._advancing(), testbed, climatology, carry, *by_case, reject, donate=2)

    def planned(self, setup: Setup, keys: Any, observed: Observations, truth: Any, carry: Carry) -> costs.Compiled:
        """What `advance` is for these shapes, compiled and not kept; nothing is run."""
        inputs = setup.testbed, setup.climatology, carry, keys, observed, truth, None
        return costs.compiled(self._advancing(), *inputs, donate=2)

    def _advancing(self) -> Any:
        def advance(testbed, climatology, carry, keys, observed, truth, reject):
            assimilator = self.assimilator(testbed, climatology)
            if reject is not None:
                assimilator = background_checked(assimilator, reject)

            def one(key: Array, observed: Observations, truth: Array | None, carry: Carry) -> tuple[Carry, History]:
                return run_cycles(assimilator, key, observed, truth, carry, self.keep, testbed, self.recipe.joint)

            return self.over_truths(one, keys, observed, truth, carry)

        each = shared(advance, self.mesh, (WHOLE, WHOLE, *[CASES] * 4, WHOLE), CASES)

        def whole(*inputs: Any) -> tuple[Carry, History]:
            carry, history = each(*inputs)
            return self.laid(carry), history

        return whole

    def shapes(self, name: tuple[Any, ...], function: Any, *arguments: Any) -> Any:
        """The shapes of what a function returns, traced at its first call by that name for such arguments."""
        key = ("shapes", *name, *signature(arguments))
        if key not in self.compiled:
            self.compiled[key] = jax.eval_shape(function, *arguments)
        return self.compiled[key]

    def call(self, name: tuple[Any, ...], function: Any, *arguments: Any, donate: int | tuple[int, ...] = ()) -> Any:
        """A function of arguments, compiled at its first call by that name for arguments of these shapes."""
        key = (*name, *signature(arguments))
        if key not in self.compiled:
            made = costs.compiled(function, *arguments, donate=donate)
            self.compiled[key] = made.program
            self.seconds += made.lower + made.compile
        return self.compiled[key](*arguments)


def signature(arguments: Any) -> tuple[Any, ...]:
    """What a program is compiled for: the structure, shapes and types of its arguments."""
    leaves, structure = jax.tree.flatten(arguments)
    return structure, tuple(jax.typeof(leaf) for leaf in leaves)


@functools.lru_cache(PROGRAMS)
def program(recipe: Recipe, sensors: tuple[Sensors, ...], keep: Keep, first: int, mesh: Mesh | None) -> Program:
    """The program of a recipe for sensors that measure the same and have the same roles, the same first time, and the
    same devices."""
    return Program(recipe, sensors, keep, first, mesh)


def program_of(recipe: Recipe, setup: Setup, keep: Keep = "scores", mesh: Mesh | None = None) -> Program:
    """The program of a recipe in a setup."""
    return program(recipe, compiled_sensors(setup.sensors), keep, setup.first, mesh)


def compiled_sensors(sensors: Sequence[Sensors]) -> tuple[Sensors, ...]:
    """What of the sensors is compiled: what they measure and are for; where and how noisy is part of observations."""
    return tuple(Sensors("own", each.measure, role=each.role) for each in sensors)


def run_scan(
    recipe: Recipe,
    inputs: Inputs,
    keep: Keep,
    report: Progress | None = None,
    carry: Carry | None = None,
    mesh: Mesh | None = None,
) -> tuple[Carry, History, dict[str, float]]:
    """Run all cycles in one scan, or, to report progress, the same scan in a few segments of equal length.

    All truths go side by side, one key each; carry: where they go on from, by default their start; mesh: of devices,
    with the axes `case` and `member`, by default one device.  Returns the last carry, the history (truths leading, on
    the host) and the seconds that compiling and running took.  Raises
    `DivergedError` for an ensemble that did not stay finite, ValueError for a carry of another method or other sizes.
    """
    setup, keys, observed, truth = inputs
    cycles, every = observed.values.shape[1], setup.testbed.frames_per_cycle
    length = cycles if report is None else segment_length(cycles)
    compiled = program_of(recipe, setup, keep, mesh)
    # On a mesh from the host: no device needs all of them.
    frames = truth if truth is None or mesh is not None else jnp.asarray(truth)
    reject = None if recipe.reject is None else jnp.asarray(recipe.reject, observed.values.dtype)

    def part(i: int) -> tuple[Observations, Array | np.ndarray | None]:
        if length == cycles:
            return observed, frames
        own = None if frames is None else frames[:, i * every : (i + length) * every]
        return jax.tree.map(lambda a: a[:, i : i + length], observed), own

    began, before = time.perf_counter(), compiled.seconds
    if report is not None:
        report("compile", 0, 1)
    dtype, parts = observed.values.dtype, []
    if carry is None:
        here = compiled.begin(setup, keys, truth is not None, dtype)
    else:
        check_carry(carry, compiled.begin(setup, keys, carry.tally is not None, dtype, compute=False))
        here = placed(copied(carry), mesh, "case", fields="member")  # the scan takes what it is given
    done = setup.first if carry is None else next_time(carry)
    for i in range(0, cycles, length):
        here, history = compiled.advance(setup, keys, *part(i), here, reject)
        parts.append(gathered(history))
        check_healthy(parts[-1], interval(setup.testbed), done + i)
        if report is not None:
            report("cycle", i + length, cycles)
    joined = jax.tree.map(lambda *a: np.concatenate(a, axis=1), *parts) if len(parts) > 1 else parts[0]
    compiling = compiled.seconds - before
    if mesh is not None:  # whoever goes on may have other devices
        here = jax.tree.map(jnp.asarray, gathered(here))
    return here, joined, {"compile": compiling, "run": time.perf_counter() - began - compiling}


def segment_length(cycles: int) -> int:
    """The largest divisor of `cycles` that makes about `SEGMENTS` segments or more, so that one program serves all."""
    return max(d for d in range(1, max(cycles // SEGMENTS, 1) + 1) if cycles % d == 0)
