"""Simulations: trajectories inside a program, batches on the host, and long runs that resume after a kill."""

from __future__ import annotations

import dataclasses
import functools
import math
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core.cache import content_hash
from jaxsrda.core.checkpoints import Checkpoints
from jaxsrda.core.checks import check_choice, check_positive, check_seed, check_shape
from jaxsrda.core.interrupts import goes_on, interruptible
from jaxsrda.core.locks import locked
from jaxsrda.core.records import key_of
from jaxsrda.flow.grid import ChannelGrid, to_physical, to_spectral
from jaxsrda.flow.jet import truth_key
from jaxsrda.flow.solver import (
    SCHEMES,
    FlowParams,
    Speeds,
    UnstableStepError,
    check_stable,
    rollout,
    speeds,
    stable_rate,
    stepper,
)
from jaxsrda.flow.testbed import Level, Testbed

SAVE_EVERY = 20.0
"""Seconds of work that a kill can cost."""

SHORTER = 1.5
"""How many times as many steps a frame has once the step has become unstable."""

MOST = 32
"""How many times as many steps as at first are tried."""


class Trajectory(NamedTuple):
    """Frames of a run, start included: amplitudes [frames, 2K+1, L] and their `Speeds` [frames]."""

    omega_hat: Array
    speeds: Speeds


def integrate(
    testbed: Testbed,
    level: Level,
    omega_hat: Array,
    frames: int,
    params: FlowParams | None = None,
    scheme: str = "etdrk4",
    steps: int | None = None,
) -> Trajectory:
    """Run a level from amplitudes [2K+1, L] for `frames` frames, the start counted (pure, traceable).

    params: physical coefficients, by default the testbed's at the level; steps: time steps a frame, by default the
    level's own for the scheme.  Raises ValueError for a wrong shape, an unknown scheme, or fewer than 1 frame or step.
    """
    check_shape("omega_hat", omega_hat, level.grid.spectral_shape)
    _check_frames(frames)
    steps = level.checked_steps(scheme, steps)
    params = testbed.flow_params(level, omega_hat.dtype) if params is None else params
    return _trajectory(omega_hat, params, level.grid, frames, scheme, steps, testbed.frame)


def _check_frames(frames: int) -> None:
    if frames < 1:
        raise ValueError(f"frames: expected at least 1 (the start counts as one), got {frames}")


def _trajectory(
    omega_hat: Array, params: FlowParams, grid: ChannelGrid, frames: int, scheme: str, steps: int, frame: float
) -> Trajectory:
    step = stepper(scheme, grid, params, frame / steps)

    def output(state: Array) -> Trajectory:
        return Trajectory(state, speeds(grid, state))

    _, later = rollout(step, steps, frames - 1, output)(omega_hat)
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), output(omega_hat), later)


_trajectories = jax.jit(
    lambda omega_hat, params, *static: jax.vmap(lambda state: _trajectory(state, params, *static))(omega_hat),
    static_argnums=(2, 3, 4, 5, 6),
)


@functools.partial(jax.jit, static_argnames="grid")
def _speeds_batch(omega_hat: Array, grid: ChannelGrid) -> Speeds:
    return jax.vmap(lambda state: speeds(grid, state))(omega_hat)


def simulate(
    testbed: Testbed,
    level: Level,
    omega_hat: Array,
    frames: int | None = None,
    params: FlowParams | None = None,
    scheme: str = "etdrk4",
    steps: int | None = None,
    start: float = 0.0,
) -> Array:
    """Run a batch of states [runs, 2K+1, L] on the host's behalf: amplitudes [runs, frames, 2K+1, L].

    Compiled once for equal grids, lengths and steps.  Raises `UnstableStepError` (with time, speed and the step
    that would do) instead of returning NaN, and ValueError as `integrate` does.
    """
    check_shape("omega_hat", omega_hat, (None, *level.grid.spectral_shape))
    steps, frames = level.checked_steps(scheme, steps), testbed.frames if frames is None else frames
    _check_frames(frames)
    params = testbed.flow_params(level, omega_hat.dtype) if params is None else params
    dt = testbed.frame / steps
    # Before spending anything: a step that the first frame already forbids.
    now = _speeds_batch(omega_hat, level.grid)
    check_stable(Speeds(now.rate[:, None], now.speed[:, None]), np.array([start]), dt, scheme)
    trajectory = _trajectories(omega_hat, params, level.grid, frames, scheme, steps, testbed.frame)
    check_stable(trajectory.speeds, start + testbed.frame * np.arange(frames), dt, scheme)
    return trajectory.omega_hat


# Long runs ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Run:
    """A simulation: testbed, level, frames (the start counts as one), scheme, time steps a frame, seed."""

    testbed: Testbed
    level: Level
    frames: int
    scheme: str = "etdrk4"
    steps: int | None = None
    seed: int = 0

    def __post_init__(self):
        check_choice("scheme", self.scheme, SCHEMES)
        _check_frames(self.frames)
        check_seed("seed", self.seed)
        if self.steps is not None:
            check_positive("steps", self.steps)

    @property
    def steps_a_frame(self) -> int:
        """Time steps a frame, the level's own by default."""
        return self.level.checked_steps(self.scheme, self.steps)


def estimate_seconds(run: Run) -> float:
    """Wall time that a run will take, from a few timed steps at its level (compiles them first)."""
    grid = run.level.grid
    step = stepper(run.scheme, grid, run.testbed.flow_params(run.level), run.testbed.frame / run.steps_a_frame)
    state = start_state(run)
    few = jax.jit(rollout(step, 2, 1)).lower(state).compile()
    few(state)[0].block_until_ready()
    began = time.perf_counter()
    few(state)[0].block_until_ready()
    return (time.perf_counter() - began) / 2 * run.steps_a_frame * (run.frames - 1)


def start_state(run: Run, initial: np.ndarray | None = None) -> Array:
    """Amplitudes of the run's first frame: the user's field [nx, ny], or the testbed's first state from the seed."""
    grid = run.level.grid
    if initial is None:
        return run.testbed.start(truth_key(run.seed), grid)
    check_shape("initial field", initial, grid.shape, f"; the {run.level.name} level's grid, both walls counted")
    return to_spectral(grid, jnp.asarray(initial, jnp.zeros(()).dtype))


def _shorter(frame: int, steps: int) -> None:
    warnings.warn(f"the time step became too long: from frame {frame} on {steps} steps a frame", stacklevel=3)


def simulate_resumable(
    run: Run,
    folder: Path,
    initial: np.ndarray | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    shorter: Callable[[int, int], None] = _shorter,
    keep: bool = False,
) -> np.ndarray:
    """Vorticity (frames, nx, ny) of a run, frame by frame; finished parts are kept in `folder` until it is done.

    Called again with the same run and start after a kill, it goes on from the last part and gives the same numbers; an
    interrupt from the keyboard ends it after the frame that is under way, and keeps all.
    Where the step becomes unstable it goes back to the last frame at which the step was stable beyond doubt, and on
    with `SHORTER` times as many steps; `shorter(frame, steps)` is told, by default by a warning: up to that frame (the
    start is 0) the step is the longer one.  The folder is removed at the end, unless whoever called `keep`s it until
    the result is written.  Raises ValueError if it holds parts of another run or another process is at work there, and
    `UnstableStepError` if steps that were asked for are too few from the start on, or `MOST` times as many are still
    too few.
    """
    with locked(folder.with_name(folder.name + ".lock"), wait=False) as mine:
        if not mine:
            raise ValueError(f"{folder}: another process is at work on this run; wait for it, or choose another output")
        with interruptible(goes_on(folder)) as stopped:
            omega = _resumed(run, folder, start_state(run, initial), progress, shorter, stopped)
        if folder.exists() and not keep:
            shutil.rmtree(folder)
        return omega


def _resumed(
    run: Run,
    folder: Path,
    state: Array,
    progress: Callable[[int, int], None],
    shorter: Callable[[int, int], None],
    stopped: Callable[[], bool],
) -> np.ndarray:
    grid, frame, steps = run.level.grid, run.testbed.frame, run.steps_a_frame
    store = Checkpoints(folder, content_hash(key_of(run, np.asarray(state).tobytes().hex())), keep=None)
    saved_parts = store.parts()
    parts = [np.asarray(part.arrays["omega"]) for part in saved_parts]
    lengths: list[list[int]] = []  # where the step was made shorter: frame, steps from there on
    if saved_parts:
        last = saved_parts[-1]
        state, lengths = jnp.asarray(last.arrays["state"]), last.notes.get("shorter", [])
    for at, steps in lengths:
        shorter(at, steps)
    kept = sum(len(part) for part in parts)
    to_field = jax.jit(lambda a: to_physical(grid, a))
    fields: list[np.ndarray] = [] if kept else [np.asarray(to_field(state))]
    done = kept + len(fields)
    sound = done, state  # the last frame at which the step was stable beyond doubt
    if saved_parts:
        sound = last.notes.get("sound", done), jnp.asarray(last.arrays.get("sound", state))
    progress(done, run.frames)
    saved = time.perf_counter()
    while done < run.frames:
        begin = (done - 1) * frame
        try:
            pair = simulate(run.testbed, run.level, state[None], 2, None, run.scheme, steps, begin)
        except UnstableStepError:
            asked_for = run.steps is not None and done == 1
            if asked_for or steps >= MOST * run.steps_a_frame:
                raise
            (done, state), steps = sound, math.ceil(SHORTER * steps)
            while kept > done:  # parts that hold later frames are none any more
                store.drop(kept)
                fields = [*parts.pop(), *fields]
                kept = sum(len(part) for part in parts)
            del fields[done - kept :]
            lengths = [each for each in lengths if each[0] < done - 1] + [[done - 1, steps]]
            shorter(done - 1, steps)
            continue
        state = pair[0, 1]
        fields.append(np.asarray(to_field(state)))
        done += 1
        if float(_speeds_batch(state[None], grid).rate[0]) <= stable_rate(frame / steps, run.scheme):
            sound = done, state
        progress(done, run.frames)
        if stopped() or (time.perf_counter() - saved > SAVE_EVERY and done < run.frames):
            parts.append(np.stack(fields))
            arrays = {"omega": parts[-1], "state": np.asarray(state), "sound": np.asarray(sound[1])}
            store.save_part(kept, done, arrays, {"shorter": lengths, "sound": sound[0]})
            fields, saved, kept = [], time.perf_counter(), done
        if stopped():
            raise KeyboardInterrupt
    store.close()
    return np.concatenate([*parts, *([np.stack(fields)] if fields else [])])
