"""The cycle: one `jax.lax.scan` over assimilation times, the same for every method.

At each time the assimilator sees that time's observations and returns its ensemble for the frames
t until the next; they are scored against the truth at once, and only sums and per-frame numbers leave
the scan, full fields on request.  Everything is pure: jit it, vmap it over truths, seeds and traced
hyperparameters, or run it in segments by handing the carry of one call to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxsrda.core.checks import check_choice, check_shape
from jaxsrda.core.roots import deviation
from jaxsrda.cycling.assimilator import Assimilator, Window
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.solver import Speeds
from jaxsrda.flow.testbed import Testbed, jet
from jaxsrda.observing.observations import Observations
from jaxsrda.scoring.fit import observation_fit
from jaxsrda.scoring.joint import JOINT_SCORES
from jaxsrda.scoring.point import SCORES, Score, frame_scores
from jaxsrda.scoring.tally import Tally, empty_tally, frame_tally, merge

Keep = Literal["scores", "fields", "members"]
KEEP = get_args(Keep)


class Carry(NamedTuple):
    """What one cycle hands to the next: the method's state, the sums of scores, the number of cycles done, whether
    every number was finite so far, and the number of the first assimilation time, counted from time zero."""

    state: Any
    tally: Tally | None
    index: Array
    finite: Array
    first: Array | int = 0


class Fields(NamedTuple):
    """The analysis (the ensemble's mean, or what its members lie around) and the members' standard deviation of each
    frame (cycles, F, nx, ny), the background's mean at the analysis times (cycles, nx, ny), and, if kept, the members
    (cycles, M, F, nx, ny)."""

    mean: Array
    std: Array
    background: Array
    members: Array | None


class History(NamedTuple):
    """What comes out of the scan, cycles leading.

    scores: per-frame scores, each (cycles, F), None without a truth; fit_background, fit_analysis: fit to the
    observations assimilated, each entry (cycles,); finite: (cycles,); speeds: (cycles, F + 1); fields: on request;
    rejected: how many observations a background check kept from the method, (cycles,), None without one.
    """

    scores: dict[str, Array] | None
    fit_background: dict[str, Array]
    fit_analysis: dict[str, Array]
    finite: Array
    speeds: Speeds
    fields: Fields | None
    rejected: Array | None = None


def start(
    assimilator: Assimilator, key: Array, grid: ChannelGrid | None = None, dtype: DTypeLike = float, first: int = 0
) -> Carry:
    """The carry before the first cycle; `grid` is that of the truth, None to run without one; first: `Setup.first`."""
    dtype = jnp.zeros((), dtype).dtype
    tally = None if grid is None else empty_tally(grid, assimilator.members, dtype)
    state = assimilator.init(jax.random.fold_in(key, 0))
    return Carry(state, tally, jnp.int32(0), jnp.asarray(True), jnp.int32(first))


def run_cycles(
    assimilator: Assimilator,
    key: Array,
    observations: Observations,
    truth: Array | None = None,
    carry: Carry | None = None,
    keep: Keep = "scores",
    testbed: Testbed | None = None,
    joint: bool = False,
) -> tuple[Carry, History]:
    """Run one cycle for each leading entry of `observations`.

    observations: stacked over the assimilation times; truth: the frames (F × cycles, nx, ny) on the analysis grid for
    scoring, F those of a cycle, or None; carry: where to go on from, by default `start`; keep: `scores`, `fields` too,
    or `members` too; testbed: gives F and the range of vorticity, by default `jet`; joint: whether the scores of
    `scoring.JOINT_SCORES` are computed too.
    The first assimilation time (frames 0 … F − 1) is run but, as in arXiv:2604.21180, not tallied.
    Raises ValueError if the truth does not have F frames for each time.
    """
    check_choice("keep", keep, KEEP)
    testbed = jet() if testbed is None else testbed
    cycles, every = observations.values.shape[0], testbed.frames_per_cycle
    scores = SCORES | JOINT_SCORES if joint else SCORES
    span = testbed.vorticity_range[1] - testbed.vorticity_range[0]
    windows = grid = None
    if truth is not None:
        check_shape("truth", truth, (every * cycles, None, None), f"; {every} frames for each observation time")
        grid = ChannelGrid(*truth.shape[1:])
        windows = truth.reshape(cycles, every, *grid.shape)
    if carry is None:
        carry = start(assimilator, key, grid, observations.values.dtype)

    def cycle(carry: Carry, inputs: tuple[Observations, Array | None]) -> tuple[Carry, History]:
        observed, frames = inputs
        step_key, rank_key = jax.random.split(jax.random.fold_in(key, 1 + carry.index))
        state, out = assimilator.step(step_key, carry.state, observed)
        tally, per_frame = carry.tally, None
        if frames is not None and tally is not None:
            per_frame, sums = _score(rank_key, out, frames, span, scores)
            # From the second cycle on.
            counted = carry.index > 0
            tally = merge(tally, jax.tree.map(lambda s: jnp.where(counted, s, 0).astype(s.dtype), sums))
        history = History(
            per_frame,
            _fit(observed, out, out.diagnostics.background_observed),
            _fit(observed, out, out.diagnostics.analysis_observed),
            out.diagnostics.finite,
            out.diagnostics.speeds,
            None if keep == "scores" else _fields(out, keep == "members"),
            None if (rejected := out.diagnostics.rejected) is None else rejected.sum(dtype=jnp.int32),
        )
        finite = carry.finite & out.diagnostics.finite
        return Carry(state, tally, carry.index + 1, finite, carry.first), history

    return jax.lax.scan(cycle, carry, (observations, windows))


def _score(
    key: Array, out: Window, truth: Array, span: float, scores: Mapping[str, Score]
) -> tuple[dict[str, Array], Tally]:
    """Scores of the window's frames, and their tally."""
    grid, first = ChannelGrid(*truth.shape[1:]), (out.omega[:, 0], truth[0])

    def frame(inputs):
        key, ensemble, truth, analysis = inputs
        numbers = frame_scores(ensemble, truth, span, analysis, first, scores)
        return numbers, frame_tally(key, grid, ensemble, truth, analysis)

    keys = jax.random.split(key, len(truth))
    # One frame at a time: a vmap would hold a window's worth of sorted members at once.
    per_frame, sums = jax.lax.map(frame, (keys, jnp.moveaxis(out.omega, 1, 0), truth, out.analysis))
    return per_frame, jax.tree.map(lambda s: s.sum(0).astype(s.dtype), sums)


def _fit(observed: Observations, out: Window, predicted: Array) -> dict[str, Array]:
    """Fit to the observations that the method assimilated."""
    return observation_fit(observed.values, predicted, out.diagnostics.assimilated, observed.variance)


def _fields(out: Window, members: bool) -> Fields:
    mean = out.omega.mean(0) if out.analysis is None else out.analysis
    return Fields(mean, deviation(out.omega, ddof=1), out.background, out.omega if members else None)
