"""A cache on disk for what is costly to compute: truths and climatologies."""

from __future__ import annotations

import hashlib
import json
import os
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


def cached_npz(name: str, config_json: str, compute: Callable[[], Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The arrays of `compute()`, kept in the cache as <name>-<hash of config_json>.npz.

    `config_json` must hold all that the arrays depend on but NUMERICS, the precision and the random number generator,
    which count everywhere.  A file that cannot be read is computed and written anew; a folder that cannot be written is
    only warned about.
    """
    drawn = [jax.config.jax_default_prng_impl, jax.config.jax_threefry_partitionable]  # type: ignore[attr-defined]
    everywhere = json.dumps([NUMERICS, str(jnp.zeros(()).dtype), *drawn])
    path = cache_dir() / f"{name}-{content_hash(everywhere + config_json)}.npz"
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
