"""The ocean jet: its physical numbers, forcing and initial states.

Jet shape J(y) = sech²((y − π/2)/w) less its mean over the grid's y points; forcing F = −∂(τ0 J)/∂y;
initial state ω = −∂(U0 J)/∂y plus a random perturbation.  J enters on the cosine modes that the
2/3 rule keeps.  Source: Yasuda & Onishi (2023, doi:10.1029/2023MS003658), arXiv:2604.21180.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxsrda.core import draws
from jaxsrda.core.checks import check_positive
from jaxsrda.core.linalg import matmul
from jaxsrda.flow.grid import ChannelGrid, bases, to_spectral

Profile = Callable[[Any, ArrayLike], Any]
"""J of (y, width): the shape of the jet across the channel."""


def sech2(y: Any, width: ArrayLike) -> Any:
    """The jet's shape sech²((y − π/2)/width), numpy for a plain width and JAX for a traced one."""
    xp = np if isinstance(width, int | float) else jnp
    return 1 / xp.cosh((y - np.pi / 2) / width) ** 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Physics:
    """β, drag r, forcing τ0, initial speed U0, width of the jet, size of the first perturbation: numbers or traced."""

    beta: Any = 0.1
    drag: Any = 1e-2
    forcing: Any = 0.3
    speed: Any = 3.0
    width: Any = 0.4
    perturbation: Any = 0.0025

    def __post_init__(self):
        if isinstance(self.width, int | float):
            check_positive("width", self.width)


def jet_vorticity(grid: ChannelGrid, width: ArrayLike = 0.4, profile: Profile = sech2) -> Any:
    """Sine amplitudes [lmax] of −∂J/∂y for the jet shape J (numpy float64 unless the width is traced)."""
    shape = profile(grid.y, width)
    amplitudes = (shape - shape.mean()) @ bases(grid).cosine_inv
    return amplitudes * bases(grid).l[0]


def initial_state(
    key: Array,
    grid: ChannelGrid,
    physics: Physics | None = None,
    profile: Profile = sech2,
    dtype: DTypeLike = float,
) -> Array:
    """Amplitudes [2K+1, L] of the jet plus a random perturbation.

    Σ a_kl sin(k x + l y + φ_kl) over 0 < |k| ≤ min(nx // 3, 256), 0 < |l| ≤ min(ny // 3, 128), with
    a ~ N(0, 0.0025²) and φ ~ π N(0, 1), evaluated on the grid and projected on the channel's basis.
    """
    physics = Physics() if physics is None else physics
    k = np.arange(1, min(grid.nx // 3, 256) + 1)
    l = np.arange(1, min(grid.ny // 3, 128) + 1)  # noqa: E741
    k, l = np.concatenate([k, -k]), np.concatenate([l, -l])  # noqa: E741
    dtype = jnp.zeros((), dtype).dtype
    amplitude_key, phase_key = jax.random.split(key)
    size = jnp.asarray(physics.perturbation, dtype)
    amplitude = size * draws.normal(amplitude_key, (len(k), len(l)), dtype)
    phase = np.pi * draws.normal(phase_key, (len(k), len(l)), dtype)
    kx, ly = np.outer(grid.x, k), np.outer(l, grid.y)
    cos_x, sin_x, cos_y, sin_y = (jnp.asarray(f, dtype) for f in (np.cos(kx), np.sin(kx), np.cos(ly), np.sin(ly)))
    # sin(kx + ly + φ) = sin(kx + ly) cos φ + cos(kx + ly) sin φ, each expanded in products.
    even, odd = amplitude * jnp.cos(phase), amplitude * jnp.sin(phase)
    in_sin = matmul(even, cos_y) - matmul(odd, sin_y)
    in_cos = matmul(even, sin_y) + matmul(odd, cos_y)
    field = matmul(sin_x, in_sin) + matmul(cos_x, in_cos)
    jet = physics.speed * jet_vorticity(grid, physics.width, profile)
    return to_spectral(grid, field).at[0].add(jnp.asarray(jet, dtype))


def truth_key(seed: int) -> Array:
    """The key of a truth's perturbation; members and training runs use other streams."""
    return jax.random.fold_in(jax.random.key(0x7247), seed)
