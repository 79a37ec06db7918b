"""DiffSRDA: a prior's forecasts and the observations condition a diffusion model that draws ensembles.

A `Prior` (an EnKF, or a bare cheap forecast) gives a first guess of the window until the next assimilation time; the
model draws what the guess misses; the prior's forecasts restart from the samples.  Ayapilla, Miyashita, Yasuda &
Onishi (2026, arXiv:2604.21180).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.core.checks import check_choice
from jaxsrda.cycling.assimilator import Assimilator, Setup, Window
from jaxsrda.diffsrda.condition import Conditioning, Memory, Snapshot, channels, no_memory, remember, snapshot
from jaxsrda.diffsrda.config import RESTARTS
from jaxsrda.diffsrda.prior import Prior
from jaxsrda.observing.observations import Observations
from jaxsrda.observing.sensors import belongs


class State(NamedTuple):
    """The prior's state, and what the last times left behind, one memory for each guess."""

    prior: Any
    memory: Memory


class Corrections(NamedTuple):
    """What a draw gives: independent samples (M, frames, nx, ny) of the correction to a guess, and the correction
    (frames, nx, ny) that they lie around, None if that is their mean."""

    samples: Array
    mean: Array | None = None


@dataclasses.dataclass(frozen=True)
class Draw:
    """draw(key, conditions (G, nx, ny, channels), observations) → `Corrections` to the guess, or samples alone.

    Called, it gives the samples.  conditioning: what conditions hold; members: M.
    """

    draw: Callable[..., Corrections | Array]
    conditioning: Conditioning
    members: int

    def __call__(self, key: Array, conditions: Array, observations: Observations | None = None) -> Array:
        return self.corrections(key, conditions, observations).samples

    def corrections(self, key: Array, conditions: Array, observations: Observations | None = None) -> Corrections:
        """Samples, and what they lie around."""
        drawn = self.draw(key, conditions, observations)
        return drawn if isinstance(drawn, Corrections) else Corrections(drawn)


def recorded_step(
    setup: Setup, prior: Prior, draw: Draw | None, restart: str = "open", units: Conditioning | None = None
) -> Callable:
    """A step that also returns the snapshots (G leading): (key, state, observations) → (state, Window, Snapshot).

    draw: None leaves the prior alone (its guess is the analysis).  restart: `open` (the prior goes its own way),
    `first`, `mean` or `each` sample.  units: what snapshots are made with, by default the draw's, else the testbed's.
    """
    check_choice("restart", restart, RESTARTS)
    grid, units = setup.grid, conditioning_of(setup, draw, units)

    def conditioned(observations: Observations) -> Observations:
        # What other operators measure cannot be kriged as vorticity; the prior's analysis still uses it.
        vorticity = belongs(observations, [each.measures_vorticity for each in setup.sensors])
        assimilated = setup.assimilated(observations)
        return assimilated._replace(mask=assimilated.mask & vorticity)

    def step(key: Array, state: State, observations: Observations) -> tuple[State, Window, Snapshot]:
        prior_key, draw_key = jax.random.split(key)
        later, analysed = prior.analyse(prior_key, state.prior, observations)
        guess, heard = analysed.guess, conditioned(observations)
        predicted = setup.observed(guess.frames[:, 0], observations)
        now = jax.vmap(lambda g, p: snapshot(grid, g, p, heard, units))(guess, predicted)
        omega, estimate = guess.frames, None
        if draw is not None:
            conditions = jax.vmap(lambda n, m: channels(grid, n, m, units))(now, state.memory)
            inputs = draw_key, conditions, observations
            drawn = draw.corrections(*inputs) if isinstance(draw, Draw) else Corrections(draw(*inputs))
            omega = guess.frames[jnp.arange(len(drawn.samples)) % prior.guesses] + drawn.samples
            estimate = None if drawn.mean is None else guess.frames.mean(0) + drawn.mean
        # What `mean` restarts from, and what the model's own forecast is.
        best = omega if estimate is None else estimate[None]
        restarted = best[:, 0] if restart == "mean" else omega[:, 0]
        if draw is not None and restart != "open":
            later = prior.restart(later, restarted, restart)
        # The memory holds what the prior itself thought, in training as in use; forecasts without an analysis of
        # their own are remembered as they restarted.
        past, analysis, ahead = now, guess.frames[:, 0], None
        if prior.began is not None and draw is not None and restart != "open":
            analysis = prior.began(restarted, restart)
            past = jax.vmap(lambda g, a, p: snapshot(grid, g._replace(frames=a[None]), p, heard, units))(
                guess, analysis, setup.observed(analysis, observations)
            )
        if draw is not None:
            ahead = omega[:, -1] if prior.guesses == len(omega) else best[:, -1].mean(0, keepdims=True)
        memory = jax.vmap(remember)(state.memory, past, analysis, ahead)
        window = setup.window(
            setup.assimilated(observations),
            omega[:, :-1],
            guess.background.mean(0),
            analysed.before,
            analysed.speeds,
            None if estimate is None else estimate[:-1],
        )
        # No window shows the last frame, which the memory keeps.
        finite = window.diagnostics.finite & jnp.isfinite(omega[:, -1]).all()
        return State(later, memory), window._replace(diagnostics=window.diagnostics._replace(finite=finite)), now

    return step


def conditioning_of(setup: Setup, draw: Draw | None, units: Conditioning | None = None) -> Conditioning:
    """What a draw's conditions hold; without one `units`, by default what fits the testbed.

    ValueError for units that are not the draw's.
    """
    own = getattr(draw, "conditioning", None)
    if own is not None and units is not None and own != units:
        raise ValueError(f"conditioning: the model's is {own}, got {units}; leave it out")
    return own or units or Conditioning.of(setup.testbed)


def start(setup: Setup, prior: Prior, key: Array, dtype: Any, units: Conditioning | None = None) -> State:
    """The state before the first time."""
    past = (Conditioning.of(setup.testbed) if units is None else units).past
    memory = no_memory(setup.grid, jnp.zeros((), dtype).dtype, past)
    return State(prior.init(key), jax.tree.map(lambda a: jnp.stack([a] * prior.guesses), memory))


def diffsrda(setup: Setup, prior: Prior, draw: Draw, members: int, restart: str = "each") -> Assimilator:
    """The diffusion model in the cycle: an `Assimilator` of `members` samples."""
    recorded = recorded_step(setup, prior, draw, restart)
    begin = functools.partial(start, setup, prior, dtype=setup.dtype, units=conditioning_of(setup, draw))

    def step(key: Array, state: State, observations: Observations) -> tuple[State, Window]:
        return recorded(key, state, observations)[:2]

    return Assimilator(lambda key: begin(key), step, members)
