"""Configuration dataclasses as JSON text and back, and the keys that caches are named by."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

ConfigT = TypeVar("ConfigT")


def _said(value: Any, field: dataclasses.Field) -> bool:
    # With its default a field of metadata `later` is left out, so that keys and files from before it stay the same.
    return not (field.metadata.get("later") and getattr(value, field.name) == field.default)


def _plain(value: Any, name_of: Callable[[Any], Any]) -> Any:
    """A value made of dictionaries, lists, text and numbers; functions by `name_of`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # A guide is a dataclass that can be called: its class says which.
        kind = {"kind": type(value).__name__} if callable(value) else {}
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if _said(value, field)}
        return kind | {name: _plain(item, name_of) for name, item in fields.items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(item, name_of) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, name_of) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if callable(value):
        return name_of(value)
    if hasattr(value, "__array__"):
        return np.asarray(value).tolist()
    return str(value)


def described(config: Any) -> Any:
    """A configuration, or anything that holds some, in terms of what JSON knows; functions by their names."""
    return _plain(config, lambda function: getattr(function, "__name__", type(function).__name__))


def flat(name: str, value: Any) -> dict[str, str]:
    """What `described` gives as text by dotted names, so that two of them can be compared entry by entry."""
    entries = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    nested = {key: text for part, item in entries for key, text in flat(f"{name}.{part}", item).items()}
    return nested or {name: json.dumps(value)}


def _identity(function: Any) -> Any:
    """What tells a function from others: where it stands, its source, and all that it holds."""
    if isinstance(function, functools.partial):
        return [_identity(function.func), _plain([function.args, function.keywords], _identity)]
    if inspect.ismethod(function):
        return [_identity(function.__func__), _plain(function.__self__, _identity)]
    # An object that can be called has its class's source, and holds its attributes.
    kind = function if hasattr(function, "__qualname__") else type(function)
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        source = repr(getattr(kind, "__code__", kind if isinstance(kind, type) else type(kind)))
    held = {name: getattr(function, name, None) for name in ("__defaults__", "__kwdefaults__", "__wrapped__")}
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    held["__closure__"] = [each for each in cells if each is not function]
    if kind.__qualname__.endswith("<lambda>") and hasattr(kind, "__code__"):
        held["__code__"] = _program(kind.__code__)  # several may stand in one line of source
    if kind is not function:
        held |= getattr(function, "__dict__", {})
    name = f"{getattr(kind, '__module__', '')}.{kind.__qualname__}"
    return [name, hashlib.sha256(source.encode()).hexdigest()[:12], _plain(held, _identity)]


def _program(code: Any) -> list[str]:
    """A function's compiled code as text without addresses."""
    nested = [_program(each) if inspect.iscode(each) else [repr(each)] for each in code.co_consts]
    return [code.co_code.hex(), *code.co_names, *(text for each in nested for text in each)]


def key_of(*values: Any) -> str:
    """Text that differs wherever one of the values does, functions by their source: what a cache is named by."""
    return json.dumps(_plain(values, _identity))


def to_json(config: Any) -> str:
    """A configuration dataclass as JSON text, keys in the order of its fields."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"to_json: expected a configuration dataclass, got {type(config).__name__}")
    return json.dumps(described(config))


def from_json(cls: type[ConfigT], text: str) -> ConfigT:
    """The dataclass `cls` from JSON text, sequences as tuples; ValueError for bad JSON, an unknown or missing field."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{cls.__name__}: expected JSON, got text that does not parse: {error}") from None
    names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if not isinstance(values, dict) or set(values) - names:
        unknown = sorted(set(values) - names) if isinstance(values, dict) else type(values).__name__
        raise ValueError(f"{cls.__name__}: expected fields among {sorted(names)}, got {unknown}")
    try:
        return cls(**{name: _tupled(value) for name, value in values.items()})
    except TypeError as error:
        raise ValueError(f"{cls.__name__}: expected a value of the right type for every field: {error}") from None


def _tupled(value: Any) -> Any:
    """JSON knows lists alone; what configurations hold can be hashed."""
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


def renamed(**new_names: str) -> Callable[[type[ConfigT]], type[ConfigT]]:
    """A class decorator: an argument that had another name before is refused with the new one."""

    def decorate(cls: type[ConfigT]) -> type[ConfigT]:
        plain = cls.__init__

        @functools.wraps(plain)
        def init(self: Any, *args: Any, **options: Any) -> None:
            refuse_old(cls.__name__, options, new_names)
            plain(self, *args, **options)

        cls.__init__ = init  # type: ignore[method-assign]
        return cls

    return decorate


def refuse_old(what: str, options: Mapping[str, Any], new_names: Mapping[str, str]) -> None:
    """Raise TypeError for the first option whose name has changed, saying the new one."""
    for old in options:
        if old in new_names:
            raise TypeError(f"{what}: {old} is now {new_names[old]}; use that name")
