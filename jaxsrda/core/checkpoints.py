"""Checkpoints of long work, by Orbax: what simulations and trainings go on from after a kill."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxsrda.core.files import on_disk
from jaxsrda.core.trees import digest, flatten


class Checkpoint(NamedTuple):
    """One checkpoint: how many steps were done, named arrays, and notes that JSON can hold."""

    step: int
    arrays: dict[str, Any]
    notes: dict[str, Any]


class DamagedCheckpointError(ValueError):
    """A checkpoint that cannot be read, or whose content is not what was written."""


Mark = str | Mapping[str, str]
"""What a piece of work is: text, or texts by name, so that an error can say what differs."""


def difference(mine: Mark, its: Mark) -> str:
    """How another piece of work differs from this one, empty if it does not."""
    if isinstance(mine, str) or isinstance(its, str):
        return "" if mine == its else "sizes, data, seed or options differ"
    for name in {**mine, **its}:
        if mine.get(name) != its.get(name):
            return f"its {name} is {its.get(name, 'not there')}, this one's is {mine.get(name, 'not there')}"
    return ""


def _alone() -> dict[str, Any]:
    """Options by which Orbax does not wait for other processes: one of them writes, each reads by itself."""
    import jax
    import orbax.checkpoint as ocp

    if jax.process_count() == 1:
        return {}
    me = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process-{me}"
    )
    return {"multiprocessing_options": options, "create": False}


class Checkpoints:
    """A folder of checkpoints of one piece of work, of arrays that are on the host or on this process's devices.

    mark: what the work is; a folder of another piece of work is refused.  keep: how many of the latest stay, None for
    all.  Each has the SHA-256 of its content, which is compared when it is read.  Orbax is loaded on first use, so that
    work which is done before it is worth keeping never pays for it.
    """

    def __init__(self, folder: Path, mark: Mark, keep: int | None = 1):
        self.folder, self.mark, self.keep = Path(folder), mark, keep
        self._open: Any = None
        self._saved = False

    def _manager(self) -> Any:
        import orbax.checkpoint as ocp

        if self._open is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(max_to_keep=self.keep, **_alone())
            self._open = ocp.CheckpointManager(self.folder.absolute(), options=options)
        return self._open

    def save(self, step: int, arrays: Mapping[str, Any], notes: Mapping[str, Any] | None = None) -> None:
        """Write a checkpoint and wait until it is on the disk; OSError or ValueError of one that does not fit there."""
        import orbax.checkpoint as ocp

        told = {"mark": self.mark if isinstance(self.mark, str) else dict(self.mark), **(notes or {})}
        told["arrays"] = _array_digest(arrays)
        kept = ocp.args.JsonSave({"said": told, "sha256": _text_digest(told)})
        items = ocp.args.Composite(state=ocp.args.StandardSave(dict(arrays)), notes=kept)
        manager = self._manager()
        if not self._saved:
            self._remove_unfinished()  # what a process left that was killed
        self._saved = True
        try:
            manager.save(step, args=items)
            manager.wait_until_finished()
            on_disk(self.folder / str(step))
            on_disk(self.folder, inside=False)
        except BaseException:
            self._remove_unfinished()  # what does not fit would only take the space that is left
            raise

    def save_part(self, since: int, step: int, arrays: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
        """Write what was made between two steps, one of the parts that `parts` gives back."""
        self.save(step, arrays, {**notes, "since": since})

    def parts(self) -> list[Checkpoint]:
        """The parts that follow on one another from step 0; those from a gap or a damaged one on are removed.

        Raises ValueError for parts of other work.
        """
        found: list[Checkpoint] = []
        for step in self.steps():
            try:
                part = self.restore(step)
            except DamagedCheckpointError:
                part = None
            if part is None or part.notes.get("since") != (found[-1].step if found else 0):
                fault = f"{self.folder}: the part up to {step} is damaged or has a gap; run anew"
                warnings.warn(fault, stacklevel=3)
                self.drop(step)
                break
            found.append(part)
        return found

    def _remove_unfinished(self) -> None:
        for path in self.folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)

    def steps(self) -> list[int]:
        """The steps that there are checkpoints of, in order."""
        return sorted(self._manager().all_steps()) if self.folder.exists() else []

    def restore(self, step: int, template: Mapping[str, Any] | None = None) -> Checkpoint:
        """The checkpoint of a step; template: arrays of the shapes and places wanted, by default numpy arrays.

        Raises ValueError for a checkpoint of other work, `DamagedCheckpointError` for one that cannot be read.
        """
        import orbax.checkpoint as ocp

        notes = self._own(step)
        wanted = None if template is None else dict(template)
        try:
            arrays = self._manager().restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(wanted)))
            if _array_digest(arrays.state) != notes.pop("arrays"):
                raise ValueError("its numbers do not match their SHA-256")
        except Exception as error:  # Orbax raises many kinds
            raise self._damaged(step, error) from None
        found = arrays.state if template is not None else {k: np.asarray(a) for k, a in arrays.state.items()}
        return Checkpoint(step, found, notes)

    def notes(self, step: int) -> dict[str, Any]:
        """The notes of a checkpoint alone; raises what `restore` does."""
        notes = self._own(step)
        del notes["arrays"]
        return notes

    def check(self, known: Mapping[str, str]) -> None:
        """ValueError if checkpoints are of work that differs in what is known of this one's mark so far.

        The latest one whose notes can be read tells; of those that cannot, `restore` and `parts` say so.
        """
        for step in reversed(self.steps()):
            try:
                its = self._notes(step)["mark"]
            except DamagedCheckpointError:
                continue
            its = its if isinstance(its, str) else {name: its.get(name, "not there") for name in known}
            if other := difference(known, its):
                raise ValueError(self._other(other))
            return

    def _own(self, step: int) -> dict[str, Any]:
        notes = self._notes(step)
        if other := difference(self.mark, notes.pop("mark")):
            raise ValueError(self._other(other))
        return notes

    def _notes(self, step: int) -> dict[str, Any]:
        import orbax.checkpoint as ocp

        try:
            kept = self._manager().restore(step, args=ocp.args.Composite(notes=ocp.args.JsonRestore())).notes
            if "said" not in kept:
                raise ValueError("another version of jaxsrda wrote it")
            if _text_digest(kept["said"]) != kept["sha256"]:
                raise ValueError("its notes do not match their SHA-256")
            return dict(kept["said"])
        except Exception as error:  # Orbax raises many kinds
            raise self._damaged(step, error) from None

    def _other(self, how: str) -> str:
        return f"{self.folder}: holds a checkpoint of other work ({how}); choose another folder or remove it"

    def _damaged(self, step: int, error: Exception) -> DamagedCheckpointError:
        return DamagedCheckpointError(
            f"{self.folder}: its checkpoint {step} cannot be read ({error}); remove the folder to start anew"
        )

    def drop(self, step: int) -> None:
        """Remove the checkpoints of a step and of all later ones."""
        for later in [each for each in self.steps() if each >= step]:
            self._manager().delete(later)

    def close(self) -> None:
        """Let go of the folder."""
        if self._open is not None:
            self._open.close()
            self._open = None


def check_kept(folder: str | Path, known: Mapping[str, str]) -> None:
    """ValueError if a folder holds checkpoints of other work than is known so far (`Checkpoints.check`)."""
    store = Checkpoints(Path(folder), known, keep=None)
    store.check(known)
    store.close()


def _array_digest(arrays: Mapping[str, Any]) -> str:
    return digest({name: np.asarray(array) for name, array in flatten(arrays).items()})


def _text_digest(notes: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(notes, sort_keys=True).encode()).hexdigest()
