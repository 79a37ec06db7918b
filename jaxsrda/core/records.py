"""Configuration dataclasses as JSON text and back."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, TypeVar

ConfigT = TypeVar("ConfigT")


def described(config: Any) -> dict[str, Any]:
    """A configuration dataclass as a dictionary, a function of the user's in it by name."""
    values = dataclasses.asdict(config)
    return {
        name: getattr(value, "__name__", str(value)) if callable(value) else value for name, value in values.items()
    }


def to_json(config: Any) -> str:
    """A configuration dataclass as JSON text, keys in the order of its fields."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"to_json: expected a configuration dataclass, got {type(config).__name__}")
    return json.dumps(described(config))


def changes(config: Any) -> str:
    """What differs from the defaults of a configuration dataclass, as JSON: a name that new fields leave as it is.

    Where files are named by it, a changed default has to raise their NUMERICS.
    """
    plain = dataclasses.asdict(type(config)())
    changed = {name: value for name, value in dataclasses.asdict(config).items() if value != plain[name]}
    return json.dumps(changed, sort_keys=True)


def from_json(cls: type[ConfigT], text: str) -> ConfigT:
    """The dataclass `cls` from JSON text; raises ValueError for bad JSON, an unknown or a missing field."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{cls.__name__}: expected JSON, got text that does not parse: {error}") from None
    names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if not isinstance(values, dict) or set(values) - names:
        unknown = sorted(set(values) - names) if isinstance(values, dict) else type(values).__name__
        raise ValueError(f"{cls.__name__}: expected fields among {sorted(names)}, got {unknown}")
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"{cls.__name__}: expected a value of the right type for every field: {error}") from None
