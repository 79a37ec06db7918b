"""Settings of an experiment in compiled calls of equal size."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxsrda.core.devices import Devices, gathered
from jaxsrda.cycling.cycle import Carry, History
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.experiment.batch import (
    batch_program,
    run_batch,
    scores_of,
    settings_at_once,
    settings_mesh,
    settings_parts,
)
from jaxsrda.experiment.experiment import Experiment
from jaxsrda.experiment.options import TRACED, split
from jaxsrda.experiment.registry import configured_model
from jaxsrda.experiment.scan import Inputs, Recipe
from jaxsrda.experiment.space import Setting
from jaxsrda.experiment.trials import Trial


@dataclasses.dataclass
class Runner:
    """Runs settings of an experiment, at most `at_once` a call (by default as many as fit the memory), on devices as
    `run_sweep` takes them, and counts the seconds that the calls take to compile and to run."""

    given: Experiment
    inputs: Inputs
    at_once: int | None = None
    devices: Devices = "all"
    seconds: dict[str, float] = dataclasses.field(default_factory=lambda: {"compile": 0.0, "run": 0.0})

    def recipe(self, config: Any) -> Recipe:
        """What all configurations that differ in traced numbers share."""
        given = self.given
        return Recipe(str(given.method), split(config)[0], model_for(given, config), given.joint, given.reject)

    def size(self, count: int, config: Any) -> int:
        """Settings a call, of `count` that share a program: calls are as equal as they can be and
        fill all devices, and have more than `at_once` only where a mesh of one's own has as many parts."""
        parts = settings_parts(self.devices)
        most = self.at_once or settings_at_once(config, self.inputs, parts)
        most = most // parts * parts or most
        size = -(-count // -(-count // most))
        fewer = size < parts and not isinstance(self.devices, Mesh)  # these go into as many parts as divide them
        return size if fewer else -(-size // parts) * parts

    def parts(self, settings: Sequence[Setting], configs: Sequence[Any]) -> list[tuple[list[Setting], int]]:
        """The settings of each call, which share a program, and its size, which they may not fill."""
        parts = []
        for config, numbers in grouped(configs).items():
            size = self.size(len(numbers), config)
            parts += [([settings[n] for n in numbers[i : i + size]], size) for i in range(0, len(numbers), size)]
        return parts

    def call(
        self, configs: Sequence[Any], size: int, inputs: Inputs, carry: Carry | None = None
    ) -> tuple[Carry, History]:
        """Carry on the device and history on the host, (size, truths, …), of settings that share a program."""
        rows = [split(config)[1] for config in configs]
        rows += [rows[-1]] * (size - len(rows))
        dtype = inputs.setup.dtype
        numbers = {name: jnp.asarray([row[name] for row in rows], dtype) for name in rows[0]}
        recipe = self.recipe(configs[0])
        mesh = settings_mesh(self.devices, size, len(inputs.keys))
        compiled, began = batch_program(recipe, inputs, mesh), time.perf_counter()
        before = compiled.seconds
        carry, history = run_batch(recipe, inputs, numbers, jnp.arange(size) < len(configs), carry, mesh)
        history = gathered(history)
        compiling = compiled.seconds - before
        self.seconds["compile"] += compiling
        self.seconds["run"] += time.perf_counter() - began - compiling
        return carry, history

    def run(self, settings: Sequence[Setting], configs: Sequence[Any], size: int) -> list[Trial]:
        """The trials of settings that share a program, in one call."""
        return self.trials(settings, *self.call(configs, size, self.inputs))

    def trials(self, settings: Sequence[Setting], carry: Carry, history: History) -> list[Trial]:
        """The trials of the first rows of a call."""
        scores, finite = scores_of(carry, history, self.inputs.setup.grid)
        return [
            Trial(setting, {name: values[i] for name, values in scores.items()}, bool(finite[i].all()))
            for i, setting in enumerate(settings)
        ]

    def check_effects(self, settings: Sequence[Setting], configs: Sequence[Any]) -> None:
        """ValueError for a traced option of the settings that no step of the method reads."""
        told: dict[str, list[bool]] = {}
        for config, numbers in grouped(configs).items():
            swept = {name for n in numbers for name in settings[n] if name in TRACED}
            unread = self._unread(config) if swept else set()
            for name in swept:
                told.setdefault(name, []).append(name in unread)
        for name in sorted(name for name, unread in told.items() if all(unread)):
            raise ValueError(f"{name}: of no effect on {self.given.method} with these options; leave it out")

    def _unread(self, config: Any) -> set[str]:
        """The traced options that neither the start nor a step of a configuration reads."""
        recipe, setup = self.recipe(config), self.inputs.setup
        numbers = {name: jnp.asarray(value, setup.dtype) for name, value in split(config)[1].items()}
        first = jax.tree.map(lambda a: a[0, 0], self.inputs.observed)

        def one_step(numbers: Any) -> Any:
            assimilator = recipe(setup, numbers)
            return assimilator.step(jax.random.key(0), assimilator.init(jax.random.key(0)), first)

        jaxpr = jax.make_jaxpr(one_step)(numbers).jaxpr
        read = {id(value) for equation in jaxpr.eqns for value in equation.invars}
        return {name for name, value in zip(sorted(numbers), jaxpr.invars) if id(value) not in read}


def model_for(given: Experiment, config: Any) -> Any:
    """The model of a configuration: the experiment's, or the one that the configuration names."""
    named = given.model is None and isinstance(config, DiffSRDAConfig)
    return configured_model(config) if named else given.model


def grouped(configs: Sequence[Any]) -> dict[Any, list[int]]:
    """What is compiled, and the numbers of the configurations that share it."""
    groups: dict[Any, list[int]] = {}
    for number, config in enumerate(configs):
        groups.setdefault(split(config)[0], []).append(number)
    return groups
