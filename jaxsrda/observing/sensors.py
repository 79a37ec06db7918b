"""Which observations a twin experiment meets: made from truths, checked, and some of them kept to verify with."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.testbed import FRAMES_PER_CYCLE
from jaxsrda.observing.layouts import Layout
from jaxsrda.observing.observations import Observations, observe_run, predict, with_guides
from jaxsrda.observing.operators import Operator


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
