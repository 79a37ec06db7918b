"""Draws of the released diffusion model as its steps and members grow."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

import jaxsrda
from benchmarks.case import Case, Made

WEIGHTS, MEMBERS, STEPS = "diffsrda-small", 4, 4


def draw(members: int, steps: int) -> Made:
    """Samples for one condition of noise: what they cost does not depend on it."""
    model = jaxsrda.load_model(WEIGHTS)[0]
    config = jaxsrda.DiffSRDAConfig(members=members, steps=steps)
    kind = model.config
    conditions = jax.random.normal(jax.random.key(1), (1, kind.nx, kind.ny, kind.channels), jnp.float32)
    run = jaxsrda.make_draw(model, config)
    return lambda key, conditions: run.corrections(key, conditions), (jax.random.key(0), conditions)


def cases(quick: bool) -> list[Case]:
    """Growth with the steps, then with the members."""
    sizes = [(MEMBERS, steps, "steps") for steps in ((1, 8) if quick else (1, 10, 100, 1000))]
    sizes += [(members, STEPS, "members") for members in (() if quick else (1, 30, 100, 1000))]
    return [
        Case(
            f"draw, members {members}, steps {steps}",
            functools.partial(draw, members, steps),
            {"members": members, "steps": steps},
            "step of a member",
            members * steps,
            0,
            growth=axis,
        )
        for members, steps, axis in sizes
    ]
