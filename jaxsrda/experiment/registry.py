"""Methods by name: their presets, and the assimilators that they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from jax import Array

from jaxsrda.core.checks import check_choice
from jaxsrda.cycling.assimilator import Assimilator, Setup
from jaxsrda.diffsrda.config import PAPER_SAMPLING, DiffSRDAConfig
from jaxsrda.diffsrda.prior import make_prior
from jaxsrda.diffsrda.step import diffsrda
from jaxsrda.filters.config import FILTERS, PAPER_FILTERS, FilterConfig, FilterParams, filter_params
from jaxsrda.filters.controls import climatology, free_run, persistence
from jaxsrda.filters.dual import dual_filter
from jaxsrda.filters.ensemble import ensemble_filter

if TYPE_CHECKING:
    from jaxsrda.diffsrda.model import Model

CONFIGS: dict[str, FilterConfig | DiffSRDAConfig] = {
    **FILTERS,
    "cnn": DiffSRDAConfig(sampler="mean", weights="4dsrda-small"),
    "diffsrda": DiffSRDAConfig(),
    "latent-diffsrda": DiffSRDAConfig(weights="latent-kl-small"),
}
"""The configuration that each method has unless told otherwise."""


def method_preset(method: str, layout: str = "lattice:8", tuning: str = "own") -> FilterConfig | DiffSRDAConfig:
    """The configuration of a method: `own` (re-tuned, CONFIGS) or `paper` (PAPER_FILTERS, enkf-hr on a lattice only).

    Raises ValueError for an unknown method or tuning, or where the paper gives none.
    """
    check_choice("method", method, CONFIGS)
    check_choice("tuning", tuning, ("own", "paper"))
    if tuning == "own":
        return CONFIGS[method]
    if method in PAPER_SAMPLING:
        return PAPER_SAMPLING[method]
    name, _, interval = layout.partition(":")
    if method != "enkf-hr" or name != "lattice" or interval not in map(str, PAPER_FILTERS):
        raise ValueError(
            f"tuning: the paper's is for {', '.join(PAPER_SAMPLING)}, and for enkf-hr on lattice:4, 6, 8 or 12; "
            f"got {method} on {layout}; use tuning own"
        )
    return PAPER_FILTERS[int(interval)]


FilterMaker = Callable[[Setup, FilterConfig, FilterParams], Assimilator]

FILTER_METHODS: dict[str, FilterMaker] = {
    "enkf-hr": lambda setup, config, params: ensemble_filter(setup, "enkf", setup.fine, config.members, params),
    "enkf-sr": lambda setup, config, params: ensemble_filter(setup, "enkf", setup.coarse, config.members, params),
    "enkf-dual": lambda setup, config, params: dual_filter(setup, config.members, params, config.controls),
    "etkf-hr": lambda setup, config, params: ensemble_filter(setup, "etkf", setup.fine, config.members, params),
    "letkf-hr": lambda setup, config, params: ensemble_filter(setup, "letkf", setup.fine, config.members, params),
    "letkf-sr": lambda setup, config, params: ensemble_filter(setup, "letkf", setup.coarse, config.members, params),
    "ensf-sr": lambda setup, config, params: ensemble_filter(setup, "ensf", setup.coarse, config.members, params),
    "free-run": lambda setup, config, params: free_run(setup, setup.fine, config.members, params.additive.dtype),
    "bicubic": lambda setup, config, params: free_run(setup, setup.coarse, config.members, params.additive.dtype),
    "climatology": lambda setup, config, params: climatology(setup, config.members, params.additive.dtype),
    "persistence": lambda setup, config, params: persistence(setup, config.members, params),
}
"""Makers of filters and controls: (setup, configuration, traced parameters) → Assimilator."""

METHODS: tuple[str, ...] = (*FILTER_METHODS, "cnn", "diffsrda", "latent-diffsrda")
"""Names of all methods."""


def make_assimilator(
    method: str,
    setup: Setup,
    config: FilterConfig | DiffSRDAConfig | None = None,
    params: FilterParams | None = None,
    model: Model | None = None,
) -> Assimilator:
    """The assimilator called `method`; ValueError for a name that is not in METHODS.

    config: its tuning, by default the preset of the method.  params: the traced numbers of the filter (of
    diffsrda's prior), if they are to be swept or differentiated; by default the configuration's.  model: diffsrda's,
    by default the one that its configuration names.
    """
    check_choice("method", method, METHODS)
    config = CONFIGS[method] if config is None else config
    wanted = type(CONFIGS[method])
    if not isinstance(config, wanted):
        raise TypeError(f"{method}: expected a {wanted.__name__} as config, got {type(config).__name__}")
    if isinstance(config, DiffSRDAConfig):
        model = configured_model(config) if model is None else model
        if method == "latent-diffsrda" and model.space is None:
            raise ValueError(
                "latent-diffsrda: these weights draw on the grid; give some from `jaxsrda train --latent`, or use "
                "method diffsrda"
            )
        return make_diffsrda(setup, config, params, model)
    params = filter_params(config, setup.climatology.mean.dtype) if params is None else params
    return FILTER_METHODS[method](setup, config, params)


def configured_model(config: DiffSRDAConfig) -> Model:
    """The model that a configuration names; ValueError for weights that are missing or damaged."""
    from jaxsrda.diffsrda.weights import default_weights, load_model

    return load_model(config.weights or default_weights(config.prior))[0]


def make_diffsrda(
    setup: Setup,
    config: DiffSRDAConfig,
    params: FilterParams | None = None,
    model: Model | None = None,
    strength: Array | None = None,
) -> Assimilator:
    """DiffSRDA with a model, by default the one that the configuration names.

    params, strength (traced): of the prior's filter and of the guidance, by default the configuration's.

    Raises ValueError for weights that are missing, damaged, or made for another grid.
    """
    from jaxsrda.diffsrda.sampling import make_draw

    model = configured_model(config) if model is None else model
    if (model.config.nx, model.config.ny) != setup.grid.shape:
        raise ValueError(
            f"diffsrda: the weights are for a grid of {model.config.nx} × {model.config.ny}, this one has "
            f"{setup.grid.nx} × {setup.grid.ny}; train for it with `jaxsrda train`"
        )
    if config.prior not in model.config.priors:
        raise ValueError(
            f"prior: these weights were trained for {', '.join(model.config.priors)}, got {config.prior}; "
            f"give weights for it, from `jaxsrda train --prior {config.prior}`"
        )
    # The mean alone is one field, however many members the prior has.
    members = 1 if config.sampler == "mean" and config.prior != "lr" else config.members
    draw = make_draw(
        model, config, members=members, operator=setup.operator, guide_operator=setup.guide_operator, strength=strength
    )
    return diffsrda(
        setup, make_prior(setup, config, params), draw, members, config.restart, setup.climatology.mean.dtype
    )
