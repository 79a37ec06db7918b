"""How a training goes: the learning rate on the way, the direction of its steps, and averages of the weights.

A training is measured by the fraction of its budget that is spent, not by steps, so the same settings serve minutes of
wall time and numbers of samples, and a training may be cooled down from any point.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxsrda.core.checks import check_fraction


def learning_rate(peak: float, fraction: float | Array, step: int | Array, warmup: int, cooling: float) -> Array:
    """Warm-up over the first steps, constant, then a cool-down over the last part `cooling` of the budget.

    The cool-down is peak · (1 − √c), c the part of it that is done, and ends at zero.  Hägele et al. (2024,
    arXiv:2405.18392).
    """
    done = jnp.clip((jnp.float32(fraction) - (1 - cooling)) / cooling, 0, 1) if cooling else jnp.float32(0)
    return peak * jnp.minimum(1, (jnp.float32(step) + 1) / max(1, warmup)) * (1 - jnp.sqrt(done))


def direction(clip: float, weight_decay: float) -> optax.GradientTransformation:
    """AdamW without its rate, of clipped gradients; biases do not decay.

    Loshchilov & Hutter (2019, arXiv:1711.05101).
    """

    def matrices(params: Any) -> Any:
        return jax.tree.map(lambda a: a.ndim > 1, params)

    return optax.chain(
        optax.clip_by_global_norm(clip),
        optax.scale_by_adam(b2=0.99),
        optax.add_decayed_weights(weight_decay, mask=matrices),
    )


def exponent(length: float) -> float:
    """γ of an average ∝ t^γ over the steps t whose relative width, its standard deviation over the last step, is
    `length`: (γ + 1)^½ (γ + 2)⁻¹ (γ + 3)^−½ = length.

    Karras et al. (2024, arXiv:2312.02696, eq. 126 ff.); ValueError outside (0, 0.28].
    """
    check_fraction("average length", length)
    if not 0 < length <= 0.28:
        raise ValueError(f"average length: expected a number in (0, 0.28], got {length}")
    gammas = np.roots([1, 7, 16 - length**-2, 12 - length**-2])
    return float(gammas.real.max())


def keep(step: Array, length: float) -> Array:
    """Weight of the old average at a step (from 0): (1 − 1/t)^(γ+1), t the number of steps done; 0 at first.

    Karras et al. (2024, arXiv:2312.02696, eq. 127).
    """
    count = step.astype(jnp.float32) + 1
    return (1 - 1 / count) ** (exponent(length) + 1)
