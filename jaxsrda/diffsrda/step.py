"""DiffSRDA: a prior's forecasts and the observations condition a diffusion model that draws HR ensembles.

A `Prior` (an EnKF, or a bare LR forecast) gives a first guess of the window t … t + 4 from cheap forecasts; the
model draws what the guess misses; the prior's forecasts restart from the samples.  Ayapilla, Miyashita, Yasuda &
Onishi (2026, arXiv:2604.21180).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.core.checks import check_choice
from jaxsrda.cycling.assimilator import Assimilator, Diagnostics, Setup, Window
from jaxsrda.diffsrda.condition import FRAMES, Memory, Snapshot, channels, no_memory, remember, snapshot
from jaxsrda.diffsrda.config import RESTARTS
from jaxsrda.diffsrda.prior import Prior
from jaxsrda.observing.observations import Observations, sees_vorticity

# The cycle's step -----------------------------------------------------------------------------


class State(NamedTuple):
    """The prior's state, and what was seen at the last times, one memory for each guess."""

    prior: Any
    memory: Memory


Draw = Callable[..., Array]
"""draw(key, conditions (G, nx, ny, CHANNELS), observations) → corrections (M, 5, nx, ny) to the guess's frames."""


def recorded_step(setup: Setup, prior: Prior, draw: Draw | None, restart: str = "open") -> Callable:
    """A step that also returns the snapshots (G leading): (key, state, observations) → (state, Window, Snapshot).

    draw: None leaves the prior alone (its guess is the analysis).  restart: `open` (the prior goes its own way),
    `first`, `mean` or `each` sample.
    """
    check_choice("restart", restart, RESTARTS)
    grid = setup.grid

    def step(key: Array, state: State, observations: Observations) -> tuple[State, Window, Snapshot]:
        prior_key, draw_key = jax.random.split(key)
        later, analysed = prior.analyse(prior_key, state.prior, observations)
        guess = analysed.guess
        # What other operators measure cannot be kriged as vorticity; the prior's analysis still uses it.
        direct = sees_vorticity(observations, setup.operator, setup.guide_operator)
        told = observations._replace(mask=observations.mask & direct)
        predicted = setup.observed(guess.frames[:, 0], observations)
        now = jax.vmap(lambda g, seen: snapshot(grid, g, seen, told))(guess, predicted)
        if draw is None:
            omega = guess.frames
        else:
            conditions = jax.vmap(functools.partial(channels, grid))(now, state.memory)
            corrections = draw(draw_key, conditions, observations)
            omega = guess.frames[jnp.arange(len(corrections)) % prior.guesses] + corrections
            if restart != "open":
                later = prior.restart(later, omega[:, 0], restart)
        # The memory holds what the prior itself thought, in training as in use; forecasts without an analysis of
        # their own are remembered as they restarted.
        past, analysis, ahead = now, guess.frames[:, 0], None
        if prior.began is not None and draw is not None and restart != "open":
            analysis = prior.began(omega[:, 0], restart)
            past = jax.vmap(lambda g, a, seen: snapshot(grid, g._replace(frames=a[None]), seen, told))(
                guess, analysis, setup.observed(analysis, observations)
            )
        if draw is not None:
            ahead = omega[:, -1] if prior.guesses == len(omega) else omega[:, -1].mean(0, keepdims=True)
        memory = jax.vmap(remember)(state.memory, past, analysis, ahead)
        finite = jnp.isfinite(omega).all() & jnp.isfinite(analysed.speeds.rate).all()
        after = setup.observed(omega[:, 0], observations)
        diagnostics = Diagnostics(finite, analysed.before, after, analysed.speeds)
        window = Window(omega[:, : FRAMES - 1], guess.background.mean(0), diagnostics)
        return State(later, memory), window, now

    return step


def start(setup: Setup, prior: Prior, key: Array, dtype: Any) -> State:
    """The state before the first time."""
    memory = no_memory(setup.grid, jnp.zeros((), dtype).dtype)
    return State(prior.init(key), jax.tree.map(lambda a: jnp.stack([a] * prior.guesses), memory))


def diffsrda(
    setup: Setup, prior: Prior, draw: Draw, members: int, restart: str = "each", dtype: Any = float
) -> Assimilator:
    """The diffusion model in the cycle: an `Assimilator` of `members` samples."""
    recorded = recorded_step(setup, prior, draw, restart)

    def step(key: Array, state: State, observations: Observations) -> tuple[State, Window]:
        return recorded(key, state, observations)[:2]

    return Assimilator(lambda key: start(setup, prior, key, dtype), step, members)
