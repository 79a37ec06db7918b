"""Where a number in a record comes from: commit, source, versions, device and date."""

from __future__ import annotations

import datetime
import functools
import hashlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the package."""

VERSIONS = ("jaxsrda", "jax", "jaxlib", "numpy", "flax")
"""Distributions whose versions are noted."""

UNKNOWN = "unknown"
"""In the place of what cannot be found out."""

CODE = ("*.py", "pyproject.toml")
"""What makes a tree dirty: changed or new code; not the records, which a run itself writes."""


def source_hash(package: Path = PACKAGE) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of a package's Python files and their paths in it."""
    total = hashlib.sha256()
    for path in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).as_posix()):
        content = path.read_bytes()
        total.update(f"{path.relative_to(package).as_posix()} {len(content)}\n".encode() + content)
    return total.hexdigest()[:12]


def commit(package: Path = PACKAGE) -> dict[str, Any]:
    """The commit that a package's folder is checked out from, and whether code differs from it; `unknown` without."""

    def git(folder: Path | str, *arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    try:
        # An installed package may lie in the ignored environment of another project, whose commit says nothing of it.
        git(package, "ls-files", "--error-unmatch", "__init__.py")
        changes = git(git(package, "rev-parse", "--show-toplevel"), "status", "--porcelain", "--", *CODE)
        return {"commit": git(package, "rev-parse", "HEAD"), "dirty": bool(changes)}
    except (OSError, subprocess.SubprocessError):
        return {"commit": UNKNOWN, "dirty": UNKNOWN}


def versions() -> dict[str, str]:
    """Versions of the package, of what it computes with, and of Python."""
    found = {"python": platform.python_version()}
    for name in VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = UNKNOWN
    return found


@functools.cache
def _code() -> dict[str, Any]:
    """The code of this process; looked up once, because files may change while a long run goes on."""
    return commit() | {"source": source_hash(), "versions": versions()}


def this_run() -> dict[str, Any]:
    """What a row of a record keeps of the run that made it; call it before long work, and again for each row.

    commit, dirty: see `commit`; source: `source_hash`; versions; device: platform and kind; date: UTC, ISO 8601.
    """
    device = jax.devices()[0]
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    code = _code()
    return {
        **code,
        "versions": dict(code["versions"]),
        "device": {"platform": device.platform, "kind": device.device_kind},
        "date": now,
    }


def stamped(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row that this run made, with this run's provenance."""
    return {**row, "provenance": this_run()}


def same_code(row: Mapping[str, Any], any_code: bool = False) -> bool:
    """Whether a row of an earlier run may be kept: the same source made it, or any source will do.

    Rows from before provenance was noted are of unknown source.
    """
    return any_code or row.get("provenance", {}).get("source") == _code()["source"]
