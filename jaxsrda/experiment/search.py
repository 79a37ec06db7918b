"""An adaptive search over settings with Optuna: a batch of settings is asked for, run in one compiled call, and told.

Settings whose first third of the cycles is worse than the median's are given up.  Processes that share a storage share
the search: each runs batches of its own and sees the others' results.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.core.devices import Devices, chosen
from jaxsrda.core.interrupts import interruptible
from jaxsrda.core.progress import Progress
from jaxsrda.core.provenance import this_run
from jaxsrda.core.records import described
from jaxsrda.experiment.batch import cycles_of, joined_histories
from jaxsrda.experiment.options import check_traced, flat_options
from jaxsrda.experiment.run import prepare
from jaxsrda.experiment.runner import Runner, grouped
from jaxsrda.experiment.space import DIGITS, LINEAR, Setting, check_range
from jaxsrda.experiment.sweep import Sweep, experiment_key, how_to_go_on, with_truths
from jaxsrda.experiment.trials import Record, SweepResult, Trial, check_record

FEWEST_EARLY = 2
"""Cycles after which a setting may be given up, at least; the first is not scored."""


def require_optuna() -> Any:
    """Optuna; ValueError if it is not installed."""
    try:
        import optuna
    except ImportError:
        raise ValueError('search: needs Optuna, which is not installed: pip install "jaxsrda[sweep]"') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@dataclasses.dataclass(frozen=True, eq=False)
class Search:
    """An adaptive search of a sweep's experiment.

    sweep: what is run; those of its settings that lie within the ranges are tried first.  ranges: traced options and
    their (low, high), searched in the logarithm, or linearly for fractions.  choices: other options and the values that
    they may take.  trials: settings in all, those of other processes and earlier runs of the same study counted.
    storage: an Optuna journal file or a database URL, by default none, so that nothing is kept.  study: its name, by
    default one that the experiment determines.  seed: of the sampler.  prune: whether settings may be given up early.

    Raises ValueError for no ranges, bad ones, and options that the method does not have.
    """

    sweep: Sweep
    ranges: Mapping[str, tuple[float, float]]
    choices: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    trials: int = 100
    storage: str | Path | None = None
    study: str = ""
    seed: int = 0
    prune: bool = True

    def __post_init__(self):
        require_optuna()
        if self.trials < 1:
            raise ValueError(f"trials: expected at least 1, got {self.trials}")
        if not self.ranges:
            raise ValueError("ranges: expected at least one option to search, got none")
        for name, ends in self.ranges.items():
            check_traced(name, self.sweep.experiment.config, str(self.sweep.experiment.method))
            check_range(name, ends)
            for end in ends:
                self.sweep.read({name: end})
        for name, values in self.choices.items():
            if name in self.ranges:
                raise ValueError(f"{name}: given twice, as a range and as choices; leave one out")
            read = tuple(self.sweep.read({name: value})[name] for value in values)
            # Optuna keeps numbers, truth values and text; what is a pair stays text.
            kept = tuple(b if isinstance(b, bool | int | float | str) else a for a, b in zip(values, read))
            object.__setattr__(self, "choices", {**self.choices, name: kept})

    def ask(self, trial: Any) -> Setting:
        """The setting of an Optuna trial."""
        setting: dict[str, Any] = {}
        for name, (low, high) in self.ranges.items():
            value = trial.suggest_float(name, low, high, log=name not in LINEAR)
            setting[name] = float(f"{value:.{DIGITS}g}")
        for name, values in self.choices.items():
            setting[name] = self.sweep.read({name: trial.suggest_categorical(name, list(values))})[name]
        return setting


def run_search(
    search: Search, record: str | Path | None = None, progress: Progress | None = None, devices: Devices = "all"
) -> SweepResult:
    """The trials of a study: those it has already, and batches of new ones until there are `search.trials`.

    Each batch is one compiled call, or two where settings may be given up.  record: a JSON file written after each
    batch.  A setting that diverged counts as infinitely bad.  devices: as `run_sweep` takes them.  Raises ValueError
    for a study of another experiment or of other code, for options without effect on the method, and for processes
    that share their devices.
    """
    report = progress or (lambda *_: None)
    if jax.process_count() > 1:
        raise ValueError(
            "search: processes share one by its storage, each on devices of its own; give --storage and leave out "
            "--processes"
        )
    chosen(devices)
    sweep = search.sweep
    check_record(record)
    given = with_truths(sweep.experiment, sweep.truth_seeds, sweep.frames, report)
    key = experiment_key(given)
    kept = Record.of(record, given, sweep.by, key)
    study = open_study(search, key)
    for setting in sweep.settings:
        first = flat_options(sweep.config(setting))
        first = {name: first.get(name) for name in (*search.ranges, *search.choices)}
        if within(search, first):
            study.enqueue_trial(first, skip_if_exists=True)
    batch = sweep.at_once or max(min(search.trials // 12, 16), 4)
    runner, finished = Runner(given, prepare(given, report), batch, devices), _finished(study)
    probe = {name: ends[0] for name, ends in search.ranges.items()}
    runner.check_effects([probe], [sweep.config(probe)])
    with interruptible(how_to_go_on(search.storage, "give --storage FILE")) as stopped:
        while len(finished) < search.trials:
            report("trial", len(finished), search.trials)
            asked = [study.ask() for _ in range(min(batch, search.trials - len(finished)))]
            _run_batch(search, study, runner, asked, batch)
            finished = _finished(study)
            kept.add(_trials(finished))
            kept.write([])
            if stopped():
                raise KeyboardInterrupt
    report("trial", len(finished), search.trials)
    kept.add(_trials(finished))
    kept.write([])
    return SweepResult(given, sweep.by, kept.ordered([]), runner.seconds)


def within(search: Search, setting: Setting) -> bool:
    """Whether a setting lies in the ranges and among the choices."""
    inside = [low <= setting[name] <= high for name, (low, high) in search.ranges.items() if setting[name] is not None]
    among = [setting[name] in values for name, values in search.choices.items()]
    return all(inside) and all(among) and None not in setting.values()


def open_study(search: Search, key: str) -> Any:
    """The Optuna study of a search, from its storage if it is there; ValueError for one of other trials."""
    optuna = require_optuna()
    storage: Any = None if search.storage is None else str(search.storage)
    if storage is not None and "://" not in storage:
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(storage))
    name = search.study or f"{search.sweep.experiment.method}-{search.sweep.by}-{key}"
    pruner = optuna.pruners.MedianPruner() if search.prune else optuna.pruners.NopPruner()
    sampler = sampler_by_trial(optuna, search.seed)
    study = optuna.create_study(
        storage=storage, study_name=name, sampler=sampler, pruner=pruner, direction="minimize", load_if_exists=True
    )
    own = {"key": key, "by": search.sweep.by, "source": this_run()["source"]}
    other = [part for part, value in own.items() if study.user_attrs.get(part, value) != value]
    if other:
        what = {"key": "of another experiment", "by": "judged by another score", "source": "of other code"}[other[0]]
        raise ValueError(f"study {name}: holds trials {what}; choose another study name")
    for part, value in own.items():
        study.set_user_attr(part, value)
    return study


def sampler_by_trial(optuna: Any, seed: int) -> Any:
    """A TPE sampler whose numbers depend on the seed, the trial's number and what was found before alone: processes
    that share a study do not repeat one another, and one process alone can be repeated."""

    class ByTrial(optuna.samplers.BaseSampler):
        def of(self, trial: Any, option: str = "") -> Any:
            stream = np.random.SeedSequence([seed, trial.number, zlib.crc32(option.encode())])
            return optuna.samplers.TPESampler(seed=int(stream.generate_state(1)[0]), constant_liar=True)

        def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
            return self.of(trial).infer_relative_search_space(study, trial)

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
            return self.of(trial).sample_relative(study, trial, search_space)

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return self.of(trial, param_name).sample_independent(study, trial, param_name, param_distribution)

    return ByTrial()


def _finished(study: Any) -> list[Any]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]


def _trials(finished: Sequence[Any]) -> list[Trial]:
    rows = [trial.user_attrs["row"] for trial in finished if "row" in trial.user_attrs]
    return [Trial.of_row(json.loads(row)) for row in rows]


def _rows(tree: Any, numbers: Sequence[int]) -> Any:
    """Some rows of all leaves."""
    return jax.tree.map(lambda leaf: leaf[jnp.asarray(numbers)], tree)


def _run_batch(search: Search, study: Any, runner: Runner, asked: Sequence[Any], size: int) -> None:
    """Run the settings of some Optuna trials and tell the study."""
    optuna, by = require_optuna(), search.sweep.by
    settings = [search.ask(trial) for trial in asked]
    configs = [search.sweep.config(setting) for setting in settings]
    cycles = runner.inputs.observed.values.shape[1]
    early = max(FEWEST_EARLY, cycles // 3) if search.prune else cycles

    def tell(trial: Any, done: Trial) -> None:
        trial.set_user_attr("row", json.dumps(described(done.row())))
        state = optuna.trial.TrialState.PRUNED if done.pruned else optuna.trial.TrialState.COMPLETE
        study.tell(trial, None if done.pruned else done.loss(by), state)

    for numbers in grouped(configs).values():
        own = [configs[n] for n in numbers]
        carry, history = runner.call(own, size, cycles_of(runner.inputs, 0, early))
        found = runner.trials([settings[n] for n in numbers], carry, history)
        going = []
        for i, (n, trial) in enumerate(zip(numbers, found)):
            if early < cycles and trial.finite:
                asked[n].report(trial.loss(by), early)
                if asked[n].should_prune():
                    trial = Trial(trial.parameters, {}, pruned=True)
                else:
                    going.append(i)
                    continue
            tell(asked[n], trial)
        if going:
            carry, history = _rows((carry, history), going + [0] * (size - len(going)))
            late = cycles_of(runner.inputs, early, cycles)
            carry, rest = runner.call([own[i] for i in going], size, late, carry)
            whole = joined_histories(history, rest)
            for i, trial in zip(going, runner.trials([settings[numbers[i]] for i in going], carry, whole)):
                tell(asked[numbers[i]], trial)
