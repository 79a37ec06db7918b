"""Methods by name: their presets, and the assimilators that they make.  `register_method` adds one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxsrda.core.checks import check_choice
from jaxsrda.cycling.assimilator import Assimilator, Setup
from jaxsrda.diffsrda.config import PAPER_SAMPLING, DiffSRDAConfig
from jaxsrda.diffsrda.prior import make_prior
from jaxsrda.diffsrda.step import diffsrda
from jaxsrda.experiment.options import read_preset
from jaxsrda.filters.config import FILTERS, LAYOUT_FILTERS, PAPER_FILTERS, FilterConfig, FilterParams, filter_params
from jaxsrda.filters.controls import climatology, free_run, optimal_interpolation, persistence
from jaxsrda.filters.dual import dual_filter
from jaxsrda.filters.ensemble import ensemble_filter
from jaxsrda.flow.forecasts import ForecastModel
from jaxsrda.flow.testbed import Testbed
from jaxsrda.observing.sensors import layout_name

if TYPE_CHECKING:
    from jaxsrda.diffsrda.model import Model

Config = FilterConfig | DiffSRDAConfig


class Method(NamedTuple):
    """A method that can be chosen by name.

    make: (setup, configuration, traced parameters of its filter, model) → Assimilator; the filter's parameters are
    given, the model is None unless the caller has one.  config: the configuration unless another is chosen.
    forecasts: with what, `spectral` or `lagrangian`, empty for a method without forecasts; options of the model that it
    does not have are refused.  assimilates: whether observations have any effect on it.
    """

    make: Callable[[Setup, Any, FilterParams, Model | None], Assimilator]
    config: Config
    forecasts: str = ""
    assimilates: bool = True


ForecastKind = Callable[[Setup, FilterConfig, FilterParams], ForecastModel]


def _hr(setup: Setup, config: FilterConfig, params: FilterParams) -> ForecastModel:
    return setup.analysis_model(params.viscosity)


def _lr(setup: Setup, config: FilterConfig, params: FilterParams) -> ForecastModel:
    return setup.forecast_model(viscosity=params.viscosity)


def _bicubic(setup: Setup, config: FilterConfig, params: FilterParams) -> ForecastModel:
    return setup.forecast_model("bicubic", params.viscosity)


def _carried(setup: Setup, config: FilterConfig, params: FilterParams) -> ForecastModel:
    return setup.lagrangian_model(config.substeps, params.viscosity, config.corrector)


def _method(name: str, model: ForecastKind, make: Callable[..., Assimilator]) -> Method:
    """A method of one kind of forecasts: make(setup, model, configuration, parameters)."""

    def made(setup: Setup, config: FilterConfig, params: FilterParams, _: Any) -> Assimilator:
        return make(setup, model(setup, config, params), config, params)

    return Method(made, FILTERS[name], "lagrangian" if model is _carried else "spectral", make is not _free)


def _filter(name: str, model: ForecastKind, analysis: str) -> Method:
    def make(setup: Setup, model: ForecastModel, config: FilterConfig, params: FilterParams) -> Assimilator:
        return ensemble_filter(setup, model, analysis, config.members, params)

    return _method(name, model, make)


def _dual(setup: Setup, control: ForecastModel, config: FilterConfig, params: FilterParams) -> Assimilator:
    return dual_filter(setup, control, setup.forecast_model(), config.members, params, config.controls)


def _free(setup: Setup, model: ForecastModel, config: FilterConfig, params: FilterParams) -> Assimilator:
    return free_run(setup, model, config.members)


def _oi(setup: Setup, model: ForecastModel, config: FilterConfig, params: FilterParams) -> Assimilator:
    return optimal_interpolation(setup, model, config.members, params)


def _diffsrda(setup: Setup, config: DiffSRDAConfig, params: FilterParams | None, model: Model | None) -> Assimilator:
    return make_diffsrda(setup, config, params, model)


def _latent(setup: Setup, config: DiffSRDAConfig, params: FilterParams | None, model: Model | None) -> Assimilator:
    model = configured_model(config) if model is None else model
    if model.space is None:
        raise ValueError(
            "latent-diffsrda: these weights draw on the grid; give some from `jaxsrda train --latent`, or use "
            "method diffsrda"
        )
    return make_diffsrda(setup, config, params, model)


METHODS: dict[str, Method] = {
    "enkf-hr": _filter("enkf-hr", _hr, "enkf"),
    "enkf-sr": _filter("enkf-sr", _lr, "enkf"),
    "enkf-dual": _method("enkf-dual", _hr, _dual),
    "enkf-lagrange": _filter("enkf-lagrange", _carried, "enkf"),
    "letkf-lagrange": _filter("letkf-lagrange", _carried, "letkf"),
    "enkf-dual-lagrange": _method("enkf-dual-lagrange", _carried, _dual),
    "oi-lagrange": _method("oi-lagrange", _carried, _oi),
    "etkf-hr": _filter("etkf-hr", _hr, "etkf"),
    "letkf-hr": _filter("letkf-hr", _hr, "letkf"),
    "letkf-sr": _filter("letkf-sr", _lr, "letkf"),
    "ensf-sr": _filter("ensf-sr", _lr, "ensf"),
    "free-run": _method("free-run", _hr, _free),
    "bicubic": _method("bicubic", _bicubic, _free),
    "climatology": Method(
        lambda setup, config, *_: climatology(setup, config.members), FILTERS["climatology"], assimilates=False
    ),
    "persistence": Method(
        lambda setup, config, params, _: persistence(setup, config.members, params), FILTERS["persistence"]
    ),
    "cnn": Method(_diffsrda, DiffSRDAConfig(sampler="mean", weights="4dsrda-small")),
    "diffsrda": Method(_diffsrda, DiffSRDAConfig()),
    "latent-diffsrda": Method(_latent, DiffSRDAConfig(weights="latent-kl-small")),
}
"""Methods by name."""


def register_method(name: str, method: Method) -> None:
    """Make a method known by a name; ValueError for a name that is taken."""
    if name in METHODS:
        raise ValueError(f"register_method: {name!r} is taken; choose another name")
    METHODS[name] = method


def method_preset(
    method: str, layout: str = "lattice:8", tuning: str | Path = "own", testbed: str = "jet"
) -> FilterConfig | DiffSRDAConfig:
    """The configuration of a method: `own`, `paper` or that of a preset file (.json) of a sweep.

    own: re-tuned for the layout on the testbed `jet`; that for `lattice:8` where none was, and on other testbeds.
    paper: PAPER_FILTERS, of enkf-hr on a lattice only.
    Raises ValueError for an unknown method or tuning, where the paper gives none, and for another method's file.
    """
    check_choice("method", method, METHODS)
    if Path(tuning).suffix == ".json":
        return check_config(method, read_preset(tuning, method, METHODS[method].config))
    tuning = check_choice("tuning", str(tuning), ("own", "paper", "FILE.json"))
    if tuning == "own":
        tuned = LAYOUT_FILTERS.get(layout.partition("+")[0], {}) if testbed == "jet" else {}
        return tuned.get(method, METHODS[method].config)
    if method in PAPER_SAMPLING:
        return PAPER_SAMPLING[method]
    name, _, interval = layout.partition(":")
    if method != "enkf-hr" or name != "lattice" or interval not in map(str, PAPER_FILTERS):
        raise ValueError(
            f"tuning: the paper's is for {', '.join(PAPER_SAMPLING)}, and for enkf-hr on lattice:4, 6, 8 or 12; "
            f"got {method} on {layout}; use tuning own"
        )
    return PAPER_FILTERS[int(interval)]


def check_config(method: str, config: Config | None, layout: str = "lattice:8", testbed: str = "jet") -> Config:
    """The configuration, by default the method's preset for the layout on a testbed.

    Raises ValueError for an unknown method and for options that have no effect on it, TypeError for another's.
    """
    check_choice("method", method, METHODS)
    preset = method_preset(method, layout, testbed=testbed)
    config = preset if config is None else config
    if not isinstance(config, type(preset)):
        raise TypeError(f"{method}: expected a {type(preset).__name__} as config, got {type(config).__name__}")
    forecasts = METHODS[method].forecasts
    if isinstance(config, FilterConfig) and forecasts != "lagrangian":
        for name in ("substeps", "corrector"):
            if getattr(config, name):
                some = ", ".join(other for other in METHODS if METHODS[other].forecasts == "lagrangian")
                raise ValueError(f"{name}: {method} does not forecast with the Lagrangian model; choose one of {some}")
        if config.viscosity and not forecasts:
            raise ValueError(f"viscosity: {method} has no forecast model, expected 0, got {config.viscosity:g}")
    return config


def make_assimilator(
    method: str,
    setup: Setup,
    config: Config | None = None,
    params: FilterParams | None = None,
    model: Model | None = None,
) -> Assimilator:
    """The assimilator called `method`; ValueError for a name that is not in METHODS.

    config: its tuning, by default the preset of the method for the layout.  params: the traced numbers of the filter
    (of diffsrda's prior), if they are to be swept or differentiated; by default the configuration's.  model:
    diffsrda's, by default the one that its configuration names.
    """
    config = check_config(method, config, layout_name(setup.sensors), setup.testbed.name)
    if params is None and isinstance(config, FilterConfig):
        params = filter_params(config, setup.dtype)
    return METHODS[method].make(setup, config, params, model)  # type: ignore[arg-type]


def configured_model(config: DiffSRDAConfig) -> Model:
    """The model that a configuration names, the same object as long as its file is; ValueError for weights that are
    missing or damaged."""
    from jaxsrda.diffsrda.weights import default_weights

    source = config.weights or default_weights(config.prior)
    path = Path(source)
    stamp = path.stat() if path.is_file() else None
    return _loaded(source, None if stamp is None else (stamp.st_mtime_ns, stamp.st_size))


@functools.lru_cache(4)
def _loaded(source: str, stamp: Any) -> Model:
    from jaxsrda.diffsrda.weights import load_model

    return load_model(source)[0]


def check_model(config: DiffSRDAConfig, model: Model, testbed: Testbed) -> None:
    """ValueError for a model of another grid or cadence than the testbed's, or not of the configuration's prior."""
    kind, (nx, ny), frames = model.config, testbed.grid.shape, testbed.window
    if (kind.nx, kind.ny, kind.frames) != (nx, ny, frames):
        raise ValueError(
            f"diffsrda: the weights are for windows of {kind.frames} frames on {kind.nx} × {kind.ny} points, this "
            f"testbed has {frames} on {nx} × {ny}; train for it with `jaxsrda train`"
        )
    if config.prior not in kind.priors:
        raise ValueError(
            f"prior: these weights were trained for {', '.join(kind.priors)}, got {config.prior}; "
            f"give weights for it, from `jaxsrda train --prior {config.prior}`"
        )


def make_diffsrda(
    setup: Setup,
    config: DiffSRDAConfig,
    params: FilterParams | None = None,
    model: Model | None = None,
) -> Assimilator:
    """DiffSRDA with a model, by default the one that the configuration names.

    params (traced): of the prior's filter, by default those of the configuration, or of the prior's own tuning.  A
    guide's strength may be traced too.

    Raises ValueError for weights that are missing, damaged, or made for another grid or cadence.
    """
    from jaxsrda.diffsrda.sampling import make_draw

    model = configured_model(config) if model is None else model
    check_model(config, model, setup.testbed)
    if params is None and config.prior_filter is not None:
        params = filter_params(config.prior_filter, setup.dtype)
    prior = make_prior(setup, config, params)
    # The mean alone is one field a guess, however many members the prior has.
    members = prior.guesses if config.sampler == "mean" else config.members
    draw = make_draw(model, config, setup.sensors, members)
    return diffsrda(setup, prior, draw, members, config.restart)
