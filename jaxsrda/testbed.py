"""The ocean jet: forcing, initial states, and truth runs at any level.

Jet shape J(y) = sech²((y − π/2)/w) less its mean over the grid's y points; forcing F = −∂(τ0 J)/∂y;
initial state ω = −∂(U0 J)/∂y plus a random perturbation.  J enters on the cosine modes that the
2/3 rule keeps.  Source: Yasuda & Onishi (2023, doi:10.1029/2023MS003658), arXiv:2604.21180.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from jaxsrda.config import DEFAULT_FRAMES, FRAME, JetConfig, Level
from jaxsrda.core.checks import check_choice, check_shape
from jaxsrda.core.linalg import matmul
from jaxsrda.grid import ChannelGrid, bases, regrid, to_physical, to_spectral
from jaxsrda.solver import SCHEMES, FlowParams, Speeds, check_stable, rollout, speeds, stepper

JET = JetConfig()


def level_grid(level: Level) -> ChannelGrid:
    """The grid of a level."""
    return ChannelGrid(level.nx, level.ny)


def jet_vorticity(grid: ChannelGrid, config: JetConfig = JET) -> np.ndarray:
    """Sine amplitudes [lmax] of −∂J/∂y for the jet shape J (numpy float64)."""
    shape = 1 / np.cosh((grid.y - np.pi / 2) / config.width) ** 2
    amplitudes = (shape - shape.mean()) @ bases(grid).cosine_inv
    return amplitudes * bases(grid).l[0]


def flow_params(level: Level, config: JetConfig = JET, dtype: DTypeLike = float) -> FlowParams:
    """The testbed's physical coefficients at a level, in `dtype` (JAX's default float)."""
    array = functools.partial(jnp.asarray, dtype=jnp.zeros((), dtype).dtype)
    forcing = config.forcing * jet_vorticity(level_grid(level), config)
    return FlowParams(array(config.beta), array(config.drag), array(level.viscosity), array(forcing))


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


class Trajectory(NamedTuple):
    """Frames of a run, start included: amplitudes [frames, 2K+1, L] and their `Speeds` [frames]."""

    omega_hat: Array
    speeds: Speeds


def integrate(
    level: Level,
    omega_hat: Array,
    frames: int,
    params: FlowParams | None = None,
    scheme: str = "etdrk4",
    steps: int | None = None,
) -> Trajectory:
    """Run a level from amplitudes [2K+1, L] for `frames` frames of 0.25, the start counted (pure, traceable).

    steps: time steps a frame; by default the level's own for the scheme.  Raises ValueError for
    a wrong shape, an unknown scheme, or fewer than 1 frame or step.
    """
    grid = level_grid(level)
    check_shape("omega_hat", omega_hat, grid.spectral_shape)
    if frames < 1:
        raise ValueError(f"frames: expected at least 1 (the start counts as one), got {frames}")
    steps = checked_steps(level, scheme, steps)
    params = flow_params(level, dtype=omega_hat.dtype) if params is None else params
    step = stepper(scheme, grid, params, FRAME / steps)

    def output(state):
        return Trajectory(state, speeds(grid, state))

    _, later = rollout(step, steps, frames - 1, output)(omega_hat)
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), output(omega_hat), later)


def default_steps(level: Level, scheme: str = "etdrk4") -> int:
    """Time steps a frame that the level is run at."""
    return level.rk2_steps if scheme == "rk2" else level.steps


def checked_steps(level: Level, scheme: str, steps: int | None) -> int:
    """`steps`, or the level's own for the scheme if None; ValueError for fewer than 1 or an unknown scheme."""
    check_choice("scheme", scheme, SCHEMES)
    steps = default_steps(level, scheme) if steps is None else steps
    if steps < 1:
        raise ValueError(f"steps: expected at least 1 time step a frame, got {steps}")
    return steps


@functools.partial(jax.jit, static_argnames=("level", "frames", "scheme", "steps"))
def _integrate_batch(omega_hat, params, level, frames, scheme, steps) -> Trajectory:
    run = functools.partial(integrate, level, frames=frames, params=params, scheme=scheme, steps=steps)
    return jax.vmap(lambda state: run(state))(omega_hat)


@functools.partial(jax.jit, static_argnames="grid")
def _speeds_batch(omega_hat, grid) -> Speeds:
    return jax.vmap(lambda state: speeds(grid, state))(omega_hat)


def simulate(
    level: Level,
    omega_hat: Array,
    frames: int = DEFAULT_FRAMES,
    params: FlowParams | None = None,
    scheme: str = "etdrk4",
    steps: int | None = None,
    start: float = 0.0,
) -> Array:
    """Run a batch of states [runs, 2K+1, L] on the host's behalf: amplitudes [runs, frames, 2K+1, L].

    Compiled once per level and length.  Raises `UnstableStepError` (with time, speed and the step
    that would do) instead of returning NaN.
    """
    check_shape("omega_hat", omega_hat, (None, *level_grid(level).spectral_shape))
    steps = checked_steps(level, scheme, steps)
    params = flow_params(level, dtype=omega_hat.dtype) if params is None else params
    # Before spending anything: a step that the first frame already forbids.
    now = _speeds_batch(omega_hat, level_grid(level))
    check_stable(Speeds(now.rate[:, None], now.speed[:, None]), np.array([start]), FRAME / steps, scheme)
    trajectory = _integrate_batch(omega_hat, params, level, frames, scheme, steps)
    check_stable(trajectory.speeds, start + FRAME * np.arange(frames), FRAME / steps, scheme)
    return trajectory.omega_hat


def truth_key(seed: int) -> Array:
    """The key of a truth's perturbation; members and training runs use other streams."""
    return jax.random.fold_in(jax.random.key(0x7247), seed)


def to_level(source: Level, target: Level, omega_hat: Array, method: str = "spectral") -> Array:
    """Fields [nx, ny] on the target level's grid of amplitudes at the source level (see `grid.regrid`)."""
    grid, coarse = level_grid(source), level_grid(target)
    return regrid(grid, coarse, to_physical(grid, omega_hat), method)
