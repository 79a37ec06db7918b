"""Samplers: from noise at σ_0 down a grid of levels to a sample, whatever the denoiser.

All act on x_σ = x₀ + σ ε, where the probability flow is dx/dσ = (x − D(x, σ))/σ (Song et al. 2021,
arXiv:2011.13456).  A variance-preserving sampler is the same one on x = z/√ᾱ.

    ddim         DDIM with η from 0 (deterministic, first order) to 1 (ancestral); 1 evaluation a step
    heun         Heun's method with optional churn, second order; 2 a step, 1 on the step to σ = 0
    dpmpp-2m     DPM-Solver++(2M), deterministic multistep, second order; 1 a step
    dpmpp-2m-sde its stochastic form; 1 a step
    mean         D at σ_0 only: nearly the mean of the law, not a sample; 1 in all

A step to σ = 0 returns D.  A grid may also end above 0: then x at that level comes back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike

from jaxsrda.core.checks import check_choice, check_shape
from jaxsrda.diffusion.denoiser import Denoiser

MOST_CHURN = math.sqrt(2) - 1
"""Largest relative rise of σ a step (arXiv:2206.00364, algorithm 2)."""


class Knobs(NamedTuple):
    """Traced numbers of a run: DDIM's η, and γ, Heun's relative rise of σ before each step."""

    eta: Array
    gamma: Array


class Sampler(NamedTuple):
    """plan: (n + 1,) levels → arrays with one row for each evaluation of D, on the host in float64.

    advance: (D, draw, x, memory, row, knobs) → x, memory.  It evaluates D once; `draw()` is white
    noise, fresh on each row; `memory`, shaped as x, is what one row hands to the next, at first 0.
    """

    plan: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    advance: Callable[[Denoiser, Callable[[], Array], Array, Array, tuple[Array, ...], Knobs], tuple[Array, Array]]


# DDIM -----------------------------------------------------------------------------------------


def ddim_coefficients(sigma: Array, next_sigma: Array, eta: Array) -> tuple[Array, Array]:
    """`along` and `kick` of the step x′ = D + along (x − D) + kick ξ from σ to σ′, ξ white.

    The variance-preserving step adds noise of s̃² = η² (1 − ᾱ′)/(1 − ᾱ) (1 − ᾱ/ᾱ′) (Song, Meng & Ermon
    2021, arXiv:2010.02502, eqs. 12 and 16).  Divided by √ᾱ′, with ᾱ = 1/(1 + σ²), ᾱ drops out:
    kick = η σ′ √(1 − r²),   along = √(σ′² − kick²)/σ = r √(1 − η² (1 − r²)),   r = σ′/σ.
    """
    ratio = next_sigma / sigma
    kept = (1 - eta) * (1 + eta) + (eta * ratio) ** 2
    # At η = 1 and σ′ = 0 the root's slope would be infinite; the floor keeps derivatives in η finite.
    along = ratio * jnp.sqrt(jnp.maximum(kept, jnp.finfo(kept.dtype).tiny))
    return along, eta * next_sigma * jnp.sqrt((1 - ratio) * (1 + ratio))


def pairs(sigmas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each step's σ and σ′."""
    return sigmas[:-1], sigmas[1:]


def ddim(denoise, draw, x, memory, row, knobs):
    """One DDIM step (see `ddim_coefficients`)."""
    sigma, next_sigma = row
    along, kick = ddim_coefficients(sigma, next_sigma, knobs.eta)
    denoised = denoise(x, sigma)
    return denoised + along * (x - denoised) + kick * draw(), memory


# Heun -----------------------------------------------------------------------------------------


def half_steps(sigmas: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """σ, σ′ and whether the row predicts (1) or corrects (0); no correction at σ′ = 0."""
    sigma, next_sigma = (np.repeat(a, 2) for a in pairs(sigmas))
    predicting = np.tile([1.0, 0.0], len(sigmas) - 1)
    rows = (predicting > 0) | (next_sigma > 0)
    return sigma[rows], next_sigma[rows], predicting[rows]


def heun(denoise, draw, x, memory, row, knobs):
    """Half of a Heun step: the Euler prediction at σ′, or its correction with the slope there.

    σ̂ = (1 + γ) σ,  x̂ = x + √(σ̂² − σ²) ξ,  d = (x̂ − D(x̂, σ̂))/σ̂,  x₁ = x̂ + (σ′ − σ̂) d;
    then d′ = (x₁ − D(x₁, σ′))/σ′,  x′ = x̂ + (σ′ − σ̂) (d + d′)/2.
    Karras et al. (2022, arXiv:2206.00364, algorithm 2, γ = min(churn/steps, √2 − 1) at all levels).
    The memory is x̂ + (σ′ − σ̂) d/2.
    """
    sigma, next_sigma, predicting = row
    predicting = predicting > 0
    raised = sigma * (1 + knobs.gamma)
    level = jnp.where(predicting, raised, next_sigma)
    rise = jnp.where(predicting, sigma * jnp.sqrt(knobs.gamma * (2 + knobs.gamma)), 0)
    x = x + rise * draw()
    change = (next_sigma - raised) / 2 * ((x - denoise(x, level)) / level)
    return jnp.where(predicting, x + 2 * change, memory + change), x + change


# DPM-Solver++ ---------------------------------------------------------------------------------


def multistep(sigmas: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """σ, σ′ and the weight h/(2 h₋) of the last change of D, h = ln(σ/σ′), h₋ that of the step before.

    The first step and a step to σ′ = 0, where h is infinite, are of first order: weight 0.
    """
    sigma, next_sigma = pairs(sigmas)
    weight = np.zeros(len(sigma))
    inner = np.flatnonzero(next_sigma > 0)
    h = np.log(sigma[inner] / next_sigma[inner])
    weight[inner[1:]] = h[1:] / (2 * h[:-1])
    return sigma, next_sigma, weight


def dpmpp_2m(denoise, draw, x, memory, row, knobs):
    """x′ = r x + (1 − r) D̃,  D̃ = D + h/(2 h₋) (D − D₋),  r = σ′/σ = e^{−h}.

    Lu et al. (2022, arXiv:2211.01095, algorithm 2, with α = 1).  The memory is the previous D₋.
    """
    sigma, next_sigma, weight = row
    denoised = denoise(x, sigma)
    ahead = denoised + weight * (denoised - memory)
    return ahead + next_sigma / sigma * (x - ahead), denoised


def dpmpp_2m_sde(denoise, draw, x, memory, row, knobs):
    """x′ = r² x + (1 − r²) D̃ + σ′ √(1 − r²) ξ, with r and D̃ of `dpmpp_2m`.

    Lu et al. (2022, arXiv:2211.01095, SDE-DPM-Solver++(2M), with α = 1).  With D in place
    of D̃ this is the DDIM step of η = 1.
    """
    sigma, next_sigma, weight = row
    denoised = denoise(x, sigma)
    ahead = denoised + weight * (denoised - memory)
    along, kick = ddim_coefficients(sigma, next_sigma, jnp.ones_like(sigma))
    return ahead + along * (x - ahead) + kick * draw(), denoised


# Mean -----------------------------------------------------------------------------------------


def mean(denoise, draw, x, memory, row, knobs):
    """D(σ_0 ξ, σ_0), one evaluation: under much noise the denoiser answers with the law's mean."""
    (sigma,) = row
    return denoise(x, sigma), memory


SAMPLERS: dict[str, Sampler] = {
    "ddim": Sampler(pairs, ddim),
    "heun": Sampler(half_steps, heun),
    "dpmpp-2m": Sampler(multistep, dpmpp_2m),
    "dpmpp-2m-sde": Sampler(multistep, dpmpp_2m_sde),
    "mean": Sampler(lambda sigmas: (sigmas[:1],), mean),
}


# Running --------------------------------------------------------------------------------------


def check_sigmas(sigmas: ArrayLike) -> np.ndarray:
    """The levels as float64 on the host; ValueError unless at least two, finite, decreasing, none below 0."""
    if isinstance(sigmas, Tracer):
        raise ValueError(
            "sigmas: expected levels known before compilation, got a traced array; "
            "make the grid outside jit (see schedules.sigma_grid)"
        )
    levels = np.asarray(sigmas, np.float64)
    if levels.ndim != 1 or len(levels) < 2:
        raise ValueError(f"sigmas: expected at least 2 levels in one dimension (one step), got shape {levels.shape}")
    if not np.isfinite(levels).all() or (np.diff(levels) >= 0).any() or levels[-1] < 0:
        got = np.array2string(levels, precision=4, threshold=8)
        raise ValueError(f"sigmas: expected finite levels that decrease, the last at least 0, got {got}")
    return levels


def check_knob(name: str, value: ArrayLike, most: float) -> None:
    """Raise ValueError for a knob that is not a scalar or, where known before running, not in [0, most]."""
    check_shape(name, value, ())
    if not isinstance(value, Tracer) and not 0 <= float(value) <= most:  # pyright: ignore[reportArgumentType]
        upper = f"from 0 to {most:g}" if np.isfinite(most) else "at least 0"
        raise ValueError(f"{name}: expected a number {upper}, got {float(value)!r}")  # pyright: ignore[reportArgumentType]


def evaluations(sampler: str, sigmas: ArrayLike) -> int:
    """How often `sample` calls the denoiser, its cost.  ValueError as `sample`."""
    check_choice("sampler", sampler, SAMPLERS)
    return len(SAMPLERS[sampler].plan(check_sigmas(sigmas))[0])


def initial_noise(key: Array, shape: tuple[int, ...], sigma: ArrayLike, dtype: DTypeLike = float) -> Array:
    """What `sample` starts from under this key: σ ξ, ξ white noise of `shape`."""
    return jnp.asarray(sigma, dtype) * jax.random.normal(jax.random.split(key)[0], shape, dtype)


class Opposite(NamedTuple):
    """A key whose noise is multiplied by a sign, 1 or −1 (which may be traced), wherever it is drawn."""

    key: Array
    sign: Array


def sample(
    denoiser: Denoiser,
    key: Array | Opposite,
    shape: tuple[int, ...],
    sigmas: ArrayLike,
    sampler: str = "ddim",
    eta: ArrayLike = 1.0,
    churn: ArrayLike = 0.0,
    dtype: DTypeLike = float,
) -> Array:
    """One sample: x = σ_0 ξ carried down the levels by a denoiser in one `lax.scan`.

    Args:
        denoiser: D(x, σ), evaluated `evaluations(sampler, sigmas)` times.
        key: of the initial noise (`initial_noise`, the same for all samplers) and of each step's; an `Opposite` for
            the sample of the opposite noise.
        shape: of the sample.
        sigmas: (n + 1,) decreasing levels known before compilation; n steps.
        sampler: a name in `SAMPLERS`, static.
        eta: DDIM's η in [0, 1], traced; the other samplers do not read it.
        churn: Heun's S_churn ≥ 0, traced; the other samplers do not read it.
        dtype: of the sample and of all arithmetic.

    Returns:
        Array of `shape`: a sample of x₀ if the levels end at 0, else of x at the last level.

    Raises:
        ValueError: unknown sampler, levels that do not decrease, η or churn out of range (when not
            traced), a denoiser that changes shape or dtype.
    """
    check_choice("sampler", sampler, SAMPLERS)
    levels = check_sigmas(sigmas)
    check_knob("eta", eta, 1.0)
    check_knob("churn", churn, np.inf)
    plan, advance = SAMPLERS[sampler]
    rows = tuple(jnp.asarray(a, dtype) for a in plan(levels))
    gamma = jnp.minimum(jnp.asarray(churn, dtype) / (len(levels) - 1), MOST_CHURN)
    knobs = Knobs(jnp.asarray(eta, dtype), gamma)
    key, sign = key if isinstance(key, Opposite) else Opposite(key, jnp.ones(()))
    sign = jnp.asarray(sign, dtype)
    x = sign * initial_noise(key, shape, levels[0], dtype)

    def denoise(x: Array, sigma: Array) -> Array:
        denoised = denoiser(x, sigma)
        if denoised.shape != x.shape or denoised.dtype != x.dtype:
            raise ValueError(
                f"denoiser: expected {x.dtype} of shape {x.shape}, as its input, "
                f"got {denoised.dtype} of shape {denoised.shape}"
            )
        return denoised

    def step(carry: tuple[Array, Array], inputs: tuple[tuple[Array, ...], Array]):
        row, step_key = inputs
        return advance(denoise, lambda: sign * jax.random.normal(step_key, shape, dtype), *carry, row, knobs), None

    keys = jax.random.split(jax.random.split(key)[1], len(rows[0]))
    (x, _), _ = jax.lax.scan(step, (x, jnp.zeros_like(x)), (rows, keys))
    return x


def sample_members(
    denoiser: Callable[..., Array],
    key: Array,
    members: int,
    draw: Callable[[Denoiser, Any], Array],
    conditions: Any = None,
    chunk: int | None = None,
    antithetic: bool | Array = False,
) -> Array:
    """An ensemble (members, …) of samples draw(denoiser, key), `chunk` of them at a time (None: all at once).

    draw: `sample` with all but its first two arguments given.  Member i's key is fold_in(key, i), so a member is the
    same whatever the chunk or the number of members.  With `antithetic` (which may be traced) members come in pairs of
    opposite noise, of key fold_in(key, ⌊i/2⌋): each alone is a sample as before, and their mean keeps of the noise only
    what is even in it (Owen 2013, Monte Carlo theory, methods and examples, section 8.2,
    https://artowen.su.domains/mc).

    `conditions`, a pytree with a leading member axis, is what differs between members: the denoiser is
    then called as denoiser(condition, x, σ), and without it as denoiser(x, σ).  Raises ValueError as
    `draw`, for members or chunk below 1, and for conditions of another length.
    """
    for name, count in (("members", members), ("chunk", members if chunk is None else chunk)):
        if count < 1:
            raise ValueError(f"{name}: expected at least 1, got {count!r}")
    for leaf in jax.tree.leaves(conditions):
        if np.ndim(leaf) < 1 or np.shape(leaf)[0] != members:
            raise ValueError(
                f"conditions: expected a leading axis of {members} members, got shape {np.shape(leaf)}; "
                "close the denoiser over what all members share"
            )

    def one(inputs: tuple[Array, Any]) -> Array:
        index, condition = inputs

        def denoise(x: Array, sigma: Array) -> Array:
            return denoiser(x, sigma) if conditions is None else denoiser(condition, x, sigma)

        number = jnp.where(antithetic, index // 2, index)
        sign = jnp.where(antithetic & (index % 2 == 1), -1.0, 1.0)
        return draw(denoise, Opposite(jax.random.fold_in(key, number), sign))

    index = jnp.arange(members, dtype=jnp.uint32)
    return jax.lax.map(one, (index, conditions), batch_size=min(chunk or members, members))
