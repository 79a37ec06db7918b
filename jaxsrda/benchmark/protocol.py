"""Protocols: what a method is scored on, as frozen values.

A protocol fixes the flow, the seeds of its truths, the sensors of each task, and the seed of their places and noise.
`fingerprint` changes if any of these do; a row of scores names the one that it was made under.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.core.checks import check_choice
from jaxsrda.core.records import described
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.testbed import Testbed, jet, jet_small
from jaxsrda.observing.layouts import Layout, parse_layout, paused
from jaxsrda.observing.observations import Observations, observation_key
from jaxsrda.observing.sensors import Sensors, observe_truths


@dataclasses.dataclass(frozen=True)
class Task:
    """One set of sensors.

    name: also that of its files; layout, operator, noise_std: as for `Sensors`; pause: the first and the last
    assimilation time, counted from zero, at which nothing is observed, None for no pause.
    """

    name: str
    layout: str = "lattice:8"
    operator: str = "vorticity"
    noise_std: float = 0.1
    pause: tuple[int, int] | None = None

    def sensors(self, grid: ChannelGrid) -> tuple[Sensors, ...]:
        """The sensors on a grid."""
        layout: str | Layout = self.layout
        if self.pause is not None:
            layout = paused(parse_layout(self.layout, grid), *self.pause)
        return (Sensors(layout, self.operator, self.noise_std),)


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What a comparison holds fixed.

    testbed: the flow, whose `truth` level makes the truths and whose `frames` are their length; truth_seeds: of the
    truths; seed: of places, noise and members; tasks: the sets of sensors; training_from: the first seed of truths that
    may be used to choose, tune or train anything.
    """

    name: str
    testbed: Testbed
    tasks: tuple[Task, ...]
    truth_seeds: tuple[int, ...]
    seed: int = 0
    training_from: int = 1000

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the tasks in their order."""
        return tuple(task.name for task in self.tasks)

    def task(self, name: str) -> Task:
        """The task called `name`; ValueError for a name that no task has."""
        check_choice("task", name, self.task_names)
        return next(task for task in self.tasks if task.name == name)

    @property
    def cycles(self) -> int:
        """Assimilation times of a truth."""
        return self.testbed.frames // self.testbed.frames_per_cycle

    @property
    def fingerprint(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of all definitions: flow, seeds and tasks."""
        return hashlib.sha256(json.dumps(described(self), sort_keys=True).encode()).hexdigest()[:12]


JET = Protocol(
    "jet-v1",
    jet(),
    (
        Task("lattice-4", "lattice:4"),
        Task("lattice-6", "lattice:6"),
        Task("lattice-8", "lattice:8"),
        Task("lattice-12", "lattice:12"),
        Task("tracks", "track:4"),
        Task("dropout", "lattice:8+dropout:0.5"),
        Task("sparse", "random-moving:32"),
        Task("speed", "lattice:8", "speed"),
        Task("silence", "lattice:8", pause=(8, 15)),
    ),
    tuple(range(10)),
)

JET_SMALL = Protocol(
    "jet-small-v1",
    jet_small(),
    (
        Task("lattice-4", "lattice:4"),
        Task("sparse", "random-moving:32"),
        Task("speed", "lattice:4", "speed"),
    ),
    (0, 1, 2),
)

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in (JET, JET_SMALL)}
"""Protocols by name.  One that is in use is never changed; another rule is another name."""


def protocol_called(name: str) -> Protocol:
    """The protocol called `name`; ValueError for a name of none."""
    return PROTOCOLS[check_choice("protocol", name, PROTOCOLS)]


def observe_task(protocol: Protocol, task: Task, truths: Any, seeds: tuple[int, ...]) -> Observations:
    """What the sensors of a task measure, (truths, cycles, p), of truths (truths, frames, nx, ny) of these seeds."""
    grid = protocol.testbed.grid
    keys = jax.vmap(lambda number: observation_key(protocol.seed, number))(jnp.asarray(seeds, jnp.uint32))
    return observe_truths(keys, grid, jnp.asarray(truths), task.sensors(grid), protocol.testbed.frames_per_cycle)


def draws_of(protocol: Protocol, task: Task) -> Observations:
    """Places and noise of a task for all truths: what its sensors would report of ω = 0 if they measured ω."""
    zeros = np.zeros((len(protocol.truth_seeds), protocol.testbed.frames, *protocol.testbed.grid.shape), np.float32)
    return observe_task(protocol, dataclasses.replace(task, operator="vorticity"), zeros, protocol.truth_seeds)


def truth_digest(frames: np.ndarray) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of a truth's numbers in single precision: equal for equal bits."""
    return hashlib.sha256(np.ascontiguousarray(frames, "<f4").tobytes()).hexdigest()[:12]
