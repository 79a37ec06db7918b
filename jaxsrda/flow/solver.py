"""The barotropic vorticity equation on the channel, its time steppers, and roll-outs.

    ∂ω/∂t + u ∂ω/∂x + v (∂ω/∂y + β) = F(y) − r ω − ν (∇²)² ω ,   ∇²ψ = ω,  u = −∂ψ/∂y,  v = ∂ψ/∂x

Advection is taken in the form  u·∇ω = (∂²/∂x² − ∂²/∂y²)(uv) + ∂²/∂x∂y (v² − u²), exact under the 2/3
rule (where 3 divides nx or ny − 1 the last mode is aliased; no level has that), so a tendency costs
four transforms.  A stepper is a function ω_hat → ω_hat with its coefficients computed once;
`rollout` turns a stepper into a trajectory by nested scans.
Source of the equation and constants: Yasuda & Onishi (2023, doi:10.1029/2023MS003658).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core.checks import check_choice, check_shape
from jaxsrda.core.linalg import matmul
from jaxsrda.core.roots import sqrt
from jaxsrda.flow.grid import ChannelGrid, bases, dx_hat, streamfunction_hat, velocity

Step = Callable[[Array], Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FlowParams:
    """Physical coefficients, all traced: vmap or differentiate over any of them.

    beta: gradient β of planetary vorticity; drag: r; viscosity: ν of the hyperviscosity;
    forcing: sine amplitudes [lmax] of F(y).
    """

    beta: Array
    drag: Array
    viscosity: Array
    forcing: Array


def advection(grid: ChannelGrid, params: FlowParams, omega_hat: Array) -> Array:
    """The terms stepped explicitly, −u·∇ω − β v + F, as amplitudes [2K+1, L]."""
    basis, dtype = bases(grid), omega_hat.dtype
    u, v = velocity(grid, omega_hat)
    uv = matmul(basis.fourier_inv, matmul(u * v, basis.sine_inv))
    strain_x = matmul(basis.dx_fourier_inv, matmul(v * v - u * u, basis.cosine_inv))
    l = jnp.asarray(basis.l, dtype)  # noqa: E741
    # ∂y of cos ly is −l sin ly, ∂²x − ∂²y of a mode is l² − k²; both with the sign of −u·∇ω.
    tendency = jnp.asarray(basis.k**2 - basis.l**2, dtype) * uv + l * strain_x
    tendency -= params.beta * dx_hat(grid, streamfunction_hat(grid, omega_hat))
    return tendency.at[0].add(params.forcing)


def damping(grid: ChannelGrid, params: FlowParams) -> Array:
    """The diagonal linear operator −r − ν (k² + l²)², amplitudes' shape [2K+1, L]."""
    k2 = jnp.asarray(bases(grid).k2, params.viscosity.dtype)
    return -params.drag - params.viscosity * k2**2


def tendency(grid: ChannelGrid, params: FlowParams, omega_hat: Array) -> Array:
    """∂ω_hat/∂t, amplitudes [2K+1, L]."""
    check_shape("omega_hat", omega_hat, grid.spectral_shape)
    return advection(grid, params, omega_hat) + damping(grid, params) * omega_hat


# Steppers -------------------------------------------------------------------------------------


def phi_functions(z: Array) -> tuple[Array, Array, Array]:
    """φ1, φ2, φ3 of exponential integrators for real z ≤ 0, accurate to rounding.

    φ1 = (e^z − 1)/z, φ_{n+1} = (φ_n − 1/n!)/z; near zero, where the recurrence cancels, the
    series φ_n = Σ_j z^j / (j + n)! takes over.
    """
    small = jnp.abs(z) < 1
    near, far = jnp.where(small, z, 0.0), jnp.where(small, -1.0, z)

    def series(n: int) -> Array:
        terms = np.cumprod(np.concatenate([[1.0], np.arange(2, n + 20, dtype=float)]))  # 1!, 2!, …
        return jnp.polyval(jnp.asarray(1 / terms[n - 1 : n + 17][::-1], z.dtype), near)

    phi1 = jnp.expm1(far) / far
    phi2 = (phi1 - 1) / far
    phi3 = (phi2 - 0.5) / far
    return tuple(jnp.where(small, series(n), phi) for n, phi in enumerate((phi1, phi2, phi3), 1))  # type: ignore


def etdrk4(grid: ChannelGrid, params: FlowParams, dt: float | Array) -> Step:
    """Fourth-order exponential Runge–Kutta step: damping exact, the rest explicit.

    Cox & Matthews (2002, doi:10.1006/jcph.2002.6995, eqs. 26–29).
    """
    z = damping(grid, params) * dt
    decay_half, decay = jnp.exp(z / 2), jnp.exp(z)
    half = dt / 2 * phi_functions(z / 2)[0]
    phi1, phi2, phi3 = phi_functions(z)
    first, middle, last = dt * (phi1 - 3 * phi2 + 4 * phi3), 2 * dt * (phi2 - 2 * phi3), dt * (4 * phi3 - phi2)

    def step(omega_hat: Array) -> Array:
        n_0 = advection(grid, params, omega_hat)
        decayed = decay_half * omega_hat
        a = decayed + half * n_0
        n_a = advection(grid, params, a)
        n_b = advection(grid, params, decayed + half * n_a)
        n_c = advection(grid, params, decay_half * a + half * (2 * n_b - n_0))
        return decay * omega_hat + first * n_0 + middle * (n_a + n_b) + last * n_c

    return step


def rk2(grid: ChannelGrid, params: FlowParams, dt: float | Array) -> Step:
    """Explicit midpoint step of every term, the scheme of arXiv:2604.21180."""
    linear = damping(grid, params)

    def slope(omega_hat: Array) -> Array:
        return advection(grid, params, omega_hat) + linear * omega_hat

    def step(omega_hat: Array) -> Array:
        return omega_hat + dt * slope(omega_hat + dt / 2 * slope(omega_hat))

    return step


SCHEMES: dict[str, Callable[[ChannelGrid, FlowParams, float | Array], Step]] = {"etdrk4": etdrk4, "rk2": rk2}


def stepper(scheme: str, grid: ChannelGrid, params: FlowParams, dt: float | Array) -> Step:
    """The step function of `scheme` (etdrk4 or rk2); ValueError for another name."""
    return SCHEMES[check_choice("scheme", scheme, SCHEMES)](grid, params, dt)


def rollout(step: Step, inner: int, outer: int, output: Callable = lambda omega_hat: omega_hat) -> Callable:
    """A function state → (last state, outputs) that repeats `step` inner × outer times.

    `output(state)` is kept after every `inner` steps, stacked on a leading axis of length `outer`.
    """

    def frame(state: Array, _):
        state = jax.lax.fori_loop(0, inner, lambda _, s: step(s), state)
        return state, output(state)

    return lambda state: jax.lax.scan(frame, state, None, length=outer)


# The step-size guard --------------------------------------------------------------------------

# |dt (|u| kmax + |v| lmax)| up to which a step is stable: RK4's reach on the imaginary axis for ETDRK4;
# for the midpoint scheme, growth z⁴/8 a step, the value at which the damping still outweighs it.
STABILITY_LIMIT = {"etdrk4": 2.83, "rk2": 0.5}


class UnstableStepError(ValueError):
    """The time step is, or became, too long for the flow."""


class Speeds(NamedTuple):
    """Largest advection rate max(|u| kmax + |v| lmax) and largest speed max √(u² + v²) of a state."""

    rate: Array
    speed: Array


def speeds(grid: ChannelGrid, omega_hat: Array) -> Speeds:
    """The `Speeds` of amplitudes [2K+1, L]; NaN if the state is not finite."""
    u, v = velocity(grid, omega_hat)
    return Speeds((jnp.abs(u) * grid.kmax + jnp.abs(v) * grid.lmax).max(), sqrt((u * u + v * v).max()))


def stable_step(rate: float, scheme: str = "etdrk4") -> float:
    """The longest stable time step at an advection rate: limit / max(|u| kmax + |v| lmax)."""
    return STABILITY_LIMIT[check_choice("scheme", scheme, STABILITY_LIMIT)] / max(float(rate), 1e-30)


def stable_rate(dt: float, scheme: str = "etdrk4") -> float:
    """The largest advection rate at which a time step is stable."""
    return STABILITY_LIMIT[check_choice("scheme", scheme, STABILITY_LIMIT)] / dt


def check_stable(history: Speeds, times: np.ndarray, dt: float, scheme: str = "etdrk4", what: str = "run") -> None:
    """Raise UnstableStepError if a run on the host went unstable, with time, speed and the step that would do.

    history: `Speeds` of the frames, each (…, frames) with runs leading; times: (frames,).  The step is
    called unstable at the first frame that is not finite or whose rate is twice past the limit.
    """
    limit = STABILITY_LIMIT[check_choice("scheme", scheme, STABILITY_LIMIT)]
    rate, speed = (np.asarray(a, float).reshape(-1, len(times)) for a in history)
    lost = ~np.isfinite(rate) | (rate * dt > 2 * limit)
    if not lost.any():
        return
    run = int(np.argmax(lost.any(1)))
    frame = int(np.argmax(lost[run]))
    # The frames before a run broke, its start among them: the speeds of the blow-up itself say nothing.
    sound = np.cumsum(lost, 1) == 0
    sound[:, 0] = np.isfinite(rate[:, 0])
    advice, top = "check the initial state", np.nan
    if sound[run, 0]:
        # From its start to its peak the jet's rate grows 2.6-fold.
        step, top = 0.35 * stable_step(rate[sound].max(), scheme), speed[run][sound[run]].max()
        advice = f"a step of {step:.3g} would do"
    raise UnstableStepError(
        f"{what} {run}: the {scheme} step dt = {dt:.4g} became unstable by t = {times[frame]:.4g} "
        f"(largest speed before that {top:.3g}); {advice}"
    )
