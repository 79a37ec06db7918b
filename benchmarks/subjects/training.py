"""One step of a training as batches grow, in float32 and bfloat16."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jaxsrda
from benchmarks.case import Case, Made
from jaxsrda.training.stream import Fixed, first_state, make_steps
from jaxsrda.training.windows import Windows


def step(network: str, batch: int, bfloat16: bool) -> Made:
    """A step on windows of noise: what it costs does not depend on them."""
    rng = np.random.default_rng(0)
    model = jaxsrda.ModelConfig(network=network)
    config = jaxsrda.TrainConfig(batch=batch, bfloat16=bfloat16)
    both = (rng.normal(size=(batch, model.nx, model.ny, n)) for n in (model.channels, model.frames))
    windows = Windows(*(jnp.asarray(a, jnp.float16) for a in both))
    numbers = jnp.int32(batch), jnp.float32(config.learning_rate), jnp.ones(model.frames, jnp.float32)
    arguments = first_state(model, config), Fixed(), windows, *numbers, jax.random.key(0)
    return make_steps(model, config, 1), arguments


def cases(quick: bool) -> list[Case]:
    """Growth with the batch."""
    sizes = [("tiny", 4, False)] if quick else [("small", n, half) for half in (False, True) for n in (4, 16, 64)]
    return [
        Case(
            f"training step, {network}, batch {batch}, {'bfloat16' if half else 'float32'}",
            functools.partial(step, network, batch, half),
            {"batch": batch, "network": network, "type": "bfloat16" if half else "float32"},
            "window",
            batch,
            1,
            growth="batch",
        )
        for network, batch, half in sizes
    ]
