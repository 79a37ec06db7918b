"""Denoisers D(x, σ) ≈ E[x₀ | x₀ + σ ε = x], made from networks, and the regressions that train them.

Every parametrization is one row of a table: D(x, σ) = c_skip x + c_out F(c_in x, level), so network
and target follow from the same four numbers.  With a = √ᾱ = 1/√(1 + σ²):

    name      c_skip            c_out               c_in           level    F predicts
    noise     1                 −σ                  a              a        ε
    velocity  a²                −aσ                 a              a        a ε − aσ x₀
    data      0                 1                   a              a        x₀
    edm       σ_d²/(σ² + σ_d²)  σσ_d/√(σ² + σ_d²)   1/√(σ² + σ_d²)  ln(σ)/4  a residual of unit variance

noise: Ho et al. (2020, arXiv:2006.11239); velocity: Salimans & Ho (2022, arXiv:2202.00512, section 4);
edm: Karras et al. (2022, arXiv:2206.00364, table 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxsrda.core import draws
from jaxsrda.core.checks import check_choice, check_positive, check_shape
from jaxsrda.diffusion.schedules import VP_SCHEDULE, VPSchedule, noise_level

Denoiser = Callable[[Array, Array], Array]
"""D(x, σ) of one sample x of any shape and a scalar σ > 0: an estimate of E[x₀ | x_σ = x], shaped as x."""

Network = Callable[[Array, Array], Array]
"""F(c_in x, level) of one scaled sample and a scalar level, shaped as the sample."""

PARAMETRIZATIONS = ("noise", "velocity", "data", "edm")

SIGMA_DATA = 0.5
"""Standard deviation of the data taken by `edm` unless told (arXiv:2206.00364)."""


# Preconditioning ------------------------------------------------------------------------------


class Preconditioning(NamedTuple):
    """Scalars of D(x, σ) = skip x + out F(scale x, level); rest = 1 − skip without cancellation."""

    skip: Array
    rest: Array
    out: Array
    scale: Array
    level: Array


def preconditioning(parametrization: str, sigma: Array, sigma_data: float = SIGMA_DATA) -> Preconditioning:
    """The table's row at σ > 0; `sigma_data` matters to `edm` only.  ValueError for an unknown name."""
    check_choice("parametrization", parametrization, PARAMETRIZATIONS)
    sigma = jnp.asarray(sigma)
    one, a = jnp.ones_like(sigma), noise_level(sigma)
    if parametrization == "noise":
        return Preconditioning(one, 0 * one, -sigma, a, a)
    if parametrization == "velocity":
        return Preconditioning(a * a, (a * sigma) ** 2, -a * sigma, a, a)
    if parametrization == "data":
        return Preconditioning(0 * one, one, one, a, a)
    check_positive("sigma_data", sigma_data)
    inverse = (sigma * sigma + sigma_data**2) ** -0.5
    return Preconditioning(
        (sigma_data * inverse) ** 2, (sigma * inverse) ** 2, sigma * sigma_data * inverse, inverse, jnp.log(sigma) / 4
    )


def precondition(parametrization: str, network: Network, sigma_data: float = SIGMA_DATA) -> Denoiser:
    """The denoiser of a network trained in a parametrization, by name."""
    check_choice("parametrization", parametrization, PARAMETRIZATIONS)
    if parametrization == "edm":
        check_positive("sigma_data", sigma_data)

    def denoise(x: Array, sigma: Array) -> Array:
        c = preconditioning(parametrization, sigma, sigma_data)
        return c.skip * x + c.out * network(c.scale * x, c.level)

    return denoise


# Training -------------------------------------------------------------------------------------


def l1(predicted: Array, target: Array) -> Array:
    """Mean absolute difference."""
    return jnp.abs(predicted - target).mean()


def l2(predicted: Array, target: Array) -> Array:
    """Mean squared difference."""
    return ((predicted - target) ** 2).mean()


LOSSES: dict[str, Callable[[Array, Array], Array]] = {"l1": l1, "l2": l2}


def training_target(
    parametrization: str, x0: Array, noise: Array, sigma: Array, sigma_data: float = SIGMA_DATA
) -> Array:
    """What F should return for x = x₀ + σ ε: (x₀ − c_skip x)/c_out, shaped as x₀.

    x0, noise: of one shape; sigma: scalar.  Raises ValueError for an unknown name or unequal shapes.
    """
    check_shape("noise", noise, x0.shape)
    c = preconditioning(parametrization, sigma, sigma_data)
    return (c.rest * x0 - c.skip * sigma * noise) / c.out


def training_loss(
    parametrization: str,
    network: Network,
    x0: Array,
    noise: Array,
    sigma: Array,
    loss: str = "l2",
    sigma_data: float = SIGMA_DATA,
) -> Array:
    """Scalar loss of F(c_in (x₀ + σ ε), level) against its target, `l1` or `l2`, for one sample."""
    check_choice("loss", loss, LOSSES)
    target = training_target(parametrization, x0, noise, sigma, sigma_data)
    c = preconditioning(parametrization, sigma, sigma_data)
    return LOSSES[loss](network(c.scale * (x0 + sigma * noise), c.level), target)


def edm_loss_sigma(
    key: Array, shape: tuple[int, ...] = (), p_mean: float = -1.2, p_std: float = 1.2, dtype: DTypeLike = float
) -> Array:
    """Training noise levels, ln σ ~ N(p_mean, p_std²) (arXiv:2206.00364, table 1)."""
    return jnp.exp(p_mean + p_std * draws.normal(key, shape, dtype))


def vp_loss_sigma(
    key: Array, shape: tuple[int, ...] = (), schedule: VPSchedule = VP_SCHEDULE, dtype: DTypeLike = float
) -> Array:
    """Training noise levels σ_t, t uniform on the schedule (arXiv:2006.11239, algorithm 1)."""
    return jnp.asarray(schedule.sigmas(), dtype)[draws.integers(key, shape, 0, schedule.steps)]


# Exact ----------------------------------------------------------------------------------------


def gaussian_denoiser(mean: Array, eigenvectors: Array, variances: Array) -> Denoiser:
    """The exact denoiser of x₀ ~ N(m, V diag(λ) Vᵀ): D = m + V diag(λ/(λ + σ²)) Vᵀ (x − m).

    mean: any shape, of n numbers; eigenvectors (n, k): orthonormal columns over the flat sample;
    variances (k,) ≥ 0.  With k < n the law is degenerate in all other directions.  Bayes' rule for
    two Gaussians (Bishop 2006, eq. 2.116).  Raises ValueError for shapes that do not fit.
    """
    check_shape("eigenvectors", eigenvectors, (mean.size, None))
    check_shape("variances", variances, (eigenvectors.shape[1],))

    def denoise(x: Array, sigma: Array) -> Array:
        check_shape("x", x, mean.shape)
        seen = jnp.matmul((x - mean).ravel(), eigenvectors, precision="highest")
        shrunk = variances / (variances + sigma * sigma) * seen
        return mean + jnp.matmul(eigenvectors, shrunk, precision="highest").reshape(mean.shape)

    return denoise
