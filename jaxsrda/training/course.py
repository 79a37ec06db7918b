"""How a training goes: what it may spend, the learning rate on the way, and averages of the weights.

A training is measured by the fraction of its budget that is spent, not by steps, so the same settings serve minutes of
wall time and numbers of samples, and a training may be cooled down from any point.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxsrda.core.checks import check_fraction


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a training may spend: minutes of wall time, or samples; one of them, the other 0.

    ValueError otherwise.
    """

    minutes: float = 0.0
    samples: int = 0

    def __post_init__(self):
        if (self.minutes > 0) == (self.samples > 0) or min(self.minutes, self.samples) < 0:
            raise ValueError(
                f"budget: expected minutes or samples above 0, not both, got {self.minutes} minutes and "
                f"{self.samples} samples"
            )

    def spent(self, seconds: float, samples: int) -> float:
        """The fraction spent, from 0 to 1."""
        return min(1.0, seconds / (60 * self.minutes) if self.minutes else samples / self.samples)


def learning_rate(peak: float, fraction: float, step: int, warmup: int, cooling: float) -> float:
    """Warm-up over the first steps, constant, then a cool-down over the last part `cooling` of the budget.

    The cool-down is peak · (1 − √c), c the part of it that is done, and ends at zero.  Hägele et al. (2024,
    arXiv:2405.18392).
    """
    done = max(0.0, fraction - (1 - cooling)) / cooling if cooling else 0.0
    return peak * min(1.0, (step + 1) / max(1, warmup)) * (1 - np.sqrt(min(1.0, done)))


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
