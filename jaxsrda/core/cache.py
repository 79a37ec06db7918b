"""A cache on disk for what is costly to compute: truths and climatologies."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.core.files import read_npz, write_npz
from jaxsrda.core.locks import locked
from jaxsrda.core.provenance import versions

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


def unfinished(name: str, config_json: str) -> Path:
    """The folder for unfinished work on an entry; `cached_npz` removes it once the entry is written."""
    return scratch_dir() / entry(name, config_json).with_suffix(".parts").name


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
    which count everywhere.  Of several processes one computes and the others wait.  A damaged file is warned about,
    computed and written anew; a folder that cannot be written is only warned about.  What `compute` left in the folder
    `unfinished` is removed once its arrays are written.
    """
    path = entry(name, config_json)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    if (kept := _kept(path)) is not None:
        return kept
    with locked(path.with_suffix(".lock")):
        # Another process may have computed it meanwhile.
        if (kept := _kept(path, say=True)) is not None:
            return kept
        arrays = {key: np.asarray(array) for key, array in compute().items()}
        try:
            write_npz(path, **arrays, **{ABOUT: json.dumps(_about(name))})
            shutil.rmtree(unfinished(name, config_json), ignore_errors=True)
        except (OSError, ValueError) as error:
            warnings.warn(f"cache: could not write {path} ({error}); set JAXSRDA_CACHE to another folder", stacklevel=2)
    return arrays


def _kept(path: Path, say: bool = False) -> dict[str, np.ndarray] | None:
    """The arrays of an entry, None if it is absent or damaged; the latter is said if asked for."""
    try:
        arrays = read_npz(path)
    except FileNotFoundError:
        return None
    except Exception as error:  # numpy and zipfile raise half a dozen kinds for a damaged file
        if say and not isinstance(error, NotADirectoryError):
            warnings.warn(f"cache: {path} is damaged ({error}); it is computed anew", stacklevel=3)
        return None
    arrays.pop(ABOUT, None)
    return arrays


# What is there --------------------------------------------------------------------------------

ABOUT = "about"
"""The array of an entry that says what made it."""

ENTRY = re.compile(r"(?P<name>[a-z].*)-[0-9a-f]{12}(?P<kind>|\.npz|\.json|\.parts)")
"""Names of what the cache holds: arrays, scores of a reference, unfinished work, and folders of programs."""


def _about(name: str) -> dict[str, Any]:
    return {"name": name, "jaxsrda": versions()["jaxsrda"], **numerics()}


class Entry(NamedTuple):
    """Something in the cache: its path, what it is, bytes, seconds since it was written, and whether this version of
    the package, in this precision or another, can use it (None if that is not known)."""

    path: Path
    what: str
    size: int
    age: float
    current: bool | None


def entries() -> list[Entry]:
    """What the cache holds, by name; files that are not the cache's are left out."""
    folder = cache_dir()
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if match := ENTRY.fullmatch(path.name):
            files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
            size, written = sum(file.stat().st_size for file in files), path.stat().st_mtime
            what = {".parts": "unfinished "}.get(match["kind"], "") + match["name"]
            found.append(Entry(path, what, size, time.time() - written, _current(path)))
    return found


def _current(path: Path) -> bool | None:
    if path.suffix != ".npz":
        return None
    try:
        with np.load(path, allow_pickle=False) as loaded:
            return json.loads(str(loaded[ABOUT]))["numerics"] == NUMERICS
    except Exception:  # damaged, or from before entries said what made them
        return False


def remove(found: Entry) -> bool:
    """Remove an entry; False if a process is at work on it."""
    with locked(found.path.with_suffix(".lock"), wait=False) as free:
        if free and found.path.is_dir():
            shutil.rmtree(found.path)
        elif free:
            found.path.unlink(missing_ok=True)
    return free
