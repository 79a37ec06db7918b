"""A sweep as one value, and its run: many settings of one method on the same truths, a few compiled calls.

sweep = Sweep(Experiment("enkf-sr"), grid_settings(additive=[0.05, 0.1], localization=[0.4, 0.8]))
result = run_sweep(sweep)
result.best.parameters, result.best.mean["crps"]
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.core.cache import content_hash, numerics
from jaxsrda.core.devices import Devices, chosen
from jaxsrda.core.interrupts import goes_on, interruptible
from jaxsrda.core.progress import Progress
from jaxsrda.core.records import key_of
from jaxsrda.experiment.experiment import Experiment
from jaxsrda.experiment.options import option_kinds, option_value, split, with_options
from jaxsrda.experiment.registry import METHODS
from jaxsrda.experiment.run import prepare
from jaxsrda.experiment.runner import Runner, model_for
from jaxsrda.experiment.space import Setting
from jaxsrda.experiment.trials import Record, SweepResult, check_by, check_record, text_of
from jaxsrda.experiment.truth import simulate_truth, whole_cycles
from jaxsrda.flow.frames import Frames
from jaxsrda.scoring.joint import JOINT_SCORES
from jaxsrda.scoring.point import SCORES

VALIDATION_SEEDS = (1000, 1001, 1002, 1003)
"""Of truths that no test scores."""


@dataclasses.dataclass(frozen=True, eq=False)
class Sweep:
    """Settings of one method, each run on the same truths, observations and keys.

    experiment: what is run; its configuration is what settings change.  settings: each a dictionary of options, such as
    `grid_settings` and `random_settings` give; equal ones count once.  Traced options differ within one compiled
    program, any other (members, substeps, steps, sampler, …) takes a program for each of its values.  truth_seeds: of
    simulated truths, by default validation truths; an experiment with a truth has its own.  frames: of each truth that
    are run, by default all.  by: the score that settings are judged by.  at_once: settings a compiled call, by default
    as many as fit the memory.

    Raises ValueError for options that the method does not have, with the nearest name, and for values that it refuses.
    """

    experiment: Experiment
    settings: Sequence[Setting]
    truth_seeds: Sequence[int] = VALIDATION_SEEDS
    frames: int | None = None
    by: str = "crps"
    at_once: int | None = None

    def __post_init__(self):
        check_swept(self.experiment)
        check_by(self.by, self.experiment.joint)
        every = self.experiment.testbed.frames_per_cycle
        if self.frames is not None and self.frames < 2 * every:
            raise ValueError(f"frames: expected at least {2 * every} (two assimilation times), got {self.frames}")
        if not self.truth_seeds:
            raise ValueError("truth_seeds: expected at least one, got none")
        if self.at_once is not None and self.at_once < 1:
            raise ValueError(f"at_once: expected at least 1, got {self.at_once}")
        if not self.settings:
            raise ValueError("settings: expected at least one, got none")
        read = [self.read(setting) for setting in self.settings]
        object.__setattr__(self, "settings", tuple({text_of(setting): setting for setting in read}.values()))
        for config in {split(self.config(setting))[0]: self.config(setting) for setting in self.settings}.values():
            check_setting(self.experiment, config)

    def read(self, setting: Setting) -> Setting:
        """A setting with values of the right kind; ValueError for an unknown option or a value that is refused."""
        base, method = self.experiment.config, str(self.experiment.method)
        kinds = option_kinds(base)
        read = {
            name: option_value(name, value, kinds[name]) if name in kinds else value for name, value in setting.items()
        }
        with_options(base, read, method)
        return read

    def config(self, setting: Setting) -> Any:
        """The configuration of a setting."""
        return with_options(self.experiment.config, setting, str(self.experiment.method))


def check_swept(given: Experiment) -> None:
    """ValueError for an experiment that cannot be swept."""
    if not isinstance(given.method, str):
        raise ValueError(
            "sweep: expected a method by name, got one of your own; name it with jaxsrda.register_method, or sweep "
            "its parameters with jaxsrda.sweep"
        )
    if given.members_from is not None:
        raise ValueError("members_from: a sweep draws the members of every setting; leave it out")
    if given.carry is not None:
        raise ValueError("carry: a sweep begins anew with every setting; leave it out")
    if given.observations is not None:
        raise ValueError("sweep: expected truths to score against, got observations of your own; leave them out")
    if given.withhold:
        raise ValueError("withhold: a sweep keeps no analyses to verify; judge by scores against truths")


def check_setting(given: Experiment, config: Any) -> None:
    """ValueError for a configuration that does not go with the rest of the experiment, its weights among it."""
    dataclasses.replace(given, config=config, model=model_for(given, config), truth=None, truth_seeds=None)


def run_sweep(
    sweep: Sweep, record: str | Path | None = None, progress: Progress | None = None, devices: Devices = "all"
) -> SweepResult:
    """The scores of all settings, each as `assimilate` of that setting has them to rounding.

    record: a JSON file that is written after each compiled call; settings that it holds already, of the same experiment
    and the same code, are not run again.  A setting that diverged has no scores (NaN, in the file null).  devices: as
    `run` takes them, by default all; a mesh has the axes `setting` and `case` (truths), or one of them.
    Raises ValueError for a record of another experiment, for options without effect on the method, and for devices that
    there are not, before any run.
    """
    report = progress or (lambda *_: None)
    chosen(devices)
    check_record(record)
    given = with_truths(sweep.experiment, sweep.truth_seeds, sweep.frames, report)
    kept = Record.of(record, given, sweep.by, experiment_key(given))
    waiting = [setting for setting in sweep.settings if not kept.holds(setting)]
    done, total = len(sweep.settings) - len(waiting), len(sweep.settings)
    if not waiting:
        kept.write(sweep.settings)
        return SweepResult(given, sweep.by, kept.ordered(sweep.settings), {"compile": 0.0, "run": 0.0})
    runner = Runner(given, prepare(given, report), sweep.at_once, devices)
    configs = {text_of(setting): sweep.config(setting) for setting in waiting}
    runner.check_effects(waiting, list(configs.values()))
    with interruptible(how_to_go_on(record)) as stopped:
        for part, size in runner.parts(waiting, list(configs.values())):
            report("setting", done, total)
            kept.add(runner.run(part, [configs[text_of(setting)] for setting in part], size))
            kept.write(sweep.settings)
            done += len(part)
            if stopped():
                raise KeyboardInterrupt
    report("setting", done, total)
    return SweepResult(given, sweep.by, kept.ordered(sweep.settings), runner.seconds)


def how_to_go_on(kept: str | Path | None, missing: str = "give a record, --json") -> str:
    """What an interrupted sweep says, with a record, or a search, with a storage; missing: how to have one."""
    return goes_on(kept) if kept is not None else f"{missing}, and the same command will go on from it"


def with_truths(given: Experiment, seeds: Sequence[int], frames: int | None, report: Progress) -> Experiment:
    """The experiment with its truths, simulated from seeds unless it has its own, and their first frames."""
    truth, numbers, began = given.truth, given.truth_seeds, given.first * given.testbed.frames_per_cycle
    if truth is None:
        made = simulate_truth(given.testbed, seeds, frames=began + given.testbed.frames, progress=report)
        truth, numbers = Frames(made[:, began:]), tuple(seeds)
    if frames is not None and frames > truth.shape[1]:
        raise ValueError(f"frames: expected at most the truths' {truth.shape[1]}, got {frames}")
    truth = whole_cycles(truth.cut(0, frames), given.testbed)
    return dataclasses.replace(given, truth=truth, truth_seeds=numbers, keep="scores")


def experiment_key(given: Experiment) -> str:
    """Text that differs wherever the scores of a setting may: all of the experiment, its truths and its precision."""
    model = model_for(given, given.config)
    arrays = hashlib.sha256()
    own = None if model is None else (model.params, model.scale, model.space, model.residual)
    for leaf in jax.tree.leaves((given.truth, given.climatology, own)):
        arrays.update(np.ascontiguousarray(leaf).tobytes())
    flow = given.testbed
    levels = [flow.numerics(*flow.levels), flow.frames_per_cycle, flow.vorticity_range, flow.symmetries]
    scores = SCORES | JOINT_SCORES if given.joint else SCORES
    told = [given.method, METHODS[str(given.method)].make, given.config, levels, given.sensors, given.seed]
    told += [given.start, given.reject, numerics()]
    told += [
        model and model.config,
        list(given.truth_seeds or ()),
        scores,
        arrays.hexdigest(),
        str(jnp.zeros(()).dtype),
    ]
    return content_hash(key_of(*told))
