"""Faults that a user can mend, each as one line that says how; anything else is a fault of the package."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

FULL = (errno.ENOSPC, errno.EDQUOT) if hasattr(errno, "EDQUOT") else (errno.ENOSPC,)


def _out_of_memory(error: BaseException) -> str | None:
    text = str(error)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower():
        return "out of memory; take fewer --members, --truths or settings --at-once, a coarser level, no --save-members"
    return None


def _nan(error: BaseException) -> str | None:
    if isinstance(error, FloatingPointError):
        return (
            "a NaN inside a program, for which JAX_DEBUG_NANS or JAX_DEBUG_INFS stops it; unset these: an ensemble "
            "that is lost is said without them"
        )
    return None


def _disk(error: BaseException) -> str | None:
    full = isinstance(error, OSError) and error.errno in FULL
    if full or "No space left on device" in str(error):  # Orbax and HDF5 say it in errors of their own
        name = getattr(error, "filename", None)
        where = f" for {name}" if name else ""
        return (
            f"no space left on the disk{where}; free some (`jaxsrda cache` says what the cache holds) or write "
            "elsewhere (JAXSRDA_CACHE for the cache)"
        )
    return None


def _device(error: BaseException) -> str | None:
    if isinstance(error, RuntimeError) and ("initialize backend" in str(error) or "nknown backend" in str(error)):
        chosen = os.environ.get("JAX_PLATFORMS", "")
        said = f"JAX_PLATFORMS={chosen}" if chosen else "the one that JAX chose"
        return f"no such device, {said}; unset JAX_PLATFORMS or set it to cpu ({str(error).splitlines()[0]})"
    return None


def _input(error: BaseException) -> str | None:
    return str(error) if isinstance(error, ValueError | TypeError | OSError) else None


FAULTS: tuple[Callable[[BaseException], str | None], ...] = (_disk, _out_of_memory, _nan, _device, _input)
"""Each gives the line for its kind of error, None for others; the first that does is printed."""


def remedy(error: BaseException) -> str | None:
    """What to say of an error, on one line; None for one that the user cannot mend."""
    for fault in FAULTS:
        if (line := fault(error)) is not None:
            return " ".join(line.split())
    return None
