"""Distillation: a student that draws in one or two steps what its teacher draws in many.

The teacher's deterministic sampler turns noise into a sample; the student learns to jump along that path.
Luhman & Luhman (2021, arXiv:2101.02388) for one step; Salimans & Ho (2022, arXiv:2202.00512) for a step in between.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core import draws
from jaxsrda.diffsrda.model import ModelConfig, network, with_denoiser
from jaxsrda.diffusion.denoiser import precondition, preconditioning
from jaxsrda.diffusion.samplers import SAMPLERS, Knobs
from jaxsrda.diffusion.schedules import STUDENT_RANGE, student_sigmas
from jaxsrda.training.windows import Windows

TEACHER_STEPS = 4
"""Steps of the teacher between noise and sample."""


def teacher_levels(steps: int, rho: float = 7.0) -> np.ndarray:
    """The student's levels with others between, evenly in σ^{1/ρ}: (TEACHER_STEPS + 1,), decreasing to 0."""
    student = student_sigmas(steps)
    roots = np.append(student[:-1], STUDENT_RANGE[0]) ** (1 / rho)  # the last stretch ends there, then at 0
    parts = [
        np.linspace(high, low, TEACHER_STEPS // steps, endpoint=i + 1 == steps) ** rho
        for i, (high, low) in enumerate(itertools.pairwise(roots))
    ]
    return np.append(np.concatenate(parts), 0.0)


def teacher_path(denoise: Any, noise: Array, levels: np.ndarray, every: int) -> Array:
    """States x of the probability flow at every `every`-th level, by DPM-Solver++(2M): (n + 1, *shape)."""
    plan, advance = SAMPLERS["dpmpp-2m"]
    rows = tuple(jnp.asarray(a, noise.dtype) for a in plan(levels))

    def step(carry, row):
        x, memory = carry
        x, memory = advance(denoise, lambda: noise, x, memory, row, still)  # deterministic: nothing is drawn
        return (x, memory), x

    still = Knobs(jnp.zeros(()), jnp.zeros(()))
    start = jnp.asarray(levels[0], noise.dtype) * noise
    _, states = jax.lax.scan(step, (start, jnp.zeros_like(start)), rows)
    return jnp.concatenate([start[None], states[every - 1 :: every]])


def step_target(here: Array, there: Array, sigma: Array, next_sigma: Array) -> Array:
    """The estimate D whose first-order step from x at σ lands on x′ at σ′: D = (x′ − r x)/(1 − r), r = σ′/σ.

    Salimans & Ho (2022, arXiv:2202.00512, appendix G), in variance-exploding form.
    """
    ratio = next_sigma / sigma
    return (there - ratio * here) / (1 - ratio)


def distillation_loss(
    model: ModelConfig,
    teacher: Any,
    params: Any,
    key: Array,
    windows: Windows,
    noises: int = 1,
    bfloat16: bool = False,
) -> tuple[Array, dict[str, Array]]:
    """Mean squared error of the student's network against what its teacher's path asks of each step.

    teacher: all parameters, which the student shares but for its denoiser's (params).  Nothing is random but the noise
    that paths start from, `noises` for each window.  The windows' own targets are not used: what is learned are the
    teacher's samples, in its own units.
    """
    net = network(model, bfloat16)
    features = jax.lax.stop_gradient(net.encode(teacher, windows.condition.astype(jnp.float32)))
    features = jax.tree.map(lambda a: jnp.repeat(a, noises, axis=0), features)
    levels, student = teacher_levels(model.distilled), student_sigmas(model.distilled)
    whole = with_denoiser(teacher, params)

    def denoiser(params: Any):
        def raw(x: Array, level: Array) -> Array:
            return net.denoise(params, x, jnp.broadcast_to(level, len(x)), features)

        return raw

    noise = draws.normal(key, features.mean.shape, features.mean.dtype)
    teach = precondition(model.parametrization, denoiser(teacher), model.sigma_data)
    states = jax.lax.stop_gradient(teacher_path(teach, noise, levels, TEACHER_STEPS // model.distilled))
    losses = []
    for i, (sigma, next_sigma) in enumerate(itertools.pairwise(student)):
        sigma, next_sigma = (jnp.asarray(a, noise.dtype) for a in (sigma, next_sigma))
        wanted = step_target(states[i], states[i + 1], sigma, next_sigma)
        c = preconditioning(model.parametrization, sigma, model.sigma_data)
        predicted = denoiser(whole)(c.scale * states[i], c.level)
        losses.append((((wanted - c.skip * states[i]) / c.out - predicted) ** 2).mean())
    total = jnp.stack(losses).mean()
    return total, {"loss": total, "diffusion": total}
