"""Carries in files: one process goes on where another ended."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from jaxsrda.core.checkpoints import Checkpoints
from jaxsrda.core.trees import digest, flatten
from jaxsrda.cycling.cycle import Carry
from jaxsrda.experiment.carry import next_time
from jaxsrda.experiment.experiment import Experiment
from jaxsrda.experiment.identity import belongs
from jaxsrda.experiment.run import recipe_of
from jaxsrda.experiment.scan import program_of
from jaxsrda.experiment.truth import default_climatology

KEPT = 2
"""How many carries stay in a folder."""


def save_carry(path: str | Path, carry: Carry, experiment: Experiment) -> None:
    """Keep a carry in a folder, for `load_carry` in another process; the one before it stays there too.

    Raises ValueError if the folder holds one of the same time or a later one, or other files.
    """
    store = Checkpoints(Path(path), "carry", KEPT)
    arrays = {name: np.asarray(leaf) for name, leaf in flatten(carry._asdict()).items()}
    number, there = next_time(carry), store.steps()
    if there and there[-1] >= number:
        raise ValueError(
            f"carry {path}: holds one of assimilation time {there[-1]} already, got {number}; choose another folder"
        )
    followed = None if experiment.truth is None else last_frame(experiment.truth.values)
    notes = {"belongs": belongs(experiment), "followed": followed}
    store.save(number, arrays, notes)
    store.close()


def load_carry(path: str | Path, experiment: Experiment) -> Carry:
    """The latest carry that `save_carry` left in a folder.

    Raises ValueError if there is none, if it is damaged, and if it belongs to another method, configuration, testbed,
    model, seed, precision or version than the experiment's.
    """
    store = Checkpoints(Path(path), "carry", KEPT)
    if not (steps := store.steps()):
        raise ValueError(f"carry {path}: expected one that an earlier run left, found none; check the folder")
    kept = store.restore(steps[-1])
    store.close()
    mine, its = belongs(experiment), kept.notes["belongs"]
    for name in {**mine, **its}:  # options with their defaults may be left out of either
        if mine.get(name) != its.get(name):
            raise ValueError(
                f"carry {path}: its {name} is {its.get(name)}, this run's is {mine.get(name)}; go on with what it was "
                "made with, or choose another folder"
            )
    climatology = experiment.climatology or default_climatology(experiment.testbed)
    setup = experiment.setup(climatology)._replace(first=int(kept.arrays["first"][0]))
    keys = jax.eval_shape(jax.vmap(jax.random.key), np.zeros(kept.arrays["index"].shape, np.uint32))
    scored = "tally.frames" in kept.arrays
    expected = program_of(recipe_of(experiment, setup), setup, experiment.keep).begin(
        setup, keys, scored, float, compute=False
    )
    leaves = [jax.device_put(kept.arrays[name]) for name in flatten(expected._asdict()) if name in kept.arrays]
    if len(leaves) < len(kept.arrays) or len(leaves) < len(jax.tree.leaves(expected)):
        raise ValueError(f"carry {path}: it holds other arrays than {experiment.name} hands on; start anew")
    # By name and in the order of the dictionary, which the fields of a Carry have not.
    return Carry(**jax.tree.unflatten(jax.tree.structure(expected._asdict()), leaves))


def last_frame(truth: np.ndarray) -> str:
    """A digest of the last frame of truths (truths, frames, nx, ny), in float32."""
    return digest({"frame": np.ascontiguousarray(truth[:, -1], np.float32)})


def check_followed(path: str | Path, before: np.ndarray) -> None:
    """ValueError unless truths (truths, frames, nx, ny) end with the frame that the carry of a folder followed last."""
    store = Checkpoints(Path(path), "carry", KEPT)
    followed = store.notes(store.steps()[-1]).get("followed")
    store.close()
    if followed is not None and followed != last_frame(before):
        raise ValueError(
            f"carry {path}: the truth before this run is not the one that it followed; go on with the same truth, or "
            "choose another folder"
        )
