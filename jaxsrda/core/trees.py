"""Parameter trees as named arrays and back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
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


def numbered(tree: Any) -> dict[str, Any]:
    """The leaves of any tree as number → leaf, which can be stored whatever the containers are."""
    return {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(tree))}


def from_numbered(structure: Any, leaves: Mapping[str, Any]) -> Any:
    """The tree of a structure (`jax.tree.structure`) from what `numbered` gave."""
    return jax.tree.unflatten(structure, [leaves[str(i)] for i in range(len(leaves))])


def copied(tree: Any) -> Any:
    """The same numbers in memory of their own, on the device: no program is compiled for that."""

    def copy(leaf: Any) -> jax.Array:
        return jax.device_put(leaf, may_alias=False) if isinstance(leaf, jax.Array) else jax.device_put(np.array(leaf))

    return jax.tree.map(copy, tree)


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


STEP = ".step"
"""Ends the name of an array of steps, which whole numbers of the same name are multiples of."""


def eight_bits(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Named arrays, the kernels (two axes or more) as whole numbers −127 … 127 and steps (float16) of each output.

    a ≈ step · n with step = max |a| / 127 over all but the last axis; biases and norms stay.
    """
    stored = {}
    for name, array in arrays.items():
        if array.ndim < 2:
            stored[name] = array
            continue
        full = np.asarray(array, np.float32)
        step = np.abs(full).max(tuple(range(full.ndim - 1))) / 127
        # Rounded first, so that the whole numbers are the nearest for the step that is stored; no step is zero.
        step = np.maximum(step, np.finfo(np.float16).tiny).astype(np.float16)
        whole = np.rint(full / step.astype(np.float32))
        stored[name], stored[name + STEP] = np.clip(whole, -127, 127).astype(np.int8), step
    return stored


def from_eight_bits(stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Named arrays from what `eight_bits` gave; others stay as they are."""
    steps = {name.removesuffix(STEP): array for name, array in stored.items() if name.endswith(STEP)}
    return {
        name: array.astype(np.float32) * steps[name].astype(np.float32) if name in steps else array
        for name, array in stored.items()
        if not name.endswith(STEP)
    }


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
