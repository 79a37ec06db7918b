"""Lagrangian forecasts: a fine vorticity field is carried along trajectories of a coarse model's velocity.

Vorticity is stirred by the large scales, which a coarse model holds, so a fine field can be forecast without any
tendency on its grid.  Contour-advective semi-Lagrangian idea: Dritschel & Ambaum (1997, doi:10.1002/qj.49712354015);
fine tracers from coarse winds: Waugh & Plumb (1994).  Displacements are pairs (δx, δy) of fields in units of length,
δx even about the walls and δy odd, like u and v.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core.linalg import matmul
from jaxsrda.flow.forecasts import Forecast, ForecastModel, spectral
from jaxsrda.flow.grid import ChannelGrid, bicubic_matrices, regrid_hat, to_physical, to_spectral, velocity
from jaxsrda.flow.solver import FlowParams, Speeds, damping, etdrk4, phi_functions, rollout, speeds
from jaxsrda.flow.testbed import Level, Testbed

EVEN, ODD = 1, -1
PARITIES = (EVEN, ODD)
"""Of (u, v) and of displacements (δx, δy) about the walls."""

SUBSTEPS = 2
"""Substeps a frame by default: of `jet` two are better than one by a quarter, and three no better than two."""

EXPLICIT = 0.8
"""Share of the truths' ν that is left to damp explicitly by default: interpolation damps too.  Chosen in the cycle on
validation truths of `jet` (`benchmarks/tune_filters.py`)."""

Pair = tuple[Array, Array]


def lagrangian(
    testbed: Testbed,
    carried: Level | None = None,
    driver: Level | None = None,
    substeps: int = SUBSTEPS,
    viscosity: Any = None,
    corrector: bool = False,
) -> ForecastModel:
    """A field at the level `carried` (by default the analyses') moved by the velocity of `driver` (the forecasts').

    Each substep h = frame / substeps restarts the driver from the low-passed field, integrates it with its own ν, finds
    displacements δ (`displacement`), and carries the field (`transport`) with the viscosity given (a number or traced;
    by default `EXPLICIT` of that of the testbed's level of truths).  corrector: whether the velocity of scales that the
    driver does not hold adds to δ (`corrected`).  ValueError for fewer than 1 substep.
    """
    if substeps < 1:
        raise ValueError(f"substeps: expected at least 1 a frame, got {substeps}")
    carried = testbed.analysis if carried is None else carried
    driver = testbed.forecast if driver is None else driver
    own = EXPLICIT * testbed.truth.viscosity
    carried = dataclasses.replace(carried, viscosity=own if viscosity is None else viscosity)
    fine, coarse = carried.grid, driver.grid
    h = testbed.frame / substeps
    # Trajectories ask for the velocity at both ends and in the middle of a substep.
    inner = -(-driver.steps // (2 * substeps))

    def substep(params: FlowParams, drive: Callable, omega_hat: Array) -> Array:
        start = regrid_hat(fine, coarse, omega_hat)
        _, later = drive(start)
        shift = displacement(coarse, velocity(coarse, start), *(velocity(coarse, state) for state in later), h)
        if corrector:
            return transport(fine, params, h, omega_hat, corrected(fine, coarse, params, h, omega_hat, later[1], shift))
        return transport(fine, params, h, omega_hat, to_grid(coarse, fine, shift))

    def forecast(omega_hat: Array) -> Forecast:
        dtype = omega_hat.dtype
        params = testbed.flow_params(carried, dtype)
        drive = rollout(etdrk4(coarse, testbed.flow_params(driver, dtype), h / (2 * inner)), inner, 2)

        def frame(states: Array, _: None) -> tuple[Array, Array]:
            return jax.lax.fori_loop(0, substeps, lambda _, s: jax.vmap(one)(s), states), states

        one = functools.partial(substep, params, drive)
        ahead, frames = jax.lax.scan(frame, omega_hat, None, length=testbed.frames_per_cycle)
        every = jnp.concatenate([frames, ahead[None]])
        return Forecast(jnp.swapaxes(frames, 0, 1), ahead, jax.lax.map(top_speeds, every))

    def top_speeds(states: Array) -> Speeds:
        """Those that move the field: the driver's."""
        each = jax.vmap(lambda state: speeds(coarse, regrid_hat(fine, coarse, state)))(states)
        return jax.tree.map(lambda values: values.max(0), each)

    return spectral(testbed, carried)._replace(forecast=forecast)


def displacement(grid: ChannelGrid, start: Pair, middle: Pair, end: Pair, h: float) -> Pair:
    """Displacements (δx, δy) on the grid: the fluid at x at the end of a substep h was at x + δ at its start.

    One backward step of the classical Runge–Kutta scheme for dX/dt = u(X, t), with velocities (u, v) at the start, in
    the middle and at the end: its first slope is the velocity on the grid itself, so three interpolations do.
    """

    # A scan, because XLA on CPU would fuse each stage into all 32 reads of the next one (nine times as slow).
    def stage(slope: Pair, now: tuple[Pair, Array]) -> tuple[Pair, Pair]:
        velocities, back = now
        slope = interpolate_pair(grid, velocities, (-back * slope[0], -back * slope[1]))
        return slope, slope

    back = jnp.asarray([h / 2, h / 2, h], end[0].dtype)
    later = jax.tree.map(lambda a, b: jnp.stack([a, a, b]), middle, start)
    _, slopes = jax.lax.scan(stage, end, (later, back))
    x, y = (-h / 6 * (one + 2 * k[0] + 2 * k[1] + k[2]) for one, k in zip(end, slopes))
    return x, y


def transport(grid: ChannelGrid, params: FlowParams, h: float, omega_hat: Array, shift: Pair) -> Array:
    """Amplitudes [2K+1, L] a time h later of vorticity that came the way (δx, δy).

    ω(x, t + h) = e^(z h) [ω(x + δ, t) + h/2 F(y + δy)] + β δy φ1(−r h) + h/2 F(y),  z = −r − ν k⁴.
    """
    # Along a trajectory Y(s), d(e^{rs} ω)/ds = e^{rs} (F(Y) − β Y').  The trapezoidal rule for F takes h/2 at both
    # ends, decayed from the first; a constant Y' = −δy/h makes the last term β δy/h ∫ e^{−r(h−s)} ds = β δy φ1(−rh).
    # Hyperviscosity acts on modes and joins the decay.  F at departure points needs no evaluation of its own:
    # it is interpolated together with ω.
    forcing = h / 2 * params.forcing
    moved = interpolate(grid, to_physical(grid, omega_hat.at[0].add(forcing)), shift, ODD)
    planetary = params.beta * phi_functions(-params.drag * h)[0] * jnp.exp(params.drag * h)
    decay = jnp.exp(h * damping(grid, params))
    return (decay * to_spectral(grid, moved + planetary * shift[1])).at[0].add(forcing)


def corrected(
    fine: ChannelGrid, coarse: ChannelGrid, params: FlowParams, h: float, omega_hat: Array, end: Array, shift: Pair
) -> Pair:
    """Displacements on `fine` with the velocity u′ of scales beyond the driver: predictor and corrector.

    Strang splitting of the backward flow: half a step with u′ at the end (of a predicted field less the driver's,
    `end`), the driver's displacement `shift` on `coarse`, half a step with u′ at the start.  u′ holds the scales up to
    twice the driver's resolution: ω is less and less needed for velocity as scales get finer (u ~ ω/k).
    """
    between = ChannelGrid(min(2 * coarse.nx, fine.nx), min(2 * coarse.ny - 1, fine.ny))
    params = dataclasses.replace(params, forcing=params.forcing[: between.lmax])
    start_hat = regrid_hat(fine, between, omega_hat)
    driven = to_grid(coarse, between, shift)
    predicted = transport(between, params, h, start_hat, driven)
    large = regrid_hat(coarse, between, regrid_hat(fine, coarse, omega_hat))
    after = velocity(between, predicted - regrid_hat(coarse, between, end))
    before = velocity(between, start_hat - large)
    halves = [(-h / 2 * u, -h / 2 * v) for u, v in (after, before)]

    def follow(way: Pair, part: Pair) -> tuple[Pair, None]:
        more = interpolate_pair(between, part, way)
        return (way[0] + more[0], way[1] + more[1]), None

    way, _ = jax.lax.scan(follow, halves[0], jax.tree.map(lambda a, b: jnp.stack([a, b]), driven, halves[1]))
    return to_grid(between, fine, way)


# Interpolation --------------------------------------------------------------------------------


def interpolate_pair(grid: ChannelGrid, pair: Pair, shift: Pair) -> Pair:
    """Both parts of a vector field (u, v) or (δx, δy) at x + δ; see `interpolate`."""
    return interpolate(grid, pair[0], shift, EVEN), interpolate(grid, pair[1], shift, ODD)


def interpolate(grid: ChannelGrid, field: Array, shift: Pair, parity: int) -> Array:
    """field(x + δx, y + δy) [nx, ny] by cubic convolution of 4 × 4 points, third order.

    The field is periodic in x, and even (parity 1) or odd (−1) about the walls.  Positions more than a cell beyond a
    wall, and any that are not numbers, are read from some cell of the grid.
    Keys (1981, doi:10.1109/TASSP.1981.1163711), a = −1/2.
    """
    dtype, (dx, dy) = field.dtype, grid.spacing
    x = jnp.asarray(np.arange(grid.nx)[:, None], dtype) + shift[0] / dx
    y = jnp.asarray(np.arange(grid.ny)[None], dtype) + shift[1] / dy
    cell_x, cell_y = jnp.floor(x), jnp.floor(y)
    # A frame of ghost points, 1 and 2 in x and 2 on either side in y, so that no point of the 4 × 4 needs wrapping.
    field = jnp.concatenate([parity * field[:, 2:0:-1], field, parity * field[:, -2:-4:-1]], axis=1)
    flat = jnp.concatenate([field[-1:], field, field[:2]]).ravel()
    row, width = jnp.mod(cell_x.astype(jnp.int32), grid.nx), grid.ny + 4
    corner = row * width + jnp.clip(cell_y.astype(jnp.int32) + 1, 0, grid.ny)
    in_x, in_y = keys_weights(x - cell_x), keys_weights(y - cell_y)
    # One index and 16 offsets into a flat array, all in bounds: on CPU twelve times as fast as a gather of slices.
    total = jnp.zeros_like(x)
    for i, a in enumerate(in_x):
        taps = (flat.at[corner + (i * width + j)].get(mode="promise_in_bounds") for j in range(4))
        total += a * sum(b * tap for b, tap in zip(in_y, taps))
    return total


def keys_weights(t: Array) -> tuple[Array, Array, Array, Array]:
    """Weights of the points −1, 0, 1, 2 for a position t in [0, 1]."""
    return (
        ((1 - t / 2) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((2 - 1.5 * t) * t + 0.5) * t,
        (t - 1) * t * t / 2,
    )


def to_grid(source: ChannelGrid, target: ChannelGrid, pair: Pair) -> Pair:
    """A vector field (u, v) or (δx, δy) brought to another grid by cubic convolution."""

    def one(field: Array, parity: int) -> Array:
        in_x, in_y = bicubic_matrices(source, target, parity)
        return matmul(in_x, matmul(field, in_y.T))

    return pair if source == target else (one(pair[0], EVEN), one(pair[1], ODD))
