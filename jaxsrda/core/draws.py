"""Random numbers that are the same in both precisions, to a float32's last bit, and tags that keep streams apart.

`jax.random.split(key)[i]` is `fold_in(key, i)`: a stream that is named by a small number meets those that are counted
or split.  Streams beside counted ones are therefore named by the tags below, far from any count.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

TAGS = {
    "dropout": 0xD1000001,  # of a time's key: which sensors are silent
    "silent": 0xD1000002,  # of a time's key: whether all are
    "withheld": 0xD1000003,  # of a run's key: which sensors verify
    "further set": 0xD1000004,  # of a truth's observation key: the second and later sets of sensors
    "refill": 0xD1000005,  # of a training's key: new windows
    "held out": 0xD1000006,  # of a training's key: windows of held-out truths
}
"""Streams by what they decide, and of which key."""


def stream(key: Array, name: str, number: int = 0) -> Array:
    """The key of a stream of `TAGS`, the `number`th of its name."""
    tagged = jax.random.fold_in(key, jnp.uint32(TAGS[name]))
    return jax.random.fold_in(tagged, number) if number else tagged


def normal(key: Array, shape: Sequence[int], dtype: DTypeLike = float) -> Array:
    """N(0, 1), drawn in float32 and given in `dtype`."""
    return jax.random.normal(key, shape, jnp.float32).astype(dtype)


def uniform(key: Array, shape: Sequence[int], dtype: DTypeLike = float) -> Array:
    """U[0, 1), drawn in float32 and given in `dtype`."""
    return jax.random.uniform(key, shape, jnp.float32).astype(dtype)


def integers(key: Array, shape: Sequence[int], low: int, high: int | Array) -> Array:
    """Integers low … high − 1 as int32."""
    return jax.random.randint(key, shape, low, high, jnp.int32)


def coins(key: Array, shape: Sequence[int], probability: float = 0.5) -> Array:
    """True with a probability."""
    return jax.random.bernoulli(key, np.float32(probability), shape)
