"""Files of the benchmark: what another program needs to take part, and the analyses that it made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsrda.app.datasets import fields_dataset, observations_dataset, write_dataset
from jaxsrda.app.fields import FIELD_SUFFIXES, read_fields, variable_names
from jaxsrda.benchmark.analyses import Given
from jaxsrda.benchmark.protocol import Protocol, observe_task
from jaxsrda.core.files import require_packages, write_json
from jaxsrda.core.progress import Progress
from jaxsrda.core.provenance import this_run
from jaxsrda.core.records import described
from jaxsrda.experiment.truth import default_climatology, simulate_truth
from jaxsrda.flow.grid import to_physical
from jaxsrda.flow.labelled import Labelled

FIELDS = ("omega", "omega_mean", "omega_std")
"""Variables of a file of analyses."""


def given_analyses(
    spec: str, tasks: tuple[str, ...], protocol: Protocol, name: str | None = None
) -> tuple[Given, tuple]:
    """Analyses in a folder of one file a task (lattice-8.nc, …), or in the file of the one task asked for; and which
    tasks there are.

    Raises ValueError for a folder without such files, two files of a task, a task that has none, and a file without a
    single task.
    """
    path, names = Path(spec), protocol.task_names
    if path.is_dir() and path.suffix.lower() != ".zarr":
        files: dict[str, Path] = {}
        for file in sorted(path.iterdir()):
            if file.suffix.lower() in FIELD_SUFFIXES and file.stem in names:
                if file.stem in files:
                    raise ValueError(f"{path}: expected one file a task, got {files[file.stem].name} and {file.name}")
                files[file.stem] = file
        if missing := [task for task in tasks or () if task not in files]:
            raise ValueError(
                f"{path}: expected a file {missing[0]}.nc, found none; leave the task out, or add the file"
            )
        if not files:
            raise ValueError(f"{path}: expected files of analyses such as {names[0]}.nc, named by tasks, found none")
        found = {task: files[task] for task in names if task in files and (not tasks or task in tasks)}
    else:
        if len(tasks) != 1:
            raise ValueError(f"{path}: the analyses of which task? Add --tasks with one of {', '.join(names)}")
        found = {tasks[0]: path}
    digests = {task: _digest(file) for task, file in found.items()}
    return Given(name or path.stem, path.name, lambda task: _read(found[task]), digests), tuple(found)


def _read(path: Path) -> Mapping[str, Labelled]:
    names = variable_names(path)
    found = {name: read_fields(path, name) for name in FIELDS if name in names}
    return found if "omega" in found or "omega_mean" in found else {"omega": read_fields(path)}


def _digest(path: Path) -> str:
    """The hash of a file's bytes, or of all files of a store."""
    total = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]:
        try:
            total.update(file.read_bytes())
        except OSError as error:
            raise ValueError(f"{file}: expected a file of analyses, could not read it ({error})") from None
    return total.hexdigest()[:12]


def export(folder: Path, protocol: Protocol, tasks: tuple[str, ...], truths: int, progress: Progress) -> list[Path]:
    """Write what a method may see into a folder: protocol.json, climatology.nc, and observations/TASK.nc.

    The climatology's states omega(truth, time, x, y) are at the assimilation times of the training runs.  No truth is
    among the files.
    """
    require_packages(".nc")
    testbed, seeds = protocol.testbed, protocol.truth_seeds[:truths]
    (folder / "observations").mkdir(parents=True, exist_ok=True)
    every = testbed.frames_per_cycle
    times = testbed.frame * every * np.arange(protocol.cycles)
    attrs = {"protocol": protocol.name, "fingerprint": protocol.fingerprint, "truth_seeds": list(seeds)}
    written = [folder / "protocol.json", folder / "climatology.nc"]
    write_json(written[0], {"fingerprint": protocol.fingerprint, **described(protocol), "provenance": this_run()})
    progress("climatology", 0, 1)
    known = default_climatology(testbed)
    states = jax.jit(jax.vmap(jax.vmap(lambda a: to_physical(known.grid, a))))(known.mean + known.anomalies)
    moments = testbed.frame * every * np.arange(states.shape[1])
    write_dataset(written[1], fields_dataset(np.asarray(states), moments, known.grid, attrs))
    frames = simulate_truth(testbed, seeds, progress=progress)
    for name in tasks or protocol.task_names:
        task = protocol.task(name)
        seen: dict[str, Any] = observe_task(protocol, task, frames, seeds)._asdict()
        own = {"task": name, "operator": task.operator, "noise_std": task.noise_std}
        written.append(folder / "observations" / f"{name}.nc")
        write_dataset(written[-1], observations_dataset({**seen, "times": times}, testbed.grid, attrs | own))
    return written
