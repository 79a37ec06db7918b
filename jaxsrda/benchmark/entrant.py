"""What is scored: a method by name, or a Python value, brought to a function Setup → `Assimilator` and checked."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.core.cache import content_hash
from jaxsrda.core.records import described, key_of
from jaxsrda.cycling.assimilator import Assimilator, Setup, Window
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.experiment.options import check_option, option_kinds, option_value, with_options
from jaxsrda.experiment.registry import METHODS, Method, configured_model, make_assimilator, method_preset
from jaxsrda.filters.config import LAYOUT_FILTERS, FilterConfig, filter_params
from jaxsrda.observing.observations import Observations
from jaxsrda.observing.sensors import layout_name

KINDS = "a function Setup → Assimilator, an Assimilator, or a Method"


@dataclasses.dataclass(frozen=True)
class Entrant:
    """A method that is scored.

    name: of its row; spec: what was asked for; make: Setup → `Assimilator`; settings: for the record; identity: differs
    where its source, or a setting, does; named: of a name in `METHODS`, its method, configuration and model in a setup;
    options: of a name in `METHODS`, what differs from its presets, as text.
    """

    name: str
    spec: str
    make: Callable[[Setup], Assimilator]
    settings: dict[str, Any]
    identity: str
    named: Callable[[Setup], dict[str, Any]] | None = None
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def method(self, setup: Setup, observed: Observations) -> dict[str, Any]:
        """The arguments of an `Experiment` that say what is run: one compiled program serves all of its truths.

        observed: of one time (p,), of which the shapes count.  Raises as `assimilator` does.
        """
        if self.named is None:
            return {"method": self.assimilator(setup, observed)}
        self.make(setup)  # raises for sensors that it cannot use
        return self.named(setup)

    def assimilator(self, setup: Setup, observed: Observations) -> Assimilator:
        """The method in a setup, tried in the abstract on the observations of one time (p,).

        Raises ValueError or TypeError, in one line, for a method that raises or gives something else than the contract.
        """
        made = self._called("when it was called with a Setup", self.make, setup)
        if not isinstance(made, Assimilator):
            raise TypeError(f"{self.spec}: expected it to return an Assimilator, got {type(made).__name__}")
        key = jax.random.key(0)
        state = self._called("in init", jax.eval_shape, made.init, key)
        stepped = self._called("in step", jax.eval_shape, made.step, key, state, observed)
        if not (isinstance(stepped, tuple) and len(stepped) == 2 and isinstance(stepped[1], Window)):
            raise TypeError(f"{self.spec}: expected step to return (state, Window), got {_shown(stepped)}")
        _check_window(self.spec, made.members, setup, stepped[1], observed)
        if (before := _shapes(state)) != (after := _shapes(stepped[0])):
            raise ValueError(
                f"{self.spec}: expected step to return a state like that of init, {before}, got {after}; keep its "
                "structure, shapes and types"
            )
        return made

    def _called(self, when: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:  # whatever a user's function raises
            place = _place(error)
            said = " ".join(str(error).split()) or "without a message"
            raise ValueError(f"{self.spec}: {type(error).__name__} {when}{place}: {said}") from error


def entrant(method: Any, name: str | None = None, options: Mapping[str, str] | None = None) -> Entrant:
    """The entrant that `method` names or is.

    method: a name in `METHODS`, "package.module:attribute", or a value: KINDS.  name: of its row, by default the
    method's own.  options: of the configuration of a method by name, as text.  Raises ValueError or TypeError, in one
    line, for a name of nothing, a module without it, an attribute of another kind, and options of no effect.
    """
    if isinstance(method, str) and ":" in method:
        spec, value = method, _found(method)
    else:
        spec = method if isinstance(method, str) else getattr(method, "__name__", "own")
        value = method
    own = name or spec.rpartition(":")[2].rpartition(".")[2]
    if isinstance(value, str):
        return _named(value, name or value, options or {})
    if options:
        raise ValueError(f"{next(iter(options))}: {spec} is a value with settings of its own; leave the option out")
    source = content_hash(key_of(value)) + _file_hash(value)
    if isinstance(value, Method):
        return Entrant(own, spec, _from_method(value), {"config": described(value.config)}, source)
    if isinstance(value, Assimilator):
        return Entrant(own, spec, lambda setup: value, {}, source)
    if not callable(value) or inspect.isclass(value):
        raise TypeError(f"{spec}: expected {KINDS}, got {_shown(value)}")
    return Entrant(own, spec, cast(Any, value), {}, source)  # what it returns is checked when it is called


def _named(method: str, name: str, options: Mapping[str, str]) -> Entrant:
    if method not in METHODS:
        raise ValueError(
            f"method: expected package.module:attribute, a folder or file of analyses, or one of {', '.join(METHODS)}; "
            f"got {method!r}"
        )
    preset = method_preset(method)
    kinds = option_kinds(preset)
    told = {check_option(key, preset, method): option_value(key, text, kinds[key]) for key, text in options.items()}

    def config(layout: str, testbed: str = "jet") -> Any:
        return with_options(method_preset(method, layout, testbed=testbed), told, method)

    chosen = config("lattice:8")
    settings: dict[str, Any] = {"config": described(chosen)}
    if tuned := [layout for layout, presets in LAYOUT_FILTERS.items() if method in presets]:
        settings["by_layout"] = {layout: described(config(layout)) for layout in tuned}
    model = None
    if isinstance(chosen, DiffSRDAConfig):
        from jaxsrda.diffsrda.weights import default_weights, load_model

        settings["weights"] = load_model(chosen.weights or default_weights(chosen.prior))[1]["sha256"]
        model = configured_model(chosen)

    def named(setup: Setup) -> dict[str, Any]:
        return {"method": method, "config": config(layout_name(setup.sensors), setup.testbed.name), "model": model}

    def make(setup: Setup) -> Assimilator:
        given = named(setup)
        return make_assimilator(method, setup, given["config"], model=model)

    return Entrant(name, method, make, settings, content_hash(key_of(method, settings)), named, options)


def _from_method(method: Method) -> Callable[[Setup], Assimilator]:
    def make(setup: Setup) -> Assimilator:
        config = method.config
        params = filter_params(config, setup.dtype) if isinstance(config, FilterConfig) else None
        return method.make(setup, config, params, None)  # type: ignore[arg-type]

    return make


def _found(spec: str) -> Any:
    """What "package.module:attribute" names; modules of the working directory are found too."""
    module, _, attribute = spec.partition(":")
    if not module or not attribute:
        raise ValueError(f"method: expected package.module:attribute, got {spec!r}")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        value: Any = importlib.import_module(module)
    except Exception as error:  # whatever a user's module raises
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            raise ValueError(
                f"{spec}: expected a module {module}, found none {error.name}; run this where Python finds it, such as "
                "in its folder"
            ) from None
        said = " ".join(str(error).split())
        raise ValueError(f"{spec}: {type(error).__name__} while {module} was imported{_place(error)}: {said}") from None
    for part in attribute.split("."):
        if not hasattr(value, part):
            names = [each for each in vars(value) if not each.startswith("_")]
            raise ValueError(f"{spec}: {module} has no {attribute}; it has {', '.join(names) or 'no public names'}")
        value = getattr(value, part)
    return value


def _file_hash(value: Any) -> str:
    """The hash of the file that a value's function is written in: what it calls there counts as well."""
    function = value.init if isinstance(value, Assimilator) else value.make if isinstance(value, Method) else value
    try:
        path = inspect.getsourcefile(inspect.unwrap(function))
        return "" if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]
    except (OSError, TypeError):
        return ""


def _place(error: BaseException) -> str:
    """Where an error was raised: the last line that is not in an installed package."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    outside = [frame for frame in frames if Path(frame.filename).parents[1:2] != Path(__file__).parents[1:2]]
    return f" ({Path(outside[-1].filename).name}, line {outside[-1].lineno})" if outside else ""


def _shown(value: Any) -> str:
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return f"({', '.join(_shown(each) for each in value)})"
    return f"the class {value.__name__}" if inspect.isclass(value) else type(value).__name__


def _shapes(tree: Any) -> str:
    """Structure, shapes and types of a state as text."""
    return str(jax.tree.map(lambda leaf: f"{jnp.result_type(leaf)}{list(np.shape(leaf))}", tree)).replace("'", "")


def _check_window(spec: str, members: int, setup: Setup, window: Window, observed: Observations) -> None:
    """ValueError for a window of other shapes or another type than the contract's."""
    shape, frames = setup.grid.shape, setup.testbed.frames_per_cycle
    slots = observed.values.shape
    wanted: dict[str, tuple[Any, tuple[int, ...]]] = {
        "omega": (window.omega, (members, frames, *shape)),
        "background": (window.background, shape),
        "diagnostics.finite": (window.diagnostics.finite, ()),
        "diagnostics.assimilated": (window.diagnostics.assimilated, slots),
        "diagnostics.background_observed": (window.diagnostics.background_observed, (members, *slots)),
        "diagnostics.analysis_observed": (window.diagnostics.analysis_observed, (members, *slots)),
    }
    if window.analysis is not None:
        wanted["analysis"] = (window.analysis, (frames, *shape))
    for name, (array, expected) in wanted.items():
        if np.shape(array) != expected:
            axes = " (members, frames of a cycle, nx, ny)" if name == "omega" else ""
            raise ValueError(f"{spec}: expected window.{name} of shape {expected}{axes}, got {np.shape(array)}")
    if jnp.result_type(window.omega) != setup.dtype:
        raise ValueError(f"{spec}: expected window.omega in {setup.dtype}, got {jnp.result_type(window.omega)}")
