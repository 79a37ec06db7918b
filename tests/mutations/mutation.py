"""What a mutation is."""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """A name; a file of the package; text that stands once in it, and what takes its place; tests (`file::function` in
    tests/) of which at least one has to fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
