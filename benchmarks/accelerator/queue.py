"""The queue's clock, log, compiler and archive."""

from __future__ import annotations

import concurrent.futures
import io
import json
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jaxsrda.core.files import atomic_path

PART = 16_000_000
"""Largest file of an archive, in bytes."""

MOST = 66_000_000
"""Largest archive."""


class Queue:
    """The queue's state: deadline, log, and programs that are compiled beside the work.

    out: the folder of results; packed: where they are packed after each job, None for nowhere; resume: whether
    trainings keep checkpoints and go on from them.
    """

    def __init__(self, out: Path, minutes: float, packed: Path | None = None, resume: bool = False):
        self.out, self.packed, self.resume = out, packed, resume
        self.began, self.minutes = time.perf_counter(), minutes
        self.pool = concurrent.futures.ThreadPoolExecutor(8)
        self.log = open(out / "log.jsonl", "a", encoding="utf-8")

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.began

    @property
    def left(self) -> float:
        """Seconds until the time limit."""
        return 60 * self.minutes - self.seconds

    def say(self, line: dict[str, Any]) -> None:
        """A line of the log, on the screen too."""
        line = {"at": round(self.seconds, 1), **line}
        text = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in line.items()})
        print(text, flush=True)
        self.log.write(text + "\n")
        self.log.flush()

    def compiled(self, name: str, function: Callable, *shapes: Any, donate: tuple[int, ...] = ()) -> Any:
        """A future of the program, and how long it took to make."""

        def make() -> Any:
            since = time.perf_counter()
            program = jax.jit(function, donate_argnums=donate).lower(*shapes).compile()
            self.say({"kind": "compiled", "program": name, "seconds": time.perf_counter() - since})
            return program

        return self.pool.submit(make)

    def pack(self) -> None:
        """All results as one archive in parts, the small ones first and as many weights as it may hold.

        `cat results-*.tar | tar x` unpacks it.
        """
        if self.packed is None:
            return
        archive, left = io.BytesIO(), MOST
        with tarfile.open(fileobj=archive, mode="w") as tar:
            files = [path for path in self.out.iterdir() if path.is_file()]
            for path in sorted(files, key=lambda path: (path.suffix == ".npz", path.stat().st_mtime)):
                if path.stat().st_size > left:
                    self.say({"kind": "not packed", "file": path.name, "bytes": path.stat().st_size})
                    continue
                left -= path.stat().st_size
                tar.add(path, path.name)
        data = archive.getvalue()
        for number, first in enumerate(range(0, len(data), PART)):
            with atomic_path(self.packed / f"results-{number:02d}.tar", (".tar",)) as temporary:
                temporary.write_bytes(data[first : first + PART])


def shape_of(tree: Any) -> Any:
    """Shapes and types of arrays."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)
