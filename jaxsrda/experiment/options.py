"""A configuration as flat options: what a person may vary of a method, by name, and which of it is traced.

The options of a guide stand beside those of the diffusion model that it guides (`guidance`, `strength`, `iterations`),
and so do those of its prior's filter (`prior_localization`, `prior_additive`, …).
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxsrda.core.checks import check_choice
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.prior import PRIORS
from jaxsrda.diffusion.guidance import GUIDES, guide
from jaxsrda.filters.config import FilterConfig, FilterParams, filter_params

ConfigT = TypeVar("ConfigT")

GUIDE_OPTIONS: dict[str, type] = {"strength": float, "iterations": int, "hard_steps": int, "blur": tuple}
"""Options of guides, and what they are."""

PRIOR = "prior_"
PRIOR_OPTIONS = tuple(PRIOR + name for name in FilterParams._fields)
"""Options of the prior's filter."""

TRACED = (*FilterParams._fields, *PRIOR_OPTIONS, "eta", "strength")
"""Options that a compiled program takes as numbers; any other is compiled."""

Numbers = dict[str, Array]
"""Traced options by name."""


def option_kinds(config: Any) -> dict[str, type]:
    """The options of a configuration and what each is: bool, int, float, str or tuple."""
    # By the defaults: a number may have been given as 1 for 1.0.
    simple = bool, int, float, str, tuple
    kinds = {
        field.name: type(field.default if isinstance(field.default, simple) else getattr(config, field.name))
        for field in dataclasses.fields(config)
    }
    if "prior_filter" in kinds:
        kinds |= {"guidance": str} | GUIDE_OPTIONS | dict.fromkeys(PRIOR_OPTIONS, float)
        del kinds["prior_filter"]
    return kinds


def check_option(name: str, config: Any, method: str) -> str:
    """`name` if the configuration of a method has such an option, else ValueError naming the nearest."""
    known = option_kinds(config)
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"{name}: not an option of {method}, which has {', '.join(known)}{hint}")


def check_traced(name: str, config: Any, method: str) -> str:
    """`name` if it is a traced option, so that a range of values takes one program, else ValueError."""
    if check_option(name, config, method) not in TRACED:
        raise ValueError(f"{name}: every value of it would be compiled, expected a grid of a few, got a range")
    return name


def option_value(name: str, value: Any, kind: type) -> Any:
    """A value of an option, from text or JSON; ValueError for one of another kind."""
    wanted = {bool: "true or false", int: "a whole number", float: "a finite number", tuple: "a list of two numbers"}
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        if kind is str and isinstance(value, str):
            return value
        if kind is tuple:
            return tuple(float(part) for part in (value.split(":") if isinstance(value, str) else value))
        if kind in (int, float) and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number) and (kind is float or number == int(number)):
                return kind(number)
    except (KeyError, TypeError, ValueError):
        pass
    raise ValueError(f"{name}: expected {wanted.get(kind, 'text')}, got {value!r}")


def flat_options(config: Any) -> dict[str, Any]:
    """All options of a configuration; ValueError for a guide that no name in `GUIDES` makes."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    if "guidance" not in values:
        return values
    tuned = values.pop("prior_filter")
    values |= {} if tuned is None else {PRIOR + name: getattr(tuned, name) for name in FilterParams._fields}
    chosen = values["guidance"]
    names = [name for name, kind in GUIDES.items() if type(chosen) is kind]
    if chosen is not None and not names:
        raise ValueError(f"guidance: expected one of {', '.join(GUIDES)} or none, got {chosen!r}; it has no name")
    own = {} if chosen is None else {field.name: getattr(chosen, field.name) for field in dataclasses.fields(chosen)}
    return values | {"guidance": names[0] if names else "none"} | {k: v for k, v in own.items() if v is not None}


def with_options(config: ConfigT, options: Mapping[str, Any], method: str) -> ConfigT:
    """The configuration with some options changed, those of its guide among them.

    A prior comes with the restart that suits it unless one is given.  Raises ValueError for an option that the
    method's configuration, or the guide, does not have, and for values that they refuse.
    """
    given = {check_option(name, config, method): value for name, value in options.items()}
    own = {name: given.pop(name) for name in GUIDE_OPTIONS if name in given}
    chosen = getattr(config, "guidance", None)
    if "guidance" in given or (own and chosen is None):
        given["guidance"] = guide(given.get("guidance") or "none", **own)
    elif own:
        names = [field.name for field in dataclasses.fields(chosen)] if dataclasses.is_dataclass(chosen) else []
        if unknown := [name for name in own if name not in names]:
            raise ValueError(f"{unknown[0]}: not an option of the guidance {type(chosen).__name__}; leave it out")
        given["guidance"] = dataclasses.replace(chosen, **own)  # type: ignore[type-var]
    if "prior" in given:  # the restart that suits it, and its own filter, not another prior's
        other = given["prior"] != config.prior  # type: ignore[attr-defined]
        given = {"restart": ""} | ({"prior_filter": None} if other else {}) | given
    tuned = {name.removeprefix(PRIOR): given.pop(name) for name in PRIOR_OPTIONS if name in given}
    if tuned:
        kind = PRIORS[check_choice("prior", given.get("prior", config.prior), PRIORS)]  # type: ignore[attr-defined]
        own = given.get("prior_filter", config.prior_filter) or kind.filter  # type: ignore[attr-defined]
        if own is None:
            raise ValueError(f"{PRIOR}{next(iter(tuned))}: this prior has no filter that could be tuned; leave it out")
        given["prior_filter"] = dataclasses.replace(own, **tuned)
    return dataclasses.replace(config, **given)  # type: ignore[type-var]


def read_preset(path: str | Path, method: str, config: ConfigT) -> ConfigT:
    """The configuration with the options of a preset file that a sweep wrote.

    Raises ValueError for a file that cannot be read, is no preset, is another method's, or has options that this
    method's configuration does not.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"tuning {path}: expected a preset file of a sweep, could not read it: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("options"), dict) or "method" not in found:
        raise ValueError(f"tuning {path}: expected method and options, a preset file of `jaxsrda sweep --preset`")
    if found["method"] != method:
        raise ValueError(f"tuning {path}: a preset of {found['method']}, expected one of {method}; choose that method")
    kinds = option_kinds(config)
    known = {check_option(name, config, method): value for name, value in found["options"].items()}
    return with_options(config, {name: option_value(name, value, kinds[name]) for name, value in known.items()}, method)


# Traced numbers -------------------------------------------------------------------------------


def split(config: Any) -> tuple[Any, dict[str, float]]:
    """What of a configuration is compiled, and its traced numbers: equal first parts share one program."""
    if isinstance(config, FilterConfig):
        numbers = {name: float(getattr(config, name)) for name in FilterParams._fields}
        return dataclasses.replace(config, **{name: getattr(FilterConfig, name) for name in numbers}), numbers
    if not isinstance(config, DiffSRDAConfig):
        return config, {}
    numbers, chosen = {"eta": float(config.eta)}, config.guidance
    strength = getattr(chosen, "strength", None)
    if isinstance(strength, int | float):
        numbers["strength"] = float(strength)
        chosen = dataclasses.replace(chosen, strength=1.0)  # type: ignore[type-var]
    tuned = config.prior_filter
    if tuned is not None:
        numbers |= {PRIOR + name: value for name, value in split(tuned)[1].items()}
        tuned = FilterConfig()
    return dataclasses.replace(config, eta=1.0, guidance=chosen, prior_filter=tuned), numbers


def joined(config: Any, numbers: Numbers, dtype: DTypeLike) -> tuple[Any, FilterParams | None]:
    """The configuration and the parameters of its filter, with traced numbers in the place of what `split` took out."""
    numbers = {name: jnp.asarray(value, dtype) for name, value in numbers.items()}
    if isinstance(config, FilterConfig):
        return config, filter_params(config, dtype)._replace(**numbers)
    if "strength" in numbers:
        chosen = dataclasses.replace(config.guidance, strength=numbers.pop("strength"))
        config = dataclasses.replace(config, guidance=chosen)
    params = None
    if tuned := {name.removeprefix(PRIOR): numbers.pop(name) for name in PRIOR_OPTIONS if name in numbers}:
        params = filter_params(FilterConfig(), dtype)._replace(**tuned)
    return dataclasses.replace(config, **numbers) if numbers else config, params
