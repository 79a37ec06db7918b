"""Simulations: trajectories inside a program, batches on the host, and long runs that resume after a kill."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core.cache import content_hash
from jaxsrda.core.checks import check_choice, check_positive, check_shape
from jaxsrda.core.files import write_npz
from jaxsrda.core.records import to_json
from jaxsrda.flow.grid import regrid, to_physical, to_spectral
from jaxsrda.flow.jet import initial_state, truth_key
from jaxsrda.flow.solver import SCHEMES, FlowParams, Speeds, check_stable, rollout, speeds, stepper
from jaxsrda.flow.testbed import DEFAULT_FRAMES, FRAME, Level, checked_steps, default_steps, flow_params, level_grid

SAVE_EVERY = 20.0
"""Seconds of work that a kill can cost."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A simulation: level, frames (the start counts as one), scheme, time steps a frame, seed."""

    level: Level
    frames: int
    scheme: str = "etdrk4"
    steps: int | None = None
    seed: int = 0

    def __post_init__(self):
        check_choice("scheme", self.scheme, SCHEMES)
        if self.frames < 1:
            raise ValueError(f"frames: expected at least 1 (the start counts as one), got {self.frames}")
        if self.steps is not None:
            check_positive("steps", self.steps)

    @property
    def steps_a_frame(self) -> int:
        """Time steps a frame, the level's own by default."""
        return default_steps(self.level, self.scheme) if self.steps is None else self.steps


def estimate_seconds(run: Run) -> float:
    """Wall time that a run will take, from a few timed steps at its level (compiles them first)."""
    grid = level_grid(run.level)
    step = stepper(run.scheme, grid, flow_params(run.level), FRAME / run.steps_a_frame)
    state = initial_state(truth_key(run.seed), grid)
    few = jax.jit(rollout(step, 2, 1)).lower(state).compile()
    few(state)[0].block_until_ready()
    began = time.perf_counter()
    few(state)[0].block_until_ready()
    return (time.perf_counter() - began) / 2 * run.steps_a_frame * (run.frames - 1)


def start_state(run: Run, initial: np.ndarray | None = None) -> Array:
    """Amplitudes of the run's first frame: the user's field [nx, ny], or the jet perturbed from the seed."""
    grid = level_grid(run.level)
    if initial is None:
        return initial_state(truth_key(run.seed), grid)
    check_shape("initial field", initial, grid.shape, f"; the {run.level.name} level's grid, both walls counted")
    return to_spectral(grid, jnp.asarray(initial, jnp.zeros(()).dtype))


def simulate_resumable(
    run: Run,
    folder: Path,
    initial: np.ndarray | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Vorticity (frames, nx, ny) of a run, frame by frame; finished parts are kept in `folder` until it is done.

    Called again with the same run and start after a kill, it goes on from the last part and gives the same numbers.
    The folder is removed at the end.  Raises ValueError if it holds parts of another run, and
    `UnstableStepError` if the step became unstable.
    """
    state = start_state(run, initial)
    grid = level_grid(run.level)
    fingerprint = content_hash(json.dumps([to_json(run), np.asarray(state).tobytes().hex()]))
    parts, state = _resume(folder, fingerprint, state)
    done = sum(len(part) for part in parts)
    to_field = jax.jit(lambda a: to_physical(grid, a))
    fields: list[np.ndarray] = []
    if done == 0:
        fields, done = [np.asarray(to_field(state))], 1
    progress(done, run.frames)
    saved = time.perf_counter()
    while done < run.frames:
        pair = simulate(run.level, state[None], 2, scheme=run.scheme, steps=run.steps_a_frame, start=(done - 1) * FRAME)
        state = pair[0, 1]
        fields.append(np.asarray(to_field(state)))
        done += 1
        progress(done, run.frames)
        if time.perf_counter() - saved > SAVE_EVERY and done < run.frames:
            folder.mkdir(parents=True, exist_ok=True)
            part = np.stack(fields)
            write_npz(folder / f"part-{len(parts):04d}.npz", omega=part, state=np.asarray(state), run=fingerprint)
            parts.append(part)
            fields, saved = [], time.perf_counter()
    omega = np.concatenate([*parts, *([np.stack(fields)] if fields else [])])
    if folder.exists():
        shutil.rmtree(folder)
    return omega


def _resume(folder: Path, fingerprint: str, state: Array) -> tuple[list[np.ndarray], Array]:
    """The parts in the folder, in order, and the state after the last."""
    parts: list[np.ndarray] = []
    for path in sorted(folder.glob("part-*.npz")) if folder.exists() else []:
        with np.load(path) as part:
            if str(part["run"]) != fingerprint:
                raise ValueError(
                    f"{folder}: holds parts of another run (level, frames, steps, seed or start differ); "
                    "remove the folder or choose another output"
                )
            parts.append(part["omega"])
            state = jnp.asarray(part["state"])
    return parts, state


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


def to_level(source: Level, target: Level, omega_hat: Array, method: str = "spectral") -> Array:
    """Fields [nx, ny] on the target level's grid of amplitudes at the source level (see `grid.regrid`)."""
    grid, coarse = level_grid(source), level_grid(target)
    return regrid(grid, coarse, to_physical(grid, omega_hat), method)
