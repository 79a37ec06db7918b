"""Interrupts from the keyboard: long work keeps what is done and says how to go on."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


class Interrupted(KeyboardInterrupt):
    """The user interrupted work; the text says how to go on."""


class _Asked:
    """Whether the user asked to stop, and how many pieces of work, one inside another, look out for it."""

    depth = 0
    now = False


@contextlib.contextmanager
def interruptible(how: str | Callable[[], str]) -> Iterator[Callable[[], bool]]:
    """Work that ends where it can go on from when the user interrupts it; `Interrupted` says `how`,
    text or a function that is asked for it in the end.

    Yields a function that tells whether they did: the work asks it between its steps, keeps what is done and raises
    KeyboardInterrupt.  A second interrupt ends the work at once.  Outside the main thread, and where a program handles
    interrupts itself, they come as they always do.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before: Any = None
    if not _Asked.depth and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before = signal.signal(signal.SIGINT, _ask)
    _Asked.depth += 1
    try:
        yield lambda: _Asked.now
        if _Asked.now:  # after the last step
            raise KeyboardInterrupt
    except Interrupted:  # of work inside this one, which says how
        raise
    except KeyboardInterrupt:
        raise Interrupted(how if isinstance(how, str) else how()) from None
    finally:
        _Asked.depth -= 1
        if not _Asked.depth:
            _Asked.now = False
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _ask(*_: Any) -> None:
    if _Asked.now:
        raise KeyboardInterrupt
    _Asked.now = True


def goes_on(kept: Any) -> str:
    """How to go on from what is kept in a file or folder."""
    return f"what is done is kept in {kept}, and the same command goes on from there"
