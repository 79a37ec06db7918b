"""Locks between processes; the system lets go of them when their process ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def locked(path: str | Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock that the file `path` stands for; the file is removed in the end.

    Yields whether it is held: False if another process has it and `wait` is False.  Where no lock can be made, as in a
    folder that is not there or cannot be written, it counts as held.
    """
    file = None
    while file is None:
        try:
            file = open(path, "ab")
        except OSError:
            yield True
            return
        if not _taken(file, wait):
            file.close()
            yield False
            return
        # Whoever held it before has removed the file by now: then this one is a lock of nothing.
        if not _stands(file, Path(path)):
            file.close()
            file = None
    try:
        yield True
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        file.close()


def _taken(file: IO[bytes], wait: bool) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        else:
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # others: a file system without locks
    return True


def _stands(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
