"""A run of many truths, some of them at a time: finished ones are kept, and the same run goes on from them."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.core.checkpoints import Checkpoints
from jaxsrda.core.checks import check_positive
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
) -> tuple[Carry, History, dict[str, float]]:
    """`run_scan` over all truths, some of them a call (`truths_a_call`), each call by the same program.

    folder: where truths are kept within `SAVE_EVERY` seconds of their end; called again after a kill or an interrupt it
    goes on from them and gives the same numbers to the last bit.  It stays in the end, for whoever called to remove
    once the result is saved.  Raises ValueError for a folder of another run or in use by another process, and as
    `run_scan` does.
    """
    check_positive("at_once", 1 if at_once is None else at_once)
    truths = len(inputs.keys)
    size = truths_a_call(truths, at_once, folder is not None)
    if folder is None:
        if size == truths:
            return run_scan(recipe, inputs, given.keep, report, given.carry)
        return _run(recipe, inputs, given, size, _told(report, truths, size), lambda: False)
    with _opened(Path(folder), identity(given, inputs, size)) as (store, stopped):
        return _run(recipe, inputs, given, size, _told(report, truths, size, stopped), stopped, store)


@contextlib.contextmanager
def _opened(folder: Path, mark: dict[str, str]) -> Iterator[tuple[Checkpoints, Stopped]]:
    """The checkpoints of a folder, held against other processes, and whether the user wants to stop."""
    with locked(folder.with_name(folder.name + ".lock"), wait=False) as mine:
        if not mine:
            raise ValueError(f"{folder}: another process is at work on this run; wait for it, or choose another output")
        store = Checkpoints(folder, mark, keep=None)
        try:
            with interruptible(goes_on(folder)) as stopped:
                yield store, stopped
        except DivergedError:  # as it will again: what is kept would only be in the way of other settings
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            store.close()


def _run(
    recipe: Recipe,
    inputs: Inputs,
    given: Experiment,
    size: int,
    report: Callable[[int], Progress | None],
    stopped: Stopped,
    store: Checkpoints | None = None,
) -> tuple[Carry, History, dict[str, float]]:
    truths, structure = len(inputs.keys), None
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
            count = min(size, truths - done)
            # A call that has too few is filled up with the last truth.
            ran = _call(recipe, inputs, given, np.minimum(np.arange(done, done + size), truths - 1), report(done))
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
        structure = jax.tree.structure(_shapes(recipe, inputs, given, size))
    return *from_numbered(structure, _joined([*found, *fresh])), seconds


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


def _rows(inputs: Inputs, given: Experiment, rows: np.ndarray) -> tuple[Inputs, Carry | None]:
    """The inputs of some truths, and the carries that they go on from."""
    keys, observed, truth, carry = jax.tree.map(
        lambda a: a[rows], (inputs.keys, inputs.observed, inputs.truth, given.carry)
    )
    return Inputs(inputs.setup, keys, observed, truth), carry


def _call(
    recipe: Recipe, inputs: Inputs, given: Experiment, rows: np.ndarray, report: Progress | None
) -> tuple[Carry, History, dict[str, float]]:
    """`run_scan` of some truths."""
    some, carry = _rows(inputs, given, rows)
    try:
        return run_scan(recipe, some, given.keep, report, carry)
    except DivergedError as error:
        raise DivergedError(int(rows[error.truth]), error.told) from None


def _shapes(recipe: Recipe, inputs: Inputs, given: Experiment, size: int) -> tuple[Carry, History]:
    """The carry and the history of a call, by their shapes alone."""
    (setup, keys, observed, truth), carry = _rows(inputs, given, np.zeros(size, int))
    program, dtype = program_of(recipe, setup, given.keep), observed.values.dtype
    if carry is None:
        carry = program.begin(setup, keys, truth is not None, dtype, compute=False)
    reject = None if recipe.reject is None else jnp.asarray(recipe.reject, dtype)
    frames = None if truth is None else jnp.asarray(truth)
    return program.advance(setup, keys, observed, frames, carry, reject, compute=False)


def _joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Leaves of some truths and of those after them as one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
