"""One-pass generators: the denoiser called once on pure noise, trained on the fair CRPS of many linear functionals.

A proper score of single points cannot see how errors hang together, so means over blocks, differences of neighbours
and changes in time are scored too, each in units of its own size.  Fair CRPS as a loss: Lang et al. (2024,
arXiv:2412.15832); one network call a member with injected noise: Alet et al. (2025, arXiv:2506.10772).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.core import draws
from jaxsrda.core.linalg import trailing
from jaxsrda.diffsrda.model import ModelConfig, network, with_denoiser
from jaxsrda.diffusion.denoiser import precondition
from jaxsrda.diffusion.schedules import student_sigmas
from jaxsrda.scoring.joint import BLOCKS, block_means, differences
from jaxsrda.training.windows import Windows


def functionals(fields: Array) -> dict[str, Array]:
    """What is scored of fields (…, nx, ny, frames): points, block means, differences in x, y and between frames."""
    frames = jnp.moveaxis(fields, -1, -3)
    blocks = {f"block{size}": block_means(frames, size) for size in BLOCKS if size < min(frames.shape[-2:])}
    return {
        "points": frames,
        **blocks,
        "gradient_x": differences(frames),
        "gradient_y": jnp.diff(frames, axis=-1),
        "change": jnp.diff(frames, axis=-3),
    }


def fair_crps(members: Array, truth: Array) -> Array:
    """Mean of mean_i |x_i − y| − Σ_{i<j} |x_i − x_j| / (M (M − 1)), members (M, …), truth (…): unbiased for any M > 1.

    Ferro (2014, doi:10.1002/qj.2270).
    """
    count = len(members)
    skill = jnp.abs(members - truth[None]).mean()
    pairs = sum(jnp.abs(members[i] - members[j]).mean() for i in range(count) for j in range(i))
    return skill - pairs / (count * (count - 1))


def one_pass_loss(
    model: ModelConfig,
    frozen: Any,
    params: Any,
    norm: Array,
    key: Array,
    windows: Windows,
    members: int = 2,
    bfloat16: bool = False,
) -> tuple[Array, dict[str, Array]]:
    """Fair CRPS of one-pass samples around the conditioner's mean, averaged over `functionals`, each over the mean
    size of what it scores; and its parts.

    frozen: all parameters; params: the denoiser's.  norm: (frames,) of corrections.  ValueError for fewer than 2
    members.
    """
    if members < 2:
        raise ValueError(f"noises: the fair CRPS compares members, expected 2 or more, got {members}")
    net = network(model, bfloat16)
    features = jax.lax.stop_gradient(net.encode(frozen, windows.condition.astype(jnp.float32)))
    left = windows.correction.astype(jnp.float32) / trailing(norm, windows.correction) - features.mean
    whole = with_denoiser(frozen, params)
    each = jax.tree.map(lambda a: jnp.tile(a, (members, *(1,) * (a.ndim - 1))), features)

    def raw(x: Array, level: Array) -> Array:
        return net.denoise(whole, x, jnp.broadcast_to(level, len(x)), each)

    sigma = jnp.float32(student_sigmas(1)[0])
    noise = draws.normal(key, each.mean.shape, jnp.float32)
    drawn = each.scale * precondition(model.parametrization, raw, model.sigma_data)(sigma * noise, sigma)
    drawn = drawn.reshape(members, *left.shape)
    parts = {}
    scored = functionals(drawn)
    for name, target in functionals(left).items():
        parts[f"crps_{name}"] = fair_crps(scored[name], target) / jnp.abs(target).mean()
    total = jnp.stack(list(parts.values())).mean()
    return total, {"loss": total, **parts}
