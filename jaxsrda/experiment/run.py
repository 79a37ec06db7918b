"""Run an experiment from start to finish: truth, observations, cycles, scores.

result = assimilate("enkf-dual")                      # a simulated truth, 128 sensors a time unit
result = assimilate("enkf-hr", truth=my_vorticity)    # your own frames × nx × ny
result.scores["maer"]                                 # mean and 95 % interval over the truths
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.core.checkpoints import check_kept
from jaxsrda.core.devices import Devices, chosen
from jaxsrda.core.progress import Progress
from jaxsrda.core.records import described
from jaxsrda.core.trees import digest
from jaxsrda.cycling.assimilator import Assimilator, Setup
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.experiment.experiment import Experiment, OwnMethod, from_options
from jaxsrda.experiment.identity import known
from jaxsrda.experiment.parts import run_parts
from jaxsrda.experiment.registry import configured_model
from jaxsrda.experiment.result import Result, collect
from jaxsrda.experiment.scan import Inputs, Recipe
from jaxsrda.experiment.truth import default_climatology, simulate_truth
from jaxsrda.observing.observations import Observations, observation_key
from jaxsrda.observing.operators import is_linear
from jaxsrda.observing.sensors import check_values, misfit, observe_truths, withhold


def assimilate(
    method: str | OwnMethod,
    truth: Any = None,
    progress: Progress | None = None,
    devices: Devices = None,
    kept: str | Path | None = None,
    at_once: int | None = None,
    **options: Any,
) -> Result:
    """Run one method over a truth (or several) and score it: `run` of an `Experiment`.

    devices, kept, at_once: as `run` takes them.  options: the fields of `Experiment`, or in place of its sensors the
    flat ones of `from_options`.  Raises ValueError or TypeError for bad input (before any work) and `DivergedError` for
    an ensemble that did not stay finite.
    """
    return run(from_options(method, truth, **options), progress, devices, kept, at_once)


def run(
    given: Experiment,
    progress: Progress | None = None,
    devices: Devices = None,
    kept: str | Path | None = None,
    at_once: int | None = None,
) -> Result:
    """The result of an experiment, the same on any devices to rounding.

    devices: None for one, `all`, how many, or a `jax.sharding.Mesh` with the axes `case` (truths) and `member`; truths
    and members go to as many as they divide into (`core.devices.mesh_of`).  kept: a folder for finished truths; the
    same run, called again after a kill or an interrupt, goes on from it to the same numbers.  The folder stays: remove
    it once the result is saved; several processes keep nothing.  at_once: how many truths go side by side, by default
    all; with `kept` as many as suit the machine, one after the other on a CPU.  Raises `DivergedError` for an ensemble
    that did not stay finite, ValueError for a folder of another run and for devices that there are not.
    """
    report = progress or (lambda *_: None)
    chosen(devices)
    if isinstance(given.config, DiffSRDAConfig) and given.model is None:
        # Weights that are missing or do not fit are said before the truth is made.
        given = dataclasses.replace(given, model=configured_model(given.config))
    if jax.process_count() > 1:
        kept = None
    if kept is not None:
        check_kept(kept, known(given))
    setup, keys, observed, truth = prepare(given, report)
    recipe = recipe_of(given, setup)
    observed, withheld = withhold(observed, keys, given.withhold, given.sensors, given.first)
    inputs = Inputs(setup, keys, observed, truth)
    carry, history, seconds = run_parts(recipe, inputs, given, progress, kept, at_once, devices)
    result = collect(given.name, settings(given), given.testbed, observed, truth, carry, history, seconds)
    if given.withhold > 0:
        analyses = jnp.asarray(result.fields()[0][:, :: given.testbed.frames_per_cycle])
        verified = misfit(given.grid, withheld, analyses, given.sensors, 1 if given.carry is None else 0)
        if np.isfinite(verified).any():
            result.per_truth["observation_rmse_withheld"] = verified
    return result


def prepare(given: Experiment, report: Progress) -> Inputs:
    """The inputs of an experiment: truths simulated unless they are given, observations, climatology, keys."""
    truth, observed = _observed(given, report)
    report("climatology", 0, 1)
    climatology = default_climatology(given.testbed) if given.climatology is None else given.climatology
    keys = _folded(jax.random.key(given.seed), _numbers(given))
    return Inputs(given.setup(climatology), keys, observed, truth)


def settings(given: Experiment) -> dict[str, Any]:
    """What an experiment was, for its record."""
    own = given.observations is not None
    sets = [
        {
            "layout": "own observations" if own else each.placed(given.grid).name,
            "operator": each.operator_name,
            "linear": is_linear(each.measure, given.grid),
            "noise_std": None if own else each.noise_std,
            "role": each.role,
        }
        for each in given.sensors
    ]
    return {
        "testbed": given.testbed.name,
        "layout": sets[0]["layout"],
        "sensors": sets,
        "seed": given.seed,
        "start": given.start,
        "frames_per_cycle": given.testbed.frames_per_cycle,
        "members_from": _members_record(given.members_from),
        "notes": [] if given.truth is None else list(given.truth.notes),
        "withhold": given.withhold,
        "reject": given.reject,
        "filter": {} if given.config is None else described(given.config),
    }


def _members_record(members: Any) -> dict[str, Any] | None:
    """What a record says of the members at the start, None where they are random."""
    if members is None:
        return None
    sha256 = digest({"omega": np.ascontiguousarray(members.values, np.float32)})
    return {"source": members.source, "members": len(members), "sha256": sha256, "notes": list(members.notes)}


# One program each, whatever the seed.
_folded = jax.jit(jax.vmap(jax.random.fold_in, (None, 0)))
_observation_keys = jax.jit(jax.vmap(observation_key, (None, 0)))


def _numbers(given: Experiment) -> np.ndarray:
    return np.asarray(list(given.truth_seeds or ()), np.uint32)


def recipe_of(given: Experiment, setup: Setup) -> Recipe:
    """What makes the experiment's assimilator."""
    method = given.method
    if isinstance(method, str | Assimilator):
        return Recipe(method, given.config, given.model, given.joint, given.reject)
    made = method(setup)
    if not isinstance(made, Assimilator):
        raise TypeError(f"method: expected the function to return an Assimilator, got {type(made).__name__}")
    return Recipe(made, joint=given.joint, reject=given.reject)


def _observed(given: Experiment, report: Progress) -> tuple[np.ndarray | None, Observations]:
    """Truths (truths, frames, nx, ny), and observations (truths, cycles, p)."""
    truth = None if given.truth is None else given.truth.values
    if given.observations is not None:
        return truth, jax.tree.map(lambda a: a[None], given.observations)
    if truth is None:
        report("truth", 0, 1)
        begin, seeds = given.first * given.testbed.frames_per_cycle, given.truth_seeds or (given.seed,)
        truth = simulate_truth(given.testbed, seeds, frames=begin + given.testbed.frames, progress=report)[:, begin:]
    keys = _observation_keys(np.uint32(given.seed), _numbers(given))
    every = given.testbed.frames_per_cycle
    observed = observe_truths(keys, given.grid, jnp.asarray(truth), given.sensors, every, given.first)
    check_values(observed)
    return truth, observed
