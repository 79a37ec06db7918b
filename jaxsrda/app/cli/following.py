"""What an assimilation follows: the truth, the observations, and where an earlier run ended."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsrda.app.cli.common import say

if TYPE_CHECKING:
    from jaxsrda.app.cli.assimilate import Assimilate


def followed(options: Assimilate, given: Any, read: Any, carry: Any, progress: Any) -> Any:
    """The experiment with the truth, as read or simulated, and the observations of the times that it is to run."""
    from jaxsrda.experiment.carry import interval, next_time
    from jaxsrda.experiment.truth import simulate_truth
    from jaxsrda.flow.frames import Frames

    flow, every = given.testbed, given.testbed.frames_per_cycle
    began = given.first if carry is None else int(carry.first[0])
    now, truth, seeds, own = began if carry is None else next_time(carry), None, None, given.observations
    if read is not None:
        truth = part(options, read, flow, carry)
        now = round(truth.start / interval(flow)) if truth.timed else now
    elif own is None:
        seeds, frames = list(range(options.seed, options.seed + (options.truths or 1))), began * every + flow.frames
        made = simulate_truth(flow, seeds, options.truth_level, frames, progress=progress)
        truth = part(options, Frames(made[:, began * every :]), flow, carry)
    if own is not None:
        own = coming(options, own, now, None if truth is None else truth.shape[1] // every)
    start = options.start if carry is None else None
    return dataclasses.replace(given, truth=truth, truth_seeds=seeds, observations=own, carry=carry, start=start)


def coming(options: Assimilate, own: Any, now: int, cycles: int | None) -> Any:
    """The observations from cycle `now` on, for as many cycles as the truth has or are to run, silent where there
    are none; ValueError if there are none at all."""
    import jax

    from jaxsrda.observing.observations import extended

    if now >= len(own.mask):
        raise ValueError(
            f"--observations: expected some from cycle {now} on, where this run begins, got none after cycle "
            f"{len(own.mask) - 1}; give later ones"
        )
    if earlier := int(own.mask[:now].sum()):
        say(f"{options.observations}: {earlier} observations of times before this run are left out")
    cycles = options.cycles if cycles is None else cycles
    if cycles is None:
        return jax.tree.map(lambda a: a[now:], own)
    if later := int(own.mask[now + cycles :].sum()):
        say(f"{options.observations}: {later} observations of times after this run are left out")
    return jax.tree.map(lambda a: a[now : now + cycles], extended(own, now + cycles))


def part(options: Assimilate, truth: Any, testbed: Any, carry: Any) -> Any:
    """The frames of a truth that come after the carry, as many as are to run."""
    from jaxsrda.experiment.carry import interval, next_time
    from jaxsrda.experiment.carry_files import check_followed

    done = 0 if carry is None else int(carry.index[0])
    if carry is not None and truth.timed:  # its own times say where the carry ended
        ended = interval(testbed) * next_time(carry)
        done = round((ended - truth.start) / interval(testbed))
        if done < 0:
            raise ValueError(
                f"--truth: expected the times from {ended:g} on, where the run goes on, got those from "
                f"{truth.start:g} on; give earlier ones too"
            )
    every, left = testbed.frames_per_cycle, truth.shape[-3] // testbed.frames_per_cycle - done
    if left < (options.cycles or 1):
        raise ValueError(
            f"cycles: expected at most {max(left, 0)}, those that the truth has left after {done} that were run, "
            f"got {options.cycles or 1}; give a longer one as --truth (jaxsrda simulate --frames makes it), or begin "
            "anew with another carry folder"
        )
    if done and options.carry is not None:
        check_followed(options.carry, truth.cut(0, done * every).values)
    end = None if options.cycles is None else (done + options.cycles) * every
    return truth.cut(done * every, end)


def earlier(folder: Path, given: Any, start: float | None) -> Any:
    """The carry that an earlier run left in a folder, None if there is none yet; ValueError for one of other work."""
    from jaxsrda.experiment.carry import start_time
    from jaxsrda.experiment.carry_files import load_carry

    room = folder if folder.exists() else folder.parent
    if not room.is_dir():
        raise ValueError(f"--carry: expected a folder or room for one, found no folder {room}; make it")
    if not os.access(room, os.W_OK):
        raise ValueError(f"--carry: expected a folder that can be written, {room} cannot; choose another")
    if not folder.exists() or not any(folder.iterdir()):
        return None
    carry = load_carry(folder, given)
    began = start_time(None, given.testbed, carry._replace(index=0 * carry.index))
    if start not in (None, began):
        raise ValueError(f"--start: the run in {folder} began at {began:g}, got {start:g}; leave it out")
    return carry
