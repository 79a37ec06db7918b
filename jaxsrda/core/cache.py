"""A cache on disk for what is costly to compute: truths and climatologies."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.core.files import write_npz

NUMERICS = 2
"""Raised when the numbers of anything that is cached change."""


def content_hash(config_json: str) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of a configuration's JSON text."""
    return hashlib.sha256(config_json.encode()).hexdigest()[:12]


def cache_dir() -> Path:
    """The cache folder: $JAXSRDA_CACHE, else $XDG_CACHE_HOME/jaxsrda, else ~/.cache/jaxsrda."""
    if chosen := os.environ.get("JAXSRDA_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "jaxsrda"


def scratch_dir() -> Path:
    """A folder for unfinished work: the cache folder, made if need be, or the system's temporary one."""
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir())
    return folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir())


def numerics() -> dict[str, Any]:
    """What all numbers depend on: the package's numerics, the precision, and the random number generator."""
    return {
        "numerics": NUMERICS,
        "precision": str(jnp.zeros(()).dtype),
        "generator": jax.config.jax_default_prng_impl,  # type: ignore[attr-defined]
        "partitionable": jax.config.jax_threefry_partitionable,  # type: ignore[attr-defined]
    }


def entry(name: str, config_json: str) -> Path:
    """Where the cache keeps what `config_json` and `numerics` determine: <name>-<hash>.npz."""
    return cache_dir() / f"{name}-{content_hash(json.dumps([*numerics().values()]) + config_json)}.npz"


def keep_programs() -> None:
    """Keep compiled programs in the cache, unless JAX_COMPILATION_CACHE_DIR says where, or they cannot be kept.

    A folder for each kind of processor: a program may hold instructions that another one lacks.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    folder = cache_dir() / f"programs-{content_hash(_processor())}"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _processor() -> str:
    """What tells this kind of processor from others."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return platform.machine() + next((line for line in lines if line.startswith(("flags", "Features"))), "")


def cached_npz(name: str, config_json: str, compute: Callable[[], Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The arrays of `compute()`, kept in the cache as <name>-<hash of config_json>.npz.

    `config_json` must hold all that the arrays depend on but NUMERICS, the precision and the random number generator,
    which count everywhere.  A file that cannot be read is computed and written anew; a folder that cannot be written is
    only warned about.
    """
    path = entry(name, config_json)
    try:
        with np.load(path, allow_pickle=False) as loaded:
            return dict(loaded)
    except Exception:  # absent, unreadable or corrupt: all mean that it has to be computed
        pass
    arrays = {key: np.asarray(array) for key, array in compute().items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_npz(path, **arrays)
    except (OSError, ValueError) as error:
        warnings.warn(f"cache: could not write {path} ({error}); set JAXSRDA_CACHE to another folder", stacklevel=2)
    return arrays
