"""The solver: a step as the grid grows, a member's tendency, other solvers, and the paper's scheme on a whole run."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array

import jaxsrda
from benchmarks.case import Case, Made
from benchmarks.subjects import peers
from jaxsrda.flow.jet import truth_key
from jaxsrda.flow.solver import stepper

TESTBED = jaxsrda.jet()

GRIDS = (32, 64, 128, 256, 512, 1024)
"""Points in x; a channel has half as many in y, and the wall."""

STEPS = {32: 64, 64: 64, 128: 32, 256: 8, 512: 2, 1024: 1}
"""Steps a call."""

STAGES = 4
"""Tendencies of an ETDRK4 step."""

WANTED = 1e-5
"""Relative L1 error at t = 5 that a run may have."""

OWN_STEPS, PAPER_STEPS = (13, 14, 16, 20, 25), 2000
"""ETDRK4 steps a frame that are tried for it, and the paper's RK2 steps."""

ERROR_FRAMES = 20
"""Frames until t = 5."""


def level_of(nx: int) -> jaxsrda.Level:
    """The analysis level with another number of points, and ν such that its last wavenumber decays as fast."""
    own = TESTBED.analysis
    return jaxsrda.Level(f"nx{nx}", nx, nx // 2 + 1, own.viscosity * (own.nx / nx) ** 4, own.steps, own.rk2_steps)


def run(scheme: str, level: jaxsrda.Level, dt: float, counts: tuple[int, int], dtype: str = "float32") -> Made:
    """counts[0] × counts[1] steps of a truth's start, to the last state."""
    params = TESTBED.flow_params(level, dtype)
    step = stepper(scheme, level.grid, params, dt)
    program = jaxsrda.rollout(step, *counts, lambda state: state[0, 0])
    return program, (TESTBED.start(truth_key(0), level.grid, dtype),)


def members_run(members: int, steps: int) -> Made:
    """Steps of an ensemble at HR."""
    level = TESTBED.analysis
    step = stepper("etdrk4", level.grid, TESTBED.flow_params(level, "float32"), TESTBED.frame / level.steps)
    keys = jax.random.split(jax.random.key(0), members)
    states = jax.lax.map(lambda key: TESTBED.start(key, level.grid, "float32"), keys)

    def many(states: Array) -> Array:
        return jax.lax.fori_loop(0, steps, lambda _, s: jax.vmap(step)(s), states)

    return many, (states,)


def cases(quick: bool) -> list[Case]:
    """Growth with the grid and the members, the peers, and the paper's scheme."""
    found = []
    for nx in GRIDS[:4] if quick else GRIDS:
        level, steps = level_of(nx), STEPS[nx]
        found.append(
            Case(
                f"ETDRK4 step, {level.nx} × {level.ny}",
                functools.partial(run, "etdrk4", level, TESTBED.frame / level.steps * 128 / nx, (steps, 1)),
                {"grid": nx, "points": level.nx * level.ny},
                "tendency",
                STAGES * steps,
                steps,
                growth="grid",
            )
        )
    for members in (1, 20) if quick else (1, 10, 100, 1000):
        steps = max(1, 32 // members)
        found.append(
            Case(
                f"ETDRK4 step at HR, members {members}",
                functools.partial(members_run, members, steps),
                {"grid": 128, "members": members},
                "tendency of a member",
                STAGES * steps * members,
                steps,
                growth="members",
            )
        )
    return found + peers.cases(quick) + paper(quick)


def paper(quick: bool) -> list[Case]:
    """A whole run of 24 time units (a frame of it if quick) by both schemes in turns.

    The error of each number of steps is that of `errors`.
    """
    level, frames = TESTBED.analysis, 1 if quick else TESTBED.frames
    tried = [("etdrk4", steps) for steps in OWN_STEPS] + [("rk2", level.rk2_steps)]
    assert level.rk2_steps == PAPER_STEPS
    return [
        Case(
            f"{scheme} {steps} steps a frame, {frames} frames",
            functools.partial(run, scheme, level, TESTBED.frame / steps, (steps, frames)),
            {"grid": 128, "steps": steps, "frames": frames, "scheme": scheme},
            "frame",
            frames,
            steps * frames,
            turns="paper",
        )
        for scheme, steps in (tried if not quick else [tried[0], tried[2], tried[4], tried[-1]])
    ]


def errors(quick: bool) -> dict[str, float]:
    """Relative L1 error at t = 5 in float64 by number of ETDRK4 steps a frame, against 200 steps a frame."""
    tried = OWN_STEPS[::2] if quick else OWN_STEPS
    with jax.enable_x64(True):
        level = TESTBED.analysis

        def last(steps: int) -> Array:
            program, arguments = run("etdrk4", level, TESTBED.frame / steps, (steps, ERROR_FRAMES), "float64")
            return jaxsrda.to_physical(level.grid, jax.jit(program)(*arguments)[0])

        exact = last(200)
        return {str(steps): float(jnp.abs(last(steps) - exact).sum() / jnp.abs(exact).sum()) for steps in tried}
