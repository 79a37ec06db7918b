"""Priors: what gives the first guess that the diffusion model corrects.

`PRIORS` has them by name; `register_prior` adds one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.core.roots import deviation
from jaxsrda.cycling.assimilator import Assimilator, Setup
from jaxsrda.diffsrda.condition import Guess
from jaxsrda.filters.config import FILTERS, FilterConfig, FilterParams, filter_params
from jaxsrda.filters.controls import optimal_interpolation
from jaxsrda.filters.dual import DualState, dual_filter
from jaxsrda.filters.ensemble import EnsembleState, ensemble_filter
from jaxsrda.flow.forecasts import ForecastModel
from jaxsrda.flow.solver import Speeds
from jaxsrda.observing.observations import Observations


class Analysed(NamedTuple):
    """A prior's guesses, leading axis G (one for all samples, or one for each), and its diagnostics."""

    guess: Guess
    before: Array  # (M, p)
    speeds: Speeds


class Prior(NamedTuple):
    """init(key) → state;  analyse(key, state, observations) → (state at the next time, Analysed);
    restart(state at the next time, fields at t (M, nx, ny), mode) → state at the next time forecast from them instead;
    began(fields, mode) → what those forecasts really start from (G, nx, ny), for a prior without an analysis."""

    init: Callable[[Array], Any]
    analyse: Callable[[Array, Any, Observations], tuple[Any, Analysed]]
    restart: Callable[[Any, Array, str], Any]
    guesses: int
    began: Callable[[Array, str], Array] | None = None


def filter_prior(setup: Setup, inner: Assimilator, ahead: Callable[[Any], Array], restart) -> Prior:
    """A filter as prior: one guess, its ensemble's mean; `ahead` gives the HR ensemble (M, nx, ny) of its state."""

    def analyse(key: Array, state: Any, observations: Observations) -> tuple[Any, Analysed]:
        state, out = inner.step(key, state, observations)
        later = ahead(state)
        frames = jnp.concatenate([out.omega.mean(0), later.mean(0)[None]])
        # One forecast alone has no spread of its own: its members keep theirs.
        last = later if len(later) > 1 else out.omega[:, -1]
        spread = jnp.stack([deviation(out.omega[:, 0], ddof=1), deviation(last, ddof=1)])
        guess = Guess(frames, spread, out.background)
        return state, Analysed(
            jax.tree.map(lambda a: a[None], guess), out.diagnostics.background_observed, out.diagnostics.speeds
        )

    return Prior(inner.init, analyse, restart, 1)


def chosen(fields: Array, members: int, mode: str) -> Array:
    """Fields (members, …) to restart from: each its own (recycled if too few), the first, or the mean."""
    if mode == "each":
        return fields[jnp.arange(members) % len(fields)]
    one = fields[0] if mode == "first" else fields.mean(0)
    return jnp.broadcast_to(one, (members, *one.shape))


def enkf_sr_prior(setup: Setup, members: int, params: FilterParams) -> Prior:
    """EnKF-SR as prior: cheap members only."""
    model = setup.forecast_model()
    inner = ensemble_filter(setup, model, "enkf", members, params)

    def restart(state: EnsembleState, fields: Array, mode: str) -> EnsembleState:
        start = model.from_analysis_grid(chosen(fields, members, mode))
        return state._replace(omega_hat=model.forecast(start).ahead)

    return filter_prior(setup, inner, lambda state: model.to_analysis_grid(state.omega_hat), restart)


def dual_prior(setup: Setup, members: int, params: FilterParams) -> Prior:
    """The dual-resolution EnKF as prior: one control at the level of analyses, cheap members.

    `mean` and `first` restart the control alone and leave the members their own perturbations.
    """
    control_model, member_model = setup.analysis_model(), setup.forecast_model()
    inner = dual_filter(setup, control_model, member_model, members, params)

    def ahead(state: DualState) -> Array:
        perturbations = member_model.to_analysis_grid(state.members_hat - state.members_hat.mean(0, keepdims=True))
        return control_model.to_analysis_grid(state.control_hat.mean(0, keepdims=True)) + perturbations

    def restart(state: DualState, fields: Array, mode: str) -> DualState:
        one = (fields[0] if mode == "first" else fields.mean(0))[None]
        state = state._replace(control_hat=control_model.forecast(control_model.from_analysis_grid(one)).ahead)
        if mode != "each":
            return state
        start = member_model.from_analysis_grid(chosen(fields, members, mode))
        return state._replace(members_hat=member_model.forecast(start).ahead)

    return filter_prior(setup, inner, ahead, restart)


def carried_ensemble_prior(setup: Setup, model: ForecastModel, members: int, params: FilterParams) -> Prior:
    """An EnKF of members that a `ForecastModel` carries on the analysis grid.

    `mean` moves all members so that their mean goes on from the samples', and leaves them their own perturbations;
    `each` and `first` start them from samples.
    """
    inner = ensemble_filter(setup, model, "enkf", members, params)

    def restart(state: EnsembleState, fields: Array, mode: str) -> EnsembleState:
        if mode == "mean":
            start = model.from_analysis_grid(fields.mean(0, keepdims=True))
            own = state.omega_hat - state.omega_hat.mean(0, keepdims=True)
            return state._replace(omega_hat=model.forecast(start).ahead + own)
        start = model.from_analysis_grid(chosen(fields, members, mode))
        return state._replace(omega_hat=model.forecast(start).ahead)

    return filter_prior(setup, inner, lambda state: model.to_analysis_grid(state.omega_hat), restart)


def carried_prior(setup: Setup, model: ForecastModel, anomalies: int, params: FilterParams) -> Prior:
    """One forecast, which carries the last analysis: no ensemble; its first guess is an optimal interpolation.

    The paper's setting (arXiv:2604.21180: one cheap forecast conditions all samples) with a memory of fine scales.
    """
    inner = optimal_interpolation(setup, model, anomalies, params)

    def restart(state: EnsembleState, fields: Array, mode: str) -> EnsembleState:
        start = model.from_analysis_grid(chosen(fields, 1, mode))
        return state._replace(omega_hat=model.forecast(start).ahead)

    def ahead(state: EnsembleState) -> Array:
        return model.to_analysis_grid(state.omega_hat)

    prior = filter_prior(setup, inner, ahead, restart)
    return prior._replace(
        began=lambda fields, mode: model.to_analysis_grid(model.from_analysis_grid(chosen(fields, 1, mode)))
    )


def lr_prior(setup: Setup, members: int) -> Prior:
    """Bare cheap forecasts, as in the paper: one that conditions all samples, or (members > 1) one for each."""
    model = setup.forecast_model()

    def init(key: Array) -> EnsembleState:
        return EnsembleState(setup.first_states(model, key, members), jnp.int32(setup.first))

    def analyse(key: Array, state: EnsembleState, observations: Observations) -> tuple[EnsembleState, Analysed]:
        ahead = model.forecast(state.omega_hat)
        fields = model.to_analysis_grid(jnp.concatenate([ahead.frames, ahead.ahead[:, None]], axis=1))
        before = setup.observed(fields[:, 0], observations)
        guess = Guess(fields, jnp.zeros_like(fields[:, :2]), fields[:, 0])
        return EnsembleState(ahead.ahead, state.time + 1), Analysed(guess, before, ahead.speeds)

    def restart(state: EnsembleState, fields: Array, mode: str) -> EnsembleState:
        start = model.from_analysis_grid(chosen(fields, members, mode))
        return state._replace(omega_hat=model.forecast(start).ahead)

    def began(fields: Array, mode: str) -> Array:
        return model.to_analysis_grid(model.from_analysis_grid(chosen(fields, members, mode)))

    return Prior(init, analyse, restart, members, began)


# By name --------------------------------------------------------------------------------------


class PriorKind(NamedTuple):
    """A prior that can be chosen by name.

    make: (setup, members, traced parameters, restart) → Prior; restart: what its forecasts go on from unless another is
    chosen; filter: the tuning of its filter, None for a prior without one; ensemble: whether the members are its own
    forecasts.
    """

    make: Callable[[Setup, int, FilterParams | None, str], Prior]
    restart: str
    filter: FilterConfig | None = None
    ensemble: bool = True


def _carried(setup: Setup, params: FilterParams | None) -> ForecastModel:
    return setup.lagrangian_model(viscosity=0.0 if params is None else params.viscosity)


PRIORS: dict[str, PriorKind] = {
    # Restarts: best on validation truths for dual and enkf-sr; lr was not measured.
    "dual": PriorKind(
        lambda setup, members, params, _: dual_prior(setup, members, params), "mean", FILTERS["enkf-dual"]
    ),
    "enkf-sr": PriorKind(
        lambda setup, members, params, _: enkf_sr_prior(setup, members, params), "open", FILTERS["enkf-sr"]
    ),
    "lagrange": PriorKind(
        lambda setup, members, params, _: carried_ensemble_prior(setup, _carried(setup, params), members, params),
        "mean",
        FILTERS["enkf-lagrange"],
    ),
    # No members of its own: its filter's are the climatological anomalies of the interpolation.
    "carried": PriorKind(
        lambda setup, _, params, restart: carried_prior(
            setup, _carried(setup, params), FILTERS["oi-lagrange"].members, params
        ),
        "mean",
        FILTERS["oi-lagrange"],
        ensemble=False,
    ),
    # One forecast for all samples unless each restarts its own.
    "lr": PriorKind(lambda setup, members, _, restart: lr_prior(setup, members if restart == "each" else 1), "each"),
}
"""Priors by name."""


def register_prior(name: str, kind: PriorKind) -> None:
    """Make a prior known by a name; ValueError for a name that is taken."""
    if name in PRIORS:
        raise ValueError(f"register_prior: {name!r} is taken; choose another name")
    PRIORS[name] = kind


class PriorChoice(Protocol):
    """The part of a `DiffSRDAConfig` that says which prior it has."""

    @property
    def prior(self) -> str: ...

    @property
    def restart(self) -> str: ...

    @property
    def members(self) -> int: ...


def make_prior(setup: Setup, config: PriorChoice, params: FilterParams | None = None) -> Prior:
    """The prior of a configuration, with as many cheap members as samples.

    params: the traced numbers of its filter, by default those of its tuning.
    """
    kind = PRIORS[config.prior]
    if params is None and kind.filter is not None:
        params = filter_params(kind.filter, setup.dtype)
    return kind.make(setup, config.members, params, config.restart)
