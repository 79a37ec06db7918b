"""Names of a package whose modules bring large libraries: each is loaded on first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping


def later(package: str, names: Mapping[str, str]) -> Callable[[str], object]:
    """A package's `__getattr__` that finds each of `names` in its module there."""

    def find(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{names[name]}"), name)

    return find
