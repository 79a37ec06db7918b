"""Checks of shapes, types and ranges: each message says what was expected, what came, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import numpy as np


def check_choice(name: str, value: str, choices: Iterable[str]) -> str:
    """`value` if it is one of `choices`, else ValueError naming the nearest."""
    choices = list(choices)
    if value in choices:
        return value
    near = difflib.get_close_matches(str(value), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name}: expected one of {', '.join(choices)}; got {value!r}{hint}")


def check_positive(name: str, value: float) -> float:
    """`value` if it is a finite number above zero, else ValueError."""
    if not np.isfinite(value) or value <= 0:
        raise ValueError(f"{name}: expected a finite number above 0, got {value!r}")
    return value


def check_not_negative(name: str, value: float) -> float:
    """`value` if it is a finite number, zero or above, else ValueError."""
    if not np.isfinite(value) or value < 0:
        raise ValueError(f"{name}: expected a finite number, 0 or above, got {value!r}")
    return value


def check_fraction(name: str, value: float) -> float:
    """`value` if it is at least 0 and below 1, else ValueError."""
    if not 0 <= value < 1:
        raise ValueError(f"{name}: expected a fraction from 0 to below 1, got {value!r}")
    return value


def check_seed(name: str, seed: int) -> int:
    """`seed` if it is a whole number that random keys are made of, 0 to 2³² − 1, else ValueError or TypeError."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"{name}: expected a whole number, got {type(seed).__name__}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"{name}: expected a whole number from 0 to 2³² − 1, got {seed}")
    return seed


def check_shape(name: str, array: Any, shape: tuple[int | None, ...], hint: str = "") -> None:
    """Raise ValueError unless `array.shape` is `shape`, where None stands for any length.

    A wrong number of dimensions is answered with the remedy: these functions take one sample, and
    `jax.vmap` maps them over members, times or truths.
    """
    got = tuple(np.shape(array))
    wanted = ", ".join("any" if n is None else str(n) for n in shape)
    if len(got) != len(shape):
        more = "; map over leading axes with jax.vmap" if len(got) > len(shape) else ""
        raise ValueError(f"{name}: expected {len(shape)} dimensions ({wanted}), got shape {got}{more}{hint}")
    if any(n is not None and n != m for n, m in zip(shape, got, strict=True)):
        raise ValueError(f"{name}: expected shape ({wanted}), got {got}{hint}")


def check_finite(name: str, array: Any) -> None:
    """Raise ValueError if a host array holds NaN or infinity, saying how many and where first."""
    bad = ~np.isfinite(np.asarray(array))
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{name}: expected finite numbers, got {int(bad.sum())} NaN or infinite (first at index {first}); "
            "mask or fill them before passing the array on"
        )
