"""Options of commands that several devices and processes share, and the start of several processes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import threading
from typing import Any, Literal

HOURS = 24
"""How long processes that are done wait for the first one, which writes files."""

FAREWELL = 5.0
"""Seconds that a process which fails gives the others to fail alike."""


@dataclasses.dataclass(kw_only=True)
class OnDevices:
    """Options that say which devices and processes share the work."""

    devices: int | Literal["all"] | None = None
    """How many devices share the work, or all; the numbers are the same to rounding. By default one, in a sweep and in
    several processes all."""
    processes: int | Literal["auto"] = 1
    """How many processes share it, each started by this command; auto leaves it to Slurm, Open MPI or a TPU slice."""
    process: int | None = None
    """Which of the processes this is, from 0; that one writes and prints."""
    coordinator: str | None = None
    """Where process 0 is reached by the others, host:port; without auto."""
    patience: int = 120
    """Seconds to wait at the start until all processes have met."""

    @property
    def several(self) -> bool:
        """Whether there are several processes."""
        return self.processes != 1

    @property
    def shared(self) -> Any:
        """The devices, as the library takes them."""
        return "all" if self.devices is None and self.several else self.devices

    def join(self) -> None:
        """Meet the other processes, if there are any; ValueError for options that do not say how."""
        self.check_processes()
        if not self.several:
            return
        import jax

        told = {} if self.processes == "auto" else self._told()
        where = self.coordinator or "the coordinator that it found"
        with _patient(self.patience, where):
            try:
                jax.distributed.initialize(
                    **told, initialization_timeout=self.patience + 60, shutdown_timeout_seconds=HOURS * 3600
                )
            except (ValueError, RuntimeError) as error:
                how = "--processes auto: found no Slurm, Open MPI or TPU" if not told else f"--coordinator {where}"
                raise ValueError(
                    f"{how} ({_first_line(error)}); give --processes N, --process I and a free --coordinator host:port"
                ) from None

    def check_processes(self) -> None:
        """ValueError for options that do not say who this process is, or say it without need."""
        apart = {"--process": self.process, "--coordinator": self.coordinator}
        if not self.several or self.processes == "auto":
            for name, value in apart.items():
                if value is not None:
                    raise ValueError(f"{name}: has no effect with --processes {self.processes}; give their number")
        elif None in apart.values():
            raise ValueError(f"--processes {self.processes}: expected --process and --coordinator with it, or auto")
        elif self.processes < 1 or not 0 <= self.process < self.processes:  # type: ignore[operator]
            raise ValueError(f"--process: expected 0 to {int(self.processes) - 1}, got {self.process}")
        elif not str(self.coordinator).rpartition(":")[2].isdigit() or str(self.coordinator).startswith(":"):
            raise ValueError(f"--coordinator: expected host:port, got {self.coordinator}")
        if self.patience < 1:
            raise ValueError(f"--patience: expected 1 second or more, got {self.patience}")

    def _told(self) -> dict[str, Any]:
        return {
            "coordinator_address": self.coordinator,
            "num_processes": self.processes,
            "process_id": self.process,
            "cluster_detection_method": "deactivate",
        }


class _patient:
    """Ends this process with a line if the block takes longer: JAX itself would abort with a trace of C++."""

    def __init__(self, seconds: int, where: str):
        line = (
            f"--processes: not all met at {where} within {seconds} s; start all of them, check that host and port can "
            "be reached, or raise --patience"
        )
        self.clock = threading.Timer(seconds, leave, (line,))
        self.clock.daemon = True

    def __enter__(self) -> None:
        self.clock.start()

    def __exit__(self, *_: object) -> None:
        self.clock.cancel()


def leave(line: str, code: int = 2, met: bool = False) -> None:
    """Say why and end; met: processes that end for the same reason do so together, no one waits for others long."""
    print(f"jaxsrda: {line}", file=sys.stderr, flush=True)
    if met:
        import jax

        threading.Timer(FAREWELL, os._exit, (code,)).start()
        with contextlib.suppress(Exception):
            jax.distributed.shutdown()
    os._exit(code)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
