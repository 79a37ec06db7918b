"""Parameter trees as named arrays and back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def flatten(params: Any) -> dict[str, jax.Array]:
    """A parameter tree as path → array, paths joined by dots."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    named = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    # The last step into a variable is Flax's own affair, and its name has changed before.
    return {name.removesuffix(".value"): leaf for name, leaf in named.items()}


def digest(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of named arrays."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        sha.update(name.encode() + str(arrays[name].shape).encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return sha.hexdigest()


def half(leaf: jax.Array) -> np.ndarray:
    """A leaf in float16; what does not fit becomes infinite."""
    with np.errstate(over="ignore"):  # infinity is refused by name
        return np.asarray(leaf, np.float16)


def unflatten(initial: Callable[[int], Any], given: dict[str, np.ndarray], source: str | Path, what: str) -> Any:
    """The parameter tree that `initial` makes, from path → array; ValueError naming what does not fit."""
    shapes = jax.eval_shape(lambda: initial(0))
    wanted = flatten(shapes)
    wrong = [
        f"{name} {given[name].shape if name in given else 'absent'} instead of {leaf.shape}"
        for name, leaf in wanted.items()
        if name not in given or given[name].shape != leaf.shape
    ]
    if wrong or set(given) - set(wanted):
        detail = "; ".join(wrong[:3]) or f"unknown {sorted(set(given) - set(wanted))[:3]}"
        raise ValueError(f"{source}: these weights are for other sizes than {what} has: {detail}")
    return jax.tree.unflatten(jax.tree.structure(shapes), [jnp.asarray(given[name], jnp.float32) for name in wanted])
