"""Progress of long work, and durations in words."""

from __future__ import annotations

from collections.abc import Callable


def duration(seconds: float) -> str:
    """Seconds in words: 3.2 s, 12 min, 2.1 h."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


Progress = Callable[[str, int, int], None]
"""Called as progress(what, done, total)."""
