"""A twin experiment as one value: testbed, truth, sensors, method and seed, checked when it is made."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from jaxsrda.core.checks import check_choice, check_fraction, check_positive, check_seed
from jaxsrda.core.records import renamed
from jaxsrda.cycling.assimilator import Assimilator, Setup
from jaxsrda.cycling.cycle import KEEP, Carry, Keep
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.prior import PRIORS
from jaxsrda.experiment.carry import check_scored, interval, start_time
from jaxsrda.experiment.first_members import at_start, read_members, with_members
from jaxsrda.experiment.registry import METHODS, Config, check_config, check_model
from jaxsrda.experiment.truth import truth_to_follow
from jaxsrda.flow.climatology import Climatology
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.testbed import Testbed, jet
from jaxsrda.observing.observations import Observations, check_observations, stack
from jaxsrda.observing.operators import OPERATORS, check_operator
from jaxsrda.observing.sensors import Sensors, layout_name

if TYPE_CHECKING:
    from jaxsrda.diffsrda.model import Model

OwnMethod = Assimilator | Callable[[Setup], Assimilator]
"""A method of the user's own: an assimilator, or a function that makes one from a `Setup`."""


@renamed(keep_members="keep: scores, fields or members")
@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """One method over a truth, or over several side by side.

    method: a name in `METHODS`, an `Assimilator` of your own, or a function Setup → Assimilator.  config: its
    configuration, by default the method's preset for the layout.  truth: frames on the grid of any level that is not
    coarser than the analyses' (an array, a DataArray, or the `Frames` of `read_truth`, which it becomes); None
    simulates one from `seed`.  sensors: one set or several, each assimilated or guiding.  observations: your own
    instead of simulated ones, stacked over the assimilation times, (cycles, p), or a list of those of each time
    (`observing.stack`); then `sensors` says what their sets measure and are for, and without `truth` nothing is scored
    but the fit to them.  withhold: fraction of the assimilated sensors, drawn anew at each time, that is kept from the
    method and used to verify it (`observation_rmse_withheld`).  model: diffsrda's, by default the weights that the
    configuration names.
    climatology: by default the testbed's own.  start: time of the first frame, a multiple of the time from one analysis
    to the next, by default the truth's, if it has times, else 0; members are then random climatological states of that
    time (of the climatology's last time, if that is earlier), and a truth that is simulated runs until then first.
    members_from: fields to start from in the place of random members, (M, nx, ny) or with times, of which the one at
    `start` is taken (an array, a DataArray, or the `Frames` of `read_members`, which they become); a method without an
    ensemble of its own starts from their mean, of all others the configuration's members are as many.
    carry: where to go on from, that of an earlier `Result` of the same method and settings; start is then where that
    ended.  seed: of the noise and the members, and of the simulated truth; truth_seeds: which truths these are (by
    default 0, 1, …).  Observations depend on seed, truth seed and time alone, so every method meets the same.  keep:
    `scores` alone (no field leaves the device), the analyses' `fields` too, or every member's (`members`).  joint:
    whether `scoring.JOINT_SCORES` are computed too, which takes longer.  reject: observations that depart from the
    background by more than so many standard deviations are kept from the method and counted
    (`cycling.background_checked`); None keeps all.  unscored: whether the truth may have one assimilation time alone,
    the first of several runs, which has no scores.

    Raises ValueError or TypeError for bad input, before any work.
    """

    method: str | OwnMethod = "diffsrda"
    truth: Any = None
    sensors: tuple[Sensors, ...] = (Sensors(),)
    observations: Observations | Sequence[Observations | None] | None = None
    config: Config | None = None
    model: Model | None = None
    testbed: Testbed = dataclasses.field(default_factory=jet)
    climatology: Climatology | None = None
    withhold: float = 0.0
    start: float | None = None
    members_from: Any = None
    carry: Carry | None = None
    seed: int = 0
    truth_seeds: Sequence[int] | None = None
    keep: Keep = "fields"
    joint: bool = False
    unscored: bool = False
    reject: float | None = None

    def __post_init__(self):
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        self._check_method()
        put("sensors", (self.sensors,) if isinstance(self.sensors, Sensors) else tuple(self.sensors))
        if self.members_from is not None:
            put("members_from", read_members(self.members_from, self.testbed))
            self._check_members_from()
        if isinstance(self.method, str):
            config = check_config(self.method, self.config, layout_name(self.sensors), self.testbed.name)
            if self.members_from is not None:
                config = with_members(self.method, config, len(self.members_from), self.config is None)
            put("config", config)
        if self.model is not None and isinstance(self.config, DiffSRDAConfig):
            check_model(self.config, self.model, self.testbed)
        check_fraction("withhold", self.withhold)
        check_seed("seed", self.seed)
        check_choice("keep", self.keep, KEEP)
        if self.withhold > 0 and self.keep == "scores":
            raise ValueError("withhold: analyses are compared with what was withheld; keep fields, or withhold nothing")
        if not self.sensors:
            raise ValueError("sensors: expected at least one set, got none; a silent one is Sensors('random-fixed:0')")
        for each in self.sensors:
            each.placed(self.grid)
            if each.measure not in OPERATORS.values():
                check_operator(f"operator {each.operator_name}", each.measure, self.grid, differentiable=self.guided)
        self._check_guidance()
        if self.truth is not None:
            put(
                "truth",
                truth_to_follow(self.truth, self.testbed, cycles=1 if self.carry is not None or self.unscored else 2),
            )
        if self.observations is not None:
            own = self.observations
            put("observations", check_observations(own if isinstance(own, Observations) else stack(own)))
            self._check_observations()
        if self.carry is not None and not isinstance(self.carry, Carry):
            raise TypeError(f"carry: expected that of a Result, got {type(self.carry).__name__}")
        told = self.truth.start if self.truth is not None and self.truth.timed else None
        put("start", start_time(self.start, self.testbed, self.carry, told))
        if self.members_from is not None:
            put("members_from", at_start(self.members_from, self.testbed, self.start))
        if self.start and self.carry is None and isinstance(self.method, Assimilator):
            raise ValueError("start: an Assimilator has members of its own; give a function Setup → Assimilator")
        self._check_reject()
        truths = 1 if self.truth is None else len(self.truth)
        if self.carry is not None:
            check_scored(self.carry, truths, self.truth is not None or self.observations is None)
        if self.truth_seeds is None:
            simulated = self.truth is None and self.observations is None
            put("truth_seeds", (self.seed,) if simulated else tuple(range(truths)))
        elif len(self.truth_seeds) != truths:
            raise ValueError(f"truth_seeds: expected {truths}, one for each truth, got {len(self.truth_seeds)}")
        for number in self.truth_seeds or ():
            check_seed("truth_seeds", number)

    @property
    def grid(self) -> ChannelGrid:
        """The analysis grid."""
        return self.testbed.grid

    @property
    def first(self) -> int:
        """The number of the first assimilation time, counted from time zero."""
        return round((self.start or 0.0) / interval(self.testbed))

    def setup(self, climatology: Climatology) -> Setup:
        """What the method is given: a method that goes on has the setup that it began with."""
        began = self.first if self.carry is None else int(np.ravel(self.carry.first)[0])
        members = None if self.members_from is None else self.members_from.values[:, 0]
        fields = None if members is None else jnp.asarray(members, climatology.mean.dtype)
        return Setup(self.testbed, climatology, self.sensors, began, fields)

    @property
    def name(self) -> str:
        """The method's name, an own function's by its own."""
        return self.method if isinstance(self.method, str) else getattr(self.method, "__name__", "own")

    @property
    def guided(self) -> bool:
        """Whether observations guide the method's samples."""
        return isinstance(self.config, DiffSRDAConfig) and self.config.guidance is not None

    def _check_method(self) -> None:
        if isinstance(self.method, str):
            check_choice("method", self.method, METHODS)
        elif isinstance(self.method, Assimilator) or callable(self.method):
            if self.config is not None or self.model is not None:
                raise ValueError("config, model: a method of your own has its own; leave these out")
        else:
            raise TypeError(
                f"method: expected a name, an Assimilator or a function Setup → Assimilator, got "
                f"{type(self.method).__name__}"
            )

    def _check_members_from(self) -> None:
        if self.carry is not None:
            raise ValueError("members_from: the carry has the members that the run goes on from; leave it out")
        if isinstance(self.method, Assimilator):
            raise ValueError("members_from: an Assimilator has its own; give a function Setup → Assimilator")

    def _check_guidance(self) -> None:
        new = any(each.role == "guiding" for each in self.sensors)
        if all(each.role == "guiding" for each in self.sensors):
            raise ValueError("sensors: expected at least one set that is assimilated, got guiding ones alone")
        if new and not self.guided and isinstance(self.method, str):
            raise ValueError(
                f"guide_layout: {self.name} is not guided; choose a guidance, or give these sensors "
                "the role assimilated"
            )
        if self.guided and not new and self.config.guide_on == "new":  # type: ignore[union-attr]
            raise ValueError(
                "guidance: it has no new sensors to follow; give a guide_layout (a set whose role is guiding), or "
                "guide_on all to use those that are assimilated again"
            )

    def _check_reject(self) -> None:
        if self.reject is None:
            return
        check_positive("reject", self.reject)
        if isinstance(self.method, str) and not METHODS[self.method].assimilates:
            raise ValueError(f"reject: {self.method} assimilates no observation that it could reject; leave it out")
        config = self.config
        if isinstance(config, DiffSRDAConfig) and PRIORS[config.prior].filter is None and config.restart != "each":
            raise ValueError(
                f"reject: the {config.prior} prior is one forecast, which has no spread that departures could be "
                "compared with; choose another prior, or restart each"
            )

    def _check_observations(self) -> None:
        own: Any = self.observations
        sets = own.sets
        if self.joint and self.truth is None:
            raise ValueError("joint: there is no truth to score against beside your own observations; leave it out")
        most = 0 if sets is None else int(np.max(np.asarray(sets), initial=0))
        if sets is not None and np.min(np.asarray(sets), initial=0) < 0:
            raise ValueError(f"observations.sets: expected numbers of sets from 0 on, got {np.min(np.asarray(sets))}")
        if most >= len(self.sensors) or (sets is None and len(self.sensors) > 1):
            raise ValueError(
                f"observations.sets: {len(self.sensors)} set(s) of sensors are described, the observations belong to "
                f"{'no set in particular' if sets is None else f'sets up to number {most}'}; make them agree"
            )
        if self.truth is not None:
            every = self.testbed.frames_per_cycle
            cycles = self.truth.shape[1] // every
            if own.values.shape[0] != cycles or len(self.truth) != 1:
                raise ValueError(
                    f"observations: expected {cycles} assimilation times, one each {every} frames of one truth; got "
                    f"{own.values.shape[0]} for {len(self.truth)} truth(s)"
                )


# Options --------------------------------------------------------------------------------------

ALIASES = {
    "measure": "operator",
    "observation_std": "noise_std",
    "guide_measure": "guide_operator",
    "guide_std": "guide_noise_std",
}
"""Other names of options."""

FIRST = ("layout", "operator", "noise_std")
SECOND = ("guide_layout", "guide_operator", "guide_noise_std", "guides_assimilated")


def from_options(method: str | OwnMethod, truth: Any = None, **options: Any) -> Experiment:
    """An `Experiment` from flat options: its fields, and in place of `sensors` those of one or two sets.

    layout, operator (or measure), noise_std (or observation_std): of the sensors.  guide_layout: a second set, which
    guides; guide_operator, guide_noise_std: by default those of the first; guides_assimilated: it is assimilated like
    the first instead.  Raises TypeError for other options, ValueError for options that have no effect.
    """
    told: dict[str, Any] = {}
    for name, value in options.items():
        name = ALIASES.get(name, name)
        if name == "keep_members":
            name, value = "keep", "members" if value else "fields"
        if name in told:
            raise TypeError(f"{name}: given twice, under two names; give it once")
        told[name] = value
    fields = {field.name for field in dataclasses.fields(Experiment)} - {"method", "truth"}
    known = fields | {*FIRST, *SECOND}
    for name in told:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise TypeError(f"{name}: not an option of an experiment, which has {', '.join(sorted(known))}{hint}")
    flat = {name: told.pop(name) for name in (*FIRST, *SECOND) if name in told}
    given = {name: value for name, value in flat.items() if value is not None and value is not False}
    if "sensors" in told and given:
        raise ValueError(f"{next(iter(given))}: of no effect beside sensors; say it in one of these")
    if told.get("observations") is not None and "sensors" not in told:
        without = [name for name in given if name not in ("operator",)]
        if without:
            raise ValueError(
                f"{without[0]}: of no effect beside your own observations; leave it out, or "
                "describe their sets as sensors"
            )
    if "sensors" not in told:
        told["sensors"] = _sets(given)
    return Experiment(method, truth, **told)


def _sets(given: dict[str, Any]) -> tuple[Sensors, ...]:
    """The sets of sensors that flat options describe."""
    first = Sensors(**{name: given[name] for name in FIRST if name in given})
    if "guide_layout" not in given:
        for name in SECOND:
            if name in given:
                raise ValueError(f"{name}: there are no further sensors that it could be of; give a guide_layout")
        return (first,)
    if isinstance(first.noise_std, tuple) and "guide_noise_std" not in given:
        raise ValueError("guide_noise_std: the other sensors have one for each of them; give that of these, a number")
    second = Sensors(
        given["guide_layout"],
        given.get("guide_operator", first.operator),
        given.get("guide_noise_std", first.noise_std),
        "assimilated" if given.get("guides_assimilated") else "guiding",
    )
    return (first, second)
