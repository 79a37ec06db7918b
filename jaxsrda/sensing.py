"""Which observations a twin experiment meets: made from truths, checked, and some of them kept to verify with."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.config import FRAMES_PER_CYCLE, DiffSRDAConfig, FilterConfig
from jaxsrda.grid import ChannelGrid
from jaxsrda.layouts import Layout
from jaxsrda.observations import Observations, Operator, observe_run, predict, probe, with_guides


class Sensors(NamedTuple):
    """Where sensors are, what they measure, and the standard deviation of their noise."""

    layout: Layout
    operator: Operator
    std: float


def observe_truths(
    keys: Array, grid: ChannelGrid, truths: Array, sensors: Sensors, guides: Sensors | None = None
) -> Observations:
    """Observations (truths, cycles, p) of truths (truths, frames, nx, ny), one key each; guides: further sensors.

    The first set is the same whatever guides.
    """

    def one(key: Array, frames: Array) -> Observations:
        own = observe_run(key, grid, sensors.layout, frames, FRAMES_PER_CYCLE, sensors.std, sensors.operator)
        if guides is None:
            return own
        key = jax.random.fold_in(key, 0x67)
        return with_guides(
            own, observe_run(key, grid, guides.layout, frames, FRAMES_PER_CYCLE, guides.std, guides.operator)
        )

    return jax.jit(jax.vmap(one))(keys, truths)


def check_guidance(
    method: str,
    config: FilterConfig | DiffSRDAConfig,
    guides: Layout | None,
    own: Observations | None,
    assimilated: bool = False,
) -> None:
    """ValueError for sensors that would guide nothing, and for a guidance without sensors.

    assimilated: the second set of sensors is assimilated like the first.
    """
    guidance = config.guidance if isinstance(config, DiffSRDAConfig) else "none"
    if assimilated:
        if guidance != "none":
            raise ValueError(
                f"guides_assimilated: sensors are assimilated or they guide, got guidance {guidance}; set it to none"
            )
        if guides is None and (own is None or own.guides is None):
            raise ValueError("guides_assimilated: there are no further sensors; give a guide_layout")
    elif guides is not None and guidance == "none":
        raise ValueError(f"guide_layout: {method} is not guided; choose a guidance, or put these sensors into layout")
    if guides is not None and own is not None:
        raise ValueError(
            "guide_layout: with your own observations, mark those that guide in them (Observations.guides)"
        )
    new = guides is not None or (own is not None and own.guides is not None)
    if guidance != "none" and not new and isinstance(config, DiffSRDAConfig) and config.guide_on == "new":
        raise ValueError(
            f"guidance: {guidance} has no new sensors to follow; give a guide_layout, or guide_on all to use those of "
            "layout again"
        )


def check_operator(name: str, operator: Operator, grid: ChannelGrid, differentiable: bool) -> None:
    """ValueError unless a user's operator gives finite numbers, one a sensor, and derivatives if asked for."""
    field, _, positions = probe(grid)

    def see(omega: Array) -> Array:
        return operator(grid, omega, positions)

    try:
        values, slope = jax.jit(see)(field), 0.0
        if differentiable:
            slope = jax.vjp(see, field)[1](jnp.ones_like(values))[0]
    except Exception as error:  # whatever a user's function raises
        kind = "differentiable function" if differentiable else "function"
        raise ValueError(
            f"{name}: expected a {kind} (grid, omega, positions) → values of JAX arrays, got {error!r}"
        ) from None
    if values.shape != (len(positions),):
        raise ValueError(f"{name}: expected one value a sensor, {(len(positions),)}, got shape {values.shape}")
    if not (np.isfinite(values).all() and np.isfinite(slope).all()):
        raise ValueError(f"{name}: expected finite values and derivatives on a smooth field, got NaN or infinity")


def assimilated(observed: Observations) -> Observations:
    """The observations with the second set assimilated like the first."""
    guides = observed.guides
    return observed if guides is None else observed._replace(mask=observed.mask | guides)


def split(observed: Observations, keys: Array, withhold: float) -> tuple[Observations, Observations]:
    """The observations (truths, cycles, p) to assimilate, and those to verify with."""
    shape = observed.mask.shape[1:]
    drawn = jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, 0x77), withhold, shape))(keys)
    held = observed.mask & drawn
    guides = None if observed.guides is None else observed.guides & ~held
    return observed._replace(mask=observed.mask & ~held, guides=guides), observed._replace(mask=held)


def misfit(
    grid: ChannelGrid,
    withheld: Observations,
    analyses: Array,
    operator: Operator,
    guide_operator: Operator | None = None,
) -> Array:
    """RMSE (truths,) of the mean analyses (truths, cycles, nx, ny) at the withheld sensors, from the second time on."""

    def squared(observed: Observations, omega: Array) -> tuple[Array, Array]:
        predicted = predict(grid, omega, observed, operator, guide_operator)
        error = jnp.where(observed.mask, predicted - observed.values, 0)
        return jnp.sum(error**2), observed.mask.sum()

    total, count = jax.jit(jax.vmap(jax.vmap(squared)))(withheld, analyses)
    return jnp.sqrt(total[:, 1:].sum(1) / jnp.maximum(count[:, 1:].sum(1), 1).astype(total.dtype))


def check_cycles(observations: Observations, truth: np.ndarray) -> None:
    cycles = truth.shape[1] // FRAMES_PER_CYCLE
    if observations.values.shape[0] != cycles or len(truth) != 1:
        raise ValueError(
            f"observations: expected {cycles} assimilation times, one each {FRAMES_PER_CYCLE} frames of one truth; got "
            f"{observations.values.shape[0]} for {len(truth)} truth(s)"
        )
