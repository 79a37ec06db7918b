"""What a measurement ran on."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import jax
import jaxlib

import jaxsrda


def machine() -> dict[str, object]:
    """Processor, cores, load, devices, versions and date, for the record of a benchmark."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        model = next(
            (line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line), model
        )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "cores_used": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg()[0],
        "devices": [device.device_kind for device in jax.devices()],
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "jaxsrda": jaxsrda.__version__,
        "date": datetime.date.today().isoformat(),
    }
