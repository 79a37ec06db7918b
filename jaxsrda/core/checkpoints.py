"""Checkpoints of long work, by Orbax: what simulations and trainings go on from after a kill."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Checkpoint(NamedTuple):
    """One checkpoint: how many steps were done, named arrays, and notes that JSON can hold."""

    step: int
    arrays: dict[str, Any]
    notes: dict[str, Any]


class DamagedCheckpointError(ValueError):
    """A checkpoint that cannot be read."""


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
    all.  Orbax is loaded on first use, so that work which is done before it is worth keeping never pays for it.
    """

    def __init__(self, folder: Path, mark: str, keep: int | None = 1):
        self.folder, self.mark, self.keep = Path(folder), mark, keep
        self._open: Any = None

    def _manager(self) -> Any:
        import orbax.checkpoint as ocp

        if self._open is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(max_to_keep=self.keep, **_alone())
            self._open = ocp.CheckpointManager(self.folder.absolute(), options=options)
        return self._open

    def save(self, step: int, arrays: Mapping[str, Any], notes: Mapping[str, Any] | None = None) -> None:
        """Write a checkpoint and wait until it is on the disk."""
        import orbax.checkpoint as ocp

        told = {"mark": self.mark, **(notes or {})}
        items = ocp.args.Composite(state=ocp.args.StandardSave(dict(arrays)), notes=ocp.args.JsonSave(told))
        self._manager().save(step, args=items)
        self._manager().wait_until_finished()

    def steps(self) -> list[int]:
        """The steps that there are checkpoints of, in order."""
        return sorted(self._manager().all_steps()) if self.folder.exists() else []

    def restore(self, step: int, template: Mapping[str, Any] | None = None) -> Checkpoint:
        """The checkpoint of a step; template: arrays of the shapes and places wanted, by default numpy arrays.

        Raises ValueError for a checkpoint of other work, `DamagedCheckpointError` for one that cannot be read.
        """
        import orbax.checkpoint as ocp

        def read(**items: Any) -> Any:
            try:
                return self._manager().restore(step, args=ocp.args.Composite(**items))
            except Exception as error:  # Orbax raises many kinds
                raise DamagedCheckpointError(
                    f"{self.folder}: its checkpoint {step} cannot be read ({error}); remove the folder to start anew"
                ) from None

        notes = read(notes=ocp.args.JsonRestore()).notes
        if notes.pop("mark") != self.mark:
            raise ValueError(
                f"{self.folder}: holds a checkpoint of other work (sizes, data, seed or options differ); choose "
                "another folder or remove it"
            )
        wanted = None if template is None else dict(template)
        arrays = read(state=ocp.args.StandardRestore(wanted)).state
        return Checkpoint(step, {k: np.asarray(a) if template is None else a for k, a in arrays.items()}, notes)

    def drop(self, step: int) -> None:
        """Remove the checkpoints of a step and of all later ones."""
        for later in [each for each in self.steps() if each >= step]:
            self._manager().delete(later)

    def close(self) -> None:
        """Let go of the folder."""
        if self._open is not None:
            self._open.close()
            self._open = None
