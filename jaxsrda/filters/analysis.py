"""Ensemble analyses in observation space: localization, EnKF, ETKF, LETKF, EnSF.

Ensembles are (M, nx, ny); `predicted` (M, p) is the ensemble seen through the observation operator.
No state × state matrix is ever formed, and of an array (grid points, sensors) at most `AT_ONCE` numbers at a time: the
EnKF's largest are then its (sensors, sensors) covariances.  Masked sensors have no effect, so a time without
observations returns the background.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.core import draws
from jaxsrda.core.checks import check_shape
from jaxsrda.core.linalg import cholesky, matmul, solve
from jaxsrda.core.roots import inverse_root, shrinkage, sqrt
from jaxsrda.filters.config import FilterParams
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.observing.geometry import distance, grid_positions
from jaxsrda.observing.observations import Observations

# Localization ---------------------------------------------------------------------------------


def gaspari_cohn(r: Array) -> Array:
    """Compactly supported fifth-order weight ρ(r), r = distance / half-width, zero for r ≥ 2.

    Gaspari & Cohn (1999, doi:10.1002/qj.49712555417, eq. 4.10).
    """
    s = jnp.minimum(r, 2.0)
    near = ((((-s / 4 + 0.5) * s + 0.625) * s - 5 / 3) * s * s) + 1
    # The outer branch factored, so that it vanishes at 2 without rounding; its 1/r kept away from zero.
    t = jnp.maximum(s, 1.0)
    far = (2 - t) ** 4 * ((2 * t + 4) * t - 1) / (24 * t)
    return jnp.where(s <= 1, near, far)


def localization(a: Array, b: Array, half_width: Array) -> Array:
    """Gaspari–Cohn weights (n, p) between positions; an infinite half-width localizes nothing."""
    return gaspari_cohn(distance(a, b) / half_width)


# Analyses -------------------------------------------------------------------------------------

AT_ONCE = 2**23
"""Numbers, of an array with a row for each grid point, that an analysis holds at once (32 MiB in float32)."""

LEAST_VARIANCE = 1e-4
"""Least variance of an observation relative to the background's: one sensor shrinks a spread at most 100-fold."""

LOCAL = 24
"""Sensors that a column of the LETKF takes, the nearest."""

OUT_OF_REACH = 1e3
"""Distance of a masked sensor: beyond any localization, and finite for derivatives."""


class Departures(NamedTuple):
    """What an analysis needs of the observations, masked slots made harmless.

    anomalies: (M, p) of the predicted ensemble; innovation: (p,) y − mean; variance: (p,) of R.
    """

    anomalies: Array
    innovation: Array
    variance: Array


def departures(predicted: Array, observations: Observations, params: FilterParams) -> Departures:
    """Anomalies, innovation and R in observation space; a masked sensor has no anomalies and no innovation.

    R = (assumed_std² if that is above 0, else each sensor's variance) + representativeness, and at least
    `LEAST_VARIANCE` times the largest variance of the predicted ensemble: duplicates of precise sensors stay tractable.
    """
    check_shape("predicted", predicted, (None, observations.capacity))
    mask = observations.mask
    mean = predicted.mean(0)
    own = jnp.where(params.assumed_std > 0, params.assumed_std**2, observations.variance)
    anomalies = jnp.where(mask[None], predicted - mean[None], 0)
    least = LEAST_VARIANCE * jnp.max(jnp.sum(anomalies**2, 0), initial=0) / (len(predicted) - 1)
    return Departures(
        anomalies,
        jnp.where(mask, observations.values - mean, 0),
        jnp.where(mask, jnp.maximum(own + params.representativeness, least), 1),
    )


def points_at_once(row: int, points: int) -> int:
    """How many grid points of `points` go side by side if each takes `row` numbers: `AT_ONCE` in all."""
    return min(max(AT_ONCE // max(row, 1), 1), points)


def gain_increments(
    anomalies: Array, seen: Departures, innovations: Array, here: Array, sensors: Array, half_width: Array
) -> Array:
    """Kalman increments (n, m) for innovations (p, m): (ρ∘P Hᵀ)(ρ∘H P Hᵀ + R)⁻¹ d, by Cholesky.

    anomalies: (M, n) of the state at positions here (n, 2); sensors: their positions (p, 2); half_width: of ρ.  Where
    ρ∘P Hᵀ (n, p) has more than `AT_ONCE` numbers its rows go in batches.
    """
    dof = anomalies.shape[0] - 1
    between = localization(sensors, sensors, half_width)
    lower = cholesky(between * matmul(seen.anomalies.T, seen.anomalies) / dof + jnp.diag(seen.variance))
    weights = solve(lower, solve(lower, innovations), transposed=True)

    def rows(anomalies: Array, here: Array) -> Array:
        return matmul(localization(here, sensors, half_width) * matmul(anomalies, seen.anomalies) / dof, weights)

    batch = points_at_once(len(sensors), len(here))
    if batch == len(here):
        return rows(anomalies.T, here)

    @jax.checkpoint  # a derivative would keep every batch's covariances
    def row(point: tuple[Array, Array]) -> Array:
        return rows(*(part[None] for part in point))[0]

    return jax.lax.map(row, (anomalies.T, here), batch_size=batch)


def perturbations(key: Array, members: int, seen: Departures) -> Array:
    """Observation perturbations (M, p) ~ N(0, R) with mean zero over the members."""
    noise = draws.normal(key, (members, len(seen.variance)), seen.variance.dtype)
    return (noise - noise.mean(0, keepdims=True)) * jnp.sqrt(seen.variance)[None]


Analysis = Callable[[Array, ChannelGrid, Array, Array, Observations, FilterParams], Array]


def enkf(
    key: Array, grid: ChannelGrid, ensemble: Array, predicted: Array, observations: Observations, params: FilterParams
) -> Array:
    """Stochastic EnKF with perturbed observations: x_i ← x_i + K (y + ε_i − H x_i).

    Burgers, van Leeuwen & Evensen (1998, doi:10.1175/1520-0493(1998)126<1719:ASITEK>2.0.CO;2), with the
    covariances localized as in Houtekamer & Mitchell (2001,
    doi:10.1175/1520-0493(2001)129<0123:ASEKFF>2.0.CO;2).  ensemble (M, nx, ny) → (M, nx, ny).
    """
    members = ensemble.shape[0]
    seen = departures(predicted, observations, params)
    states = ensemble.reshape(members, -1)
    innovations = seen.innovation[None] + perturbations(key, members, seen) - seen.anomalies
    increments = gain_increments(
        states - states.mean(0, keepdims=True),
        seen,
        jnp.where(observations.mask[None], innovations, 0).T,
        grid_positions(grid, ensemble.dtype),
        observations.positions,
        params.localization,
    )
    return ensemble + increments.T.reshape(ensemble.shape)


def square_root_update(anomalies: Array, scaled: Array, innovation: Array) -> tuple[Array, Array]:
    """Mean increment and anomalies of the symmetric square-root filter, for state columns (M, n).

    With Y = `scaled` = R^{-1/2} H X′ / √(M−1), (M, p), and d = `innovation` = R^{-1/2}(y − H x̄), (p,):
    x̄ ← x̄ + X′ᵀ Y (I + YᵀY)⁻¹ d / √(M−1),   X′ ← (I + YYᵀ)^{-1/2} X′,
    with M × M matrices, or with p × p ones where these are smaller: then (I + YYᵀ)^{-1/2} = I + Y G Yᵀ (`shrinkage`).
    Hunt, Kostelich & Szunyogh (2007, doi:10.1016/j.physd.2006.11.008, eqs. 20–24).
    """
    members, sensors = scaled.shape
    if sensors < members:
        inverse, shrink = shrinkage(matmul(scaled.T, scaled))
        projected = matmul(scaled.T, anomalies)  # (p, n)
        mean = matmul(matmul(innovation[None], inverse), projected)[0]
        updated = anomalies + matmul(matmul(scaled, shrink), projected)
    else:
        root = inverse_root(jnp.eye(members, dtype=scaled.dtype) + matmul(scaled, scaled.T))
        updated = matmul(root, anomalies)
        mean = matmul(matmul(matmul(scaled, innovation[:, None]).T, root), updated)[0]
    return mean / math.sqrt(members - 1), updated


def whitened(predicted: Array, observations: Observations, params: FilterParams) -> tuple[Array, Array]:
    """Anomalies R^{-1/2} H X′ / √(M−1), (M, p), and innovation R^{-1/2}(y − H x̄), (p,), for square-root filters."""
    seen = departures(predicted, observations, params)
    deviation = jnp.sqrt(seen.variance)
    return seen.anomalies / deviation[None] / math.sqrt(predicted.shape[0] - 1), seen.innovation / deviation


def etkf(
    key: Array, grid: ChannelGrid, ensemble: Array, predicted: Array, observations: Observations, params: FilterParams
) -> Array:
    """Ensemble transform Kalman filter, deterministic and global (no localization).

    Bishop, Etherton & Majumdar (2001, doi:10.1175/1520-0493(2001)129<0420:ASWTET>2.0.CO;2); symmetric root of Hunt et
    al. (2007, doi:10.1016/j.physd.2006.11.008).  (M, nx, ny) → (M, nx, ny).
    """
    states = ensemble.reshape(ensemble.shape[0], -1)
    mean = states.mean(0, keepdims=True)
    increment, anomalies = square_root_update(states - mean, *whitened(predicted, observations, params))
    return (mean + increment[None] + anomalies).reshape(ensemble.shape)


def letkf(
    key: Array,
    grid: ChannelGrid,
    ensemble: Array,
    predicted: Array,
    observations: Observations,
    params: FilterParams,
    local: int = LOCAL,
) -> Array:
    """Local ETKF: an ETKF at each grid point from its `local` nearest sensors, R divided by ρ.

    Hunt, Kostelich & Szunyogh (2007, doi:10.1016/j.physd.2006.11.008).  (M, nx, ny) → (M, nx, ny).
    """
    states = ensemble.reshape(ensemble.shape[0], -1)
    mean = states.mean(0, keepdims=True)
    scaled, innovation = whitened(predicted, observations, params)
    sensors = min(local, observations.capacity)

    @jax.checkpoint  # a derivative would keep every iteration of every column's root
    def column(point: tuple[Array, Array]) -> tuple[Array, Array]:
        anomalies, here = point
        away = jnp.where(observations.mask, distance(here[None], observations.positions)[0], OUT_OF_REACH)
        nearness, nearest = jax.lax.top_k(-away, sensors)
        taper = sqrt(jnp.where(observations.mask[nearest], gaspari_cohn(-nearness / params.localization), 0))
        increment, updated = square_root_update(
            anomalies[:, None], scaled[:, nearest] * taper[None], innovation[nearest] * taper
        )
        return increment[0], updated[:, 0]

    # Of each column its sensors' distances, their anomalies, and some small square matrices.
    batch = min(points_at_once(observations.capacity + 4 * sensors * len(ensemble), states.shape[1]), grid.ny)
    columns = (states - mean).T, grid_positions(grid, ensemble.dtype)
    increment, anomalies = jax.lax.map(column, columns, batch_size=batch)
    return (mean + increment[None] + anomalies.T).reshape(ensemble.shape)


def ensf(
    key: Array,
    grid: ChannelGrid,
    ensemble: Array,
    predicted: Array,
    observations: Observations,
    params: FilterParams,
    steps: int = 100,
) -> Array:
    """Ensemble score filter: reverse diffusion with the ensemble's own Monte-Carlo score, no training.

    α_t = 1 − 0.95 t, β_t² = t;  score = −Σ_j w_j (z − α_t x_j)/β_t² + (1 − t) ∇ log p(y | z), Euler in t.
    Bao, Zhang & Zhang (2024, arXiv:2309.00983, eqs. 18–26).  The likelihood acts through nearest grid
    points, so the operator must be vorticity.  (M, nx, ny) → (M, nx, ny).
    """
    members = ensemble.shape[0]
    seen = departures(predicted, observations, params)
    scale = ensemble.std()
    states = ensemble.reshape(members, -1) / scale
    dx, dy = grid.spacing
    i = jnp.rint(observations.positions[:, 0] / dx).astype(jnp.int32) % grid.nx
    index = i * grid.ny + jnp.rint(observations.positions[:, 1] / dy).astype(jnp.int32)
    # Sensors that share a grid point act as one, of their summed precision and weighted mean.
    each = jnp.where(observations.mask, scale**2 / seen.variance, 0)
    weighted = each * jnp.where(observations.mask, observations.values / scale, 0)
    precision, values = (jnp.zeros_like(states[0]).at[index].add(a) for a in (each, weighted))
    values = jnp.where(precision > 0, values / jnp.where(precision > 0, precision, 1), 0)
    dt = 1.0 / steps
    start_key, noise_key = jax.random.split(key)

    def reverse(z: Array, k: Array):
        t = 1 - k.astype(z.dtype) * dt
        alpha, beta2 = 1 - 0.95 * t, t
        drift, diffusion2 = -0.95 / alpha, 1 + 2 * 0.95 / alpha * t
        centres = alpha * states
        square = jnp.sum(z * z, 1)[:, None] - 2 * matmul(z, centres.T) + jnp.sum(centres * centres, 1)[None]
        weights = jax.nn.softmax(-square / (2 * beta2), axis=1)
        score = (matmul(weights, centres) - z) / beta2
        # A likelihood step longer than the distance to the datum would overshoot it.
        pull = jnp.minimum((1 - t) * precision, 1 / (diffusion2 * dt))
        score = score + pull[None] * (values[None] - z)
        noise = draws.normal(jax.random.fold_in(noise_key, k), z.shape, z.dtype)
        return z - dt * (drift * z - diffusion2 * score) + jnp.sqrt(diffusion2 * dt) * noise, None

    z = draws.normal(start_key, states.shape, states.dtype)
    z, _ = jax.lax.scan(reverse, z, jnp.arange(steps, dtype=jnp.int32))
    updated = (scale * z).reshape(ensemble.shape).at[:, :, jnp.array([0, -1])].set(0.0)
    return jnp.where(observations.mask.any(), updated, ensemble)


ANALYSES: dict[str, Analysis] = {"enkf": enkf, "etkf": etkf, "letkf": letkf, "ensf": ensf}
