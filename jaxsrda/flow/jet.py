"""The ocean jet: forcing and initial states.

Jet shape J(y) = sech²((y − π/2)/w) less its mean over the grid's y points; forcing F = −∂(τ0 J)/∂y;
initial state ω = −∂(U0 J)/∂y plus a random perturbation.  J enters on the cosine modes that the
2/3 rule keeps.  Source: Yasuda & Onishi (2023, doi:10.1029/2023MS003658), arXiv:2604.21180.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from jaxsrda.core.checks import check_positive
from jaxsrda.core.linalg import matmul
from jaxsrda.flow.grid import ChannelGrid, bases, to_spectral


@dataclasses.dataclass(frozen=True)
class JetConfig:
    """The jet and its surroundings: β, drag r, forcing τ0, initial U0, jet width, perturbation size."""

    beta: float = 0.1
    drag: float = 1e-2
    forcing: float = 0.3
    speed: float = 3.0
    width: float = 0.4
    perturbation: float = 0.0025

    def __post_init__(self):
        check_positive("width", self.width)


JET = JetConfig()


def jet_vorticity(grid: ChannelGrid, config: JetConfig = JET) -> np.ndarray:
    """Sine amplitudes [lmax] of −∂J/∂y for the jet shape J (numpy float64)."""
    shape = 1 / np.cosh((grid.y - np.pi / 2) / config.width) ** 2
    amplitudes = (shape - shape.mean()) @ bases(grid).cosine_inv
    return amplitudes * bases(grid).l[0]


def initial_state(key: Array, grid: ChannelGrid, config: JetConfig = JET, dtype: DTypeLike = float) -> Array:
    """Amplitudes [2K+1, L] of the jet plus a random perturbation.

    Σ a_kl sin(k x + l y + φ_kl) over 0 < |k| ≤ min(nx // 3, 256), 0 < |l| ≤ min(ny // 3, 128), with
    a ~ N(0, 0.0025²) and φ ~ π N(0, 1), evaluated on the grid and projected on the channel's basis.
    """
    k = np.arange(1, min(grid.nx // 3, 256) + 1)
    l = np.arange(1, min(grid.ny // 3, 128) + 1)  # noqa: E741
    k, l = np.concatenate([k, -k]), np.concatenate([l, -l])  # noqa: E741
    dtype = jnp.zeros((), dtype).dtype
    amplitude_key, phase_key = jax.random.split(key)
    amplitude = config.perturbation * jax.random.normal(amplitude_key, (len(k), len(l)), dtype)
    phase = np.pi * jax.random.normal(phase_key, (len(k), len(l)), dtype)
    kx, ly = np.outer(grid.x, k), np.outer(l, grid.y)
    cos_x, sin_x, cos_y, sin_y = (jnp.asarray(f, dtype) for f in (np.cos(kx), np.sin(kx), np.cos(ly), np.sin(ly)))
    # sin(kx + ly + φ) = sin(kx + ly) cos φ + cos(kx + ly) sin φ, each expanded in products.
    even, odd = amplitude * jnp.cos(phase), amplitude * jnp.sin(phase)
    in_sin = matmul(even, cos_y) - matmul(odd, sin_y)
    in_cos = matmul(even, sin_y) + matmul(odd, cos_y)
    field = matmul(sin_x, in_sin) + matmul(cos_x, in_cos)
    return to_spectral(grid, field).at[0].add(jnp.asarray(config.speed * jet_vorticity(grid, config), dtype))


def truth_key(seed: int) -> Array:
    """The key of a truth's perturbation; members and training runs use other streams."""
    return jax.random.fold_in(jax.random.key(0x7247), seed)
