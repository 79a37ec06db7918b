"""Which observations a twin experiment meets: made from truths, checked, and some of them kept to verify with."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.config import DiffSRDAConfig, FilterConfig
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.testbed import FRAMES_PER_CYCLE
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
    **options: object,
) -> None:
    """ValueError for sensors that would guide nothing, and for a guidance, or options of guides, without sensors.

    assimilated: the second set of sensors is assimilated like the first.  options: None where not given.
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
    elif guidance == "none" and own is not None and own.guides is not None:
        raise ValueError(
            f"observations.guides: {method} is not guided; choose a guidance, or guides_assimilated to assimilate them"
        )
    if guides is not None and own is not None:
        raise ValueError(
            "guide_layout: with your own observations, mark those that guide in them (Observations.guides)"
        )
    new = guides is not None or (own is not None and own.guides is not None)
    for name, given in options.items():
        if given is not None and not new:
            raise ValueError(f"{name}: there are no further sensors that it could be of; give a guide_layout")
    if guidance != "none" and not new and isinstance(config, DiffSRDAConfig) and config.guide_on == "new":
        raise ValueError(
            f"guidance: {guidance} has no new sensors to follow; give a guide_layout, or guide_on all to use those of "
            "layout again"
        )


def check_operator(name: str, operator: Operator, grid: ChannelGrid, differentiable: bool) -> None:
    """ValueError unless a user's operator gives finite numbers, one a sensor, and derivatives if asked for."""
    smooth, _, positions = probe(grid)
    kind = "differentiable function" if differentiable else "function"
    steepest = 0.0
    for count, strength in ((3, 1.0), (2, 8.0), (2, -8.0)):  # a sensor may have a threshold

        def see(omega: Array, at: Array = positions[:count]) -> Array:
            return operator(grid, omega, at)

        try:
            values, slope = jnp.asarray(jax.jit(see)(strength * smooth)), 0.0
            if differentiable:
                slope = jax.vjp(see, strength * smooth)[1](jnp.ones_like(values))[0]
        except Exception as error:  # whatever a user's function raises
            raise ValueError(
                f"{name}: expected a {kind} (grid, omega, positions) → values of JAX arrays, got {error!r}"
            ) from None
        if values.shape != (count,):
            raise ValueError(f"{name}: expected one value a sensor, {(count,)}, got shape {values.shape}")
        if not (np.isfinite(values).all() and np.isfinite(slope).all()):
            raise ValueError(
                f"{name}: expected finite values and derivatives on a smooth field of vorticity up to "
                f"{float(jnp.abs(strength * smooth).max()):.2g}, got NaN or infinity"
            )
        steepest = max(steepest, float(np.abs(slope).max()))
    if differentiable and steepest == 0:
        raise ValueError(
            f"{name}: its derivative is zero everywhere, so that it cannot guide; expected a {kind}, not one that "
            "rounds, compares or stops gradients"
        )


def check_values(observed: Observations) -> None:
    """ValueError for observations made of truths that are not finite, by an operator that does not bear them."""
    on = observed.mask if observed.guides is None else observed.mask | observed.guides
    if bad := int((on & ~jnp.isfinite(observed.values)).sum()):
        raise ValueError(
            f"measure, guide_measure: {bad} of {int(on.sum())} observations of the truth are NaN or infinite; expected "
            "operators that are finite for all vorticities"
        )


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
