"""A run of many truths, some of them at a time: finished ones are kept, and the same run goes on from them."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxsrda.core.checkpoints import Checkpoints
from jaxsrda.core.checks import check_positive
from jaxsrda.core.devices import Devices, mesh_of
from jaxsrda.core.interrupts import goes_on, interruptible
from jaxsrda.core.locks import locked
from jaxsrda.core.progress import Progress
from jaxsrda.core.trees import from_numbered, numbered
from jaxsrda.cycling.cycle import Carry, History
from jaxsrda.experiment.experiment import Experiment
from jaxsrda.experiment.identity import identity
from jaxsrda.experiment.result import DivergedError
from jaxsrda.experiment.scan import Inputs, Recipe, program_of, run_scan

SAVE_EVERY = 20.0
"""Seconds of work that a kill can cost, beside the truths that are under way."""

Stopped = Callable[[], bool]
"""Whether the user wants to stop."""


def truths_a_call(truths: int, at_once: int | None = None, kept: bool = False) -> int:
    """How many truths go side by side: at most `at_once`, in calls as equal as they can be.

    By default all, but one where finished ones are kept and truths side by side are no faster, on a CPU.
    """
    if at_once is None:
        at_once = 1 if kept and jax.devices()[0].platform == "cpu" else truths
    return -(-truths // -(-truths // min(at_once, truths)))


def run_parts(
    recipe: Recipe,
    inputs: Inputs,
    given: Experiment,
    report: Progress | None = None,
    folder: str | Path | None = None,
    at_once: int | None = None,
    devices: Devices = None,
) -> tuple[Carry, History, dict[str, float]]:
    """`run_scan` over all truths, some of them a call (`truths_a_call`), each call by the same program.

    folder: where truths are kept within `SAVE_EVERY` seconds of their end; called again after a kill or an interrupt it
    goes on from them and gives the same numbers to the last bit.  It stays in the end, for whoever called to remove
    once the result is saved.  Raises ValueError for a folder of another run or in use by another process, and as
    `run_scan` does.
    """
    check_positive("at_once", 1 if at_once is None else at_once)
    truths = len(inputs.keys)
    size = truths_a_call(truths, at_once, folder is not None and devices is None)
    mesh = None if devices is None else mesh_of(devices, case=size, member=recipe(inputs.setup).members)
    if folder is None or jax.process_count() > 1:
        if size == truths:
            return run_scan(recipe, inputs, given.keep, report, given.carry, mesh)
        return _Calls(recipe, inputs, given, size, mesh).run(_told(report, truths, size), lambda: False)
    with _opened(Path(folder), identity(given, inputs, size)) as (store, stopped):
        return _Calls(recipe, inputs, given, size, mesh).run(_told(report, truths, size, stopped), stopped, store)


@contextlib.contextmanager
def _opened(folder: Path, mark: dict[str, str]) -> Iterator[tuple[Checkpoints, Stopped]]:
    """The checkpoints of a folder, held against other processes, and whether the user wants to stop."""
    with locked(folder.with_name(folder.name + ".lock"), wait=False) as mine:
        if not mine:
            raise ValueError(f"{folder}: another process is at work on this run; wait for it, or choose another output")
        store = Checkpoints(folder, mark, keep=None)
        try:
            nothing = "no truth was finished, nothing is kept"
            with interruptible(lambda: goes_on(folder) if store.steps() else nothing) as stopped:
                yield store, stopped
        except DivergedError:  # as it will again: what is kept would only be in the way of other settings
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            store.close()


class _Calls(NamedTuple):
    """A run in calls of as many truths; one that has too few is filled up with the last truth."""

    recipe: Recipe
    inputs: Inputs
    given: Experiment
    size: int
    mesh: Mesh | None

    def run(
        self, report: Callable[[int], Progress | None], stopped: Stopped, store: Checkpoints | None = None
    ) -> tuple[Carry, History, dict[str, float]]:
        """All calls but those of truths that are kept."""
        truths, structure = len(self.inputs.keys), None
        seconds, saved = {"compile": 0.0, "run": 0.0}, time.perf_counter()
        parts = [] if store is None else store.parts()
        done = kept = parts[-1].step if parts else 0
        found, fresh = [part.arrays for part in parts], []

        def keep() -> None:
            nonlocal kept, fresh, saved
            if store is not None and fresh:
                found.append(_joined(fresh))
                store.save_part(kept, done, found[-1], {})
                kept, fresh, saved = done, [], time.perf_counter()

        try:
            while done < truths:
                count = min(self.size, truths - done)
                ran = self.call(np.minimum(np.arange(done, done + self.size), truths - 1), report(done))
                structure = jax.tree.structure(ran[:2])
                fresh.append({name: np.asarray(leaf)[:count] for name, leaf in numbered(ran[:2]).items()})
                seconds = {name: seconds[name] + ran[2][name] for name in seconds}
                done += count
                if time.perf_counter() - saved > SAVE_EVERY:
                    keep()
                if stopped():
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            keep()
            raise
        if structure is None:
            structure = jax.tree.structure(self.shapes())
        return *from_numbered(structure, _joined([*found, *fresh])), seconds

    def rows(self, rows: np.ndarray) -> tuple[Inputs, Carry | None]:
        """The inputs of some truths, and the carries that they go on from."""
        by_truth = self.inputs.keys, self.inputs.observed, self.inputs.truth, self.given.carry
        keys, observed, truth, carry = jax.tree.map(lambda a: a[rows], by_truth)
        return Inputs(self.inputs.setup, keys, observed, truth), carry

    def call(self, rows: np.ndarray, report: Progress | None) -> tuple[Carry, History, dict[str, float]]:
        """`run_scan` of some truths."""
        some, carry = self.rows(rows)
        try:
            return run_scan(self.recipe, some, self.given.keep, report, carry, self.mesh)
        except DivergedError as error:
            raise DivergedError(int(rows[error.truth]), error.told) from None

    def shapes(self) -> tuple[Carry, History]:
        """The carry and the history of a call, by their shapes alone."""
        (setup, keys, observed, truth), carry = self.rows(np.zeros(self.size, int))
        program, dtype = program_of(self.recipe, setup, self.given.keep), observed.values.dtype
        if carry is None:
            carry = program.begin(setup, keys, truth is not None, dtype, compute=False)
        reject = None if self.recipe.reject is None else jnp.asarray(self.recipe.reject, dtype)
        return program.advance(setup, keys, observed, truth, carry, reject, compute=False)


def _told(report: Progress | None, truths: int, size: int, stopped: Stopped = lambda: False) -> Any:
    """What a call's progress is told: cycles of all calls, by the number of its first truth."""

    def of_call(first: int) -> Progress:
        def told(what: str, done: int, total: int) -> None:
            if stopped():
                raise KeyboardInterrupt
            if report is not None:
                calls = -(-truths // size) if what == "cycle" else 1
                report(what, done + (first // size * total if what == "cycle" else 0), calls * total)

        return told

    return of_call if report is not None else lambda first: None


def _joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Leaves of some truths and of those after them as one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
