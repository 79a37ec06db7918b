"""Joint scores of a frame: how an ensemble's errors hang together in space and time, which points alone cannot tell.

Noise of the right size at each point has the CRPS and the spread of any model; only functionals of many points tell it
from fields.  Ensembles are ω[M, nx, ny], truths ω[nx, ny]; what is a mean or a difference of vorticity has its units.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.core.linalg import matmul
from jaxsrda.core.roots import sqrt
from jaxsrda.flow.grid import ChannelGrid, bases, to_physical, to_spectral
from jaxsrda.scoring.point import Score, Scored, check_ensemble, crps, expected_error, rmse

BLOCKS = (4, 8, 16)
"""Sides of the blocks whose means are scored, in grid points."""

VARIOGRAM_ORDER = 0.5

VARIOGRAM_STEPS = (1, 2, 4, 8, 16)
"""Distances of the variogram's pairs along x and along y, in grid points."""


# Functionals of a field -----------------------------------------------------------------------


def block_means(fields: Array, size: int) -> Array:
    """Means over size × size points of fields (…, nx, ny); rows and columns beyond whole blocks are left out, among
    them the far wall's."""
    *lead, nx, ny = fields.shape
    columns, rows = nx // size, (ny - 1) // size
    inner = fields[..., : columns * size, : rows * size]
    return inner.reshape(*lead, columns, size, rows, size).mean((-3, -1))


def differences(fields: Array) -> Array:
    """ω(x + dx, y) − ω(x, y) of fields (…, nx, ny), periodic: the gradient along x times dx."""
    return jnp.roll(fields, -1, axis=-2) - fields


def laplacian(fields: Array) -> Array:
    """∇²ω of fields (M, nx, ny) on the channel, by their modes."""
    grid = ChannelGrid(*fields.shape[-2:])
    k2 = jnp.asarray(bases(grid).k2, fields.dtype)
    return jax.vmap(lambda field: to_physical(grid, -k2 * to_spectral(grid, field)))(fields)


# Scores ---------------------------------------------------------------------------------------


def energy_score(ensemble: Array, truth: Array) -> Array:
    """Fair energy score E‖x − y‖ − ½ E‖x − x′‖, ‖·‖ the root mean square over the points: the CRPS of whole fields.

    Gneiting & Raftery (2007, doi:10.1198/016214506000001437, eq. 22).
    """
    members = check_ensemble(ensemble, truth)
    off = (ensemble - truth[None]).reshape(members, -1)
    skill = sqrt((off * off).mean(1)).mean()
    if members == 1:
        return skill
    # Distances of pairs from scalar products: ‖a − b‖² = ‖a‖² + ‖b‖² − 2 a·b.
    products = matmul(off, off.T) / off.shape[1]
    sizes = jnp.diagonal(products)
    apart = sqrt(jnp.maximum(sizes[:, None] + sizes[None] - 2 * products, 0) * (1 - jnp.eye(members, dtype=off.dtype)))
    return skill - apart.sum() / (2 * members * (members - 1))


def variogram_score(ensemble: Array, truth: Array, order: float = VARIOGRAM_ORDER) -> Array:
    """Variogram score of pairs along x and along y, <(|y_a − y_b|^p − mean_i |x_ia − x_ib|^p)²>, p = `order`.

    Pairs are all those `VARIOGRAM_STEPS` apart, each distance and direction with the same weight.
    Scheuerer & Hamill (2015, doi:10.1175/MWR-D-14-00269.1).
    """
    check_ensemble(ensemble, truth)
    fields = jnp.concatenate([truth[None], ensemble])
    parts = []
    for step in VARIOGRAM_STEPS:
        pairs = [jnp.roll(fields, -step, axis=1) - fields]
        if step < fields.shape[2]:
            pairs.append(fields[:, :, step:] - fields[:, :, :-step])
        for apart in pairs:
            size = jnp.abs(apart)
            # Written so that the slope at zero is zero, not NaN.
            powers = jnp.where(size > 0, jnp.where(size > 0, size, 1) ** order, 0)
            parts.append(jnp.mean((powers[0] - powers[1:].mean(0)) ** 2))
    return jnp.stack(parts).mean()


def change_crps(of: Scored) -> Array:
    """CRPS of the change since the first frame of the cycle, which is zero for that frame itself."""
    if of.first is None:
        raise ValueError("crps_change: expected the first frame of the cycle, got none; score whole cycles")
    ensemble, truth = of.first
    return crps(of.ensemble - ensemble, of.truth - truth)


def blocks(of: Scored, size: int) -> Scored:
    """The means of blocks, as something that is scored."""
    analysis = None if of.analysis is None else block_means(of.analysis, size)
    return Scored(block_means(of.ensemble, size), block_means(of.truth, size), of.span, analysis)


def _laplacian_rmse(of: Scored) -> Array:
    estimate, truth = laplacian(jnp.stack([of.best, of.truth]))
    return rmse(estimate, truth)


def _block_scores() -> dict[str, Score]:
    scores: dict[str, Score] = {}
    for size in BLOCKS:
        scores[f"crps_block{size}"] = lambda of, n=size: crps(blocks(of, n).ensemble, blocks(of, n).truth)
        # Sums over frames of both, whose ratio is the spread–skill of blocks.
        scores[f"variance_block{size}"] = lambda of, n=size: expected_error(
            blocks(of, n).ensemble, blocks(of, n).analysis
        )
        scores[f"error_block{size}"] = lambda of, n=size: jnp.mean((blocks(of, n).best - blocks(of, n).truth) ** 2)
    return scores


JOINT_SCORES: dict[str, Score] = {
    "energy": lambda of: energy_score(of.ensemble, of.truth),
    "variogram": lambda of: variogram_score(of.ensemble, of.truth),
    **_block_scores(),
    "crps_gradient": lambda of: crps(differences(of.ensemble), differences(of.truth)),
    "crps_laplacian": lambda of: crps(laplacian(of.ensemble), laplacian(of.truth[None])[0]),
    "crps_change": change_crps,
    "laplacian_rmse": _laplacian_rmse,
}
"""Joint scores of a frame by name, on request (`Experiment.joint`)."""
