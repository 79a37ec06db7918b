"""Score an entrant on the tasks of a protocol, truth by truth; a killed run goes on from the row's file."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.benchmark.cost import measure
from jaxsrda.benchmark.entrant import Entrant, entrant
from jaxsrda.benchmark.protocol import Protocol, Task, observe_task, protocol_called, truth_digest
from jaxsrda.benchmark.row import Row
from jaxsrda.core.cache import content_hash, scratch_dir
from jaxsrda.core.checks import check_choice, check_positive
from jaxsrda.core.progress import Progress
from jaxsrda.core.provenance import source_hash, this_run
from jaxsrda.core.records import key_of
from jaxsrda.cycling.assimilator import Setup
from jaxsrda.experiment.experiment import Experiment
from jaxsrda.experiment.run import run
from jaxsrda.experiment.truth import default_climatology, simulate_truth
from jaxsrda.observing.observations import Observations

REFERENCES = ("enkf-lagrange", "enkf-hr", "none")
"""Methods that a row may be compared with on the same truths and machine."""


@dataclasses.dataclass(frozen=True)
class Selection:
    """What of a protocol is run.

    tasks: names, all by default; truths: how many, the first ones, all by default; reference: of REFERENCES; at_once:
    truths side by side; reuse_any_code: whether scores in the file that other code made are kept.  Raises ValueError
    for names of nothing and more truths than there are.
    """

    protocol: Protocol
    tasks: tuple[str, ...] = ()
    truths: int | None = None
    reference: str = REFERENCES[0]
    at_once: int = 1
    reuse_any_code: bool = False

    def __post_init__(self):
        names = self.protocol.task_names
        for name in self.tasks:
            check_choice("task", name, names)
        object.__setattr__(self, "tasks", tuple(name for name in names if name in self.tasks or not self.tasks))
        most = len(self.protocol.truth_seeds)
        object.__setattr__(self, "truths", most if self.truths is None else self.truths)
        if not 1 <= self.truths <= most:  # type: ignore[operator]
            raise ValueError(f"truths: {self.protocol.name} has {most}, expected 1 to {most}, got {self.truths}")
        check_choice("reference", self.reference, REFERENCES)
        check_positive("at_once", self.at_once)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the truths that are run."""
        return self.protocol.truth_seeds[: self.truths]


def run_benchmark(
    method: Any,
    protocol: str | Protocol = "jet-v1",
    path: str | Path | None = None,
    progress: Progress = lambda *_: None,
    about: Mapping[str, str] | None = None,
    **options: Any,
) -> Row:
    """Score a method on a protocol: the row, which is also written to `path` (.json) after each truth.

    method: a name, "package.module:attribute", or a value (see `entrant`); about: text for the row, such as its command
    or a note; options: fields of `Selection`.  Raises ValueError or TypeError, in one line that names the method and
    the task, for a method that raises, keeps another contract, cannot take a task's sensors (all before any is scored)
    or stops being finite, and for a file of another row.
    """
    given = method if isinstance(method, Entrant) else entrant(method)
    found = protocol if isinstance(protocol, Protocol) else protocol_called(protocol)
    plan = Selection(found, **options)
    this_run()  # the code as it is when the work begins
    row = Row.opened(path, given.name, found, method_of(given), about)
    setup = Setup(found.testbed, default_climatology(found.testbed))
    scorers = {name: Scorer(plan, found.task(name), setup) for name in plan.tasks}
    for scorer in scorers.values():
        scorer.prepare(given)
    truths = simulate_truth(found.testbed, plan.seeds, progress=progress)
    row.check_truths(dict(zip(plan.seeds, map(truth_digest, truths))))
    other = reference_for(given, plan)
    for name, scorer in scorers.items():
        scorer.truths = truths
        scorer.add(given, row, progress)
        if other is not None:
            compare(row, other, scorer, progress)
        if row.cost_is_due(other and other.identity, plan.reuse_any_code):
            row.put_cost(name, measure(given, other, scorer.setup, scorer.observed(), found.seed))
    row.save()  # text about it may be new where nothing was left to do
    return row


def reference_for(given: Entrant, plan: Selection) -> Entrant | None:
    """The reference of a selection; None without one, and for the reference itself, of which a variant is none."""
    other = None if plan.reference == "none" else entrant(plan.reference)
    return None if other is None or other.identity == given.identity else other


def compare(row: Row, other: Entrant, scorer: Scorer, progress: Progress = lambda *_: None) -> None:
    """Put the reference's scores on a task beside the row's: those of its own row, or of the cache, or made now."""
    name, plan = scorer.task.name, scorer.plan
    if row.compared(name, other.identity, plan.reuse_any_code):
        return
    beside = reference_row(row, other, plan, name)
    scorer.add(other, beside, progress)
    row.compare(name, beside)


def reference_row(row: Row, other: Entrant, plan: Selection, task: str) -> Row:
    """The reference's row on the same truths: the one beside the row if it has the task, else one in the cache."""
    method = method_of(other)
    beside = None if row.path is None else row.path.with_name(f"{other.name}.json")
    if beside is not None and beside.exists():
        with contextlib.suppress(ValueError), warnings.catch_warnings(action="ignore"):
            found = Row.opened(beside, other.name, plan.protocol, method)
            found.check_truths(row.data["truths"])
            if not found.missing(task, plan.seeds, plan.reuse_any_code):
                return found
    key = content_hash(key_of(plan.protocol.fingerprint, other.identity, row.data["truths"], source_hash()))
    path = scratch_dir() / f"benchmark-{plan.protocol.name}-{other.name}-{key}.json"
    kept = Row.opened(path, other.name, plan.protocol, method)
    kept.check_truths(row.data["truths"])
    return kept


def method_of(given: Entrant) -> dict[str, Any]:
    """What a row says of its method."""
    return {"spec": given.spec, "settings": given.settings, "hash": given.identity, "options": dict(given.options)}


class Scorer:
    """Runs entrants on one task, over `truths` (truths, frames, nx, ny) of the plan."""

    def __init__(self, plan: Selection, task: Task, setup: Setup, truths: np.ndarray | None = None):
        self.plan, self.task, self.truths = plan, task, truths
        self.setup = setup._replace(sensors=task.sensors(plan.protocol.testbed.grid))
        self.methods: dict[str, dict[str, Any]] = {}

    def prepare(self, given: Entrant) -> dict[str, Any]:
        """The arguments of an `Experiment` that say what is run, once they were tried on the task's sensors."""
        slots, dtype = self.setup.sensors[0].placed(self.setup.grid).capacity, self.setup.dtype
        ones = jnp.ones(slots, dtype)
        blank = Observations(ones, jnp.ones((slots, 2), dtype), jnp.zeros(slots, bool), ones)
        if given.identity not in self.methods:
            with self.named(given):
                self.methods[given.identity] = given.method(self.setup, blank)
        return self.methods[given.identity]

    @contextlib.contextmanager
    def named(self, given: Entrant, group: Sequence[int] = ()) -> Iterator[None]:
        """Errors in the block say the task, the truths and the method."""
        try:
            yield
        except (ValueError, TypeError) as error:
            where = f"task {self.task.name}" + (f", truth {', '.join(map(str, group))}" if group else "")
            said = str(error) if given.spec in str(error) else f"{given.spec}: {error}"
            kind = TypeError if isinstance(error, TypeError) else ValueError  # kinds of others take other arguments
            raise kind(f"{where}: {said}") from error

    def observed(self) -> Observations:
        """What the sensors measure of the first truth, (cycles, p)."""
        assert self.truths is not None
        seen = observe_task(self.plan.protocol, self.task, self.truths[:1], self.plan.seeds[:1])
        return jax.tree.map(lambda a: a[0], seen)

    def add(self, given: Entrant, row: Row, progress: Progress) -> None:
        """Add the scores of the truths that a row lacks, a few at a time."""
        assert self.truths is not None
        protocol, total = self.plan.protocol, len(self.plan.seeds)
        seeds = row.missing(self.task.name, self.plan.seeds, self.plan.reuse_any_code)
        if not seeds:
            return
        method, what = self.prepare(given), f"{self.task.name}, {given.name}"
        progress(what, total - len(seeds), total)
        for group in chunks(seeds, self.plan.at_once):
            with self.named(given, group):
                experiment = Experiment(
                    **method,
                    truth=self.truths[[self.plan.seeds.index(seed) for seed in group]],
                    sensors=self.setup.sensors,
                    testbed=protocol.testbed,
                    climatology=self.setup.climatology,
                    seed=protocol.seed,
                    truth_seeds=group,
                    keep="scores",
                    joint=True,
                )
                result = run(experiment)
            members = np.asarray(result.statistics[0]["rank_histogram"]).size - 1
            row.add(self.task.name, group, result.per_truth, result.seconds, members, self.plan.reuse_any_code)
            progress(what, total - len(seeds) + seeds.index(group[-1]) + 1, total)


def chunks(items: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Items in groups of at most `size`."""
    return [tuple(items[i : i + size]) for i in range(0, len(items), size)]
