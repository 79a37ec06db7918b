"""Options of `assimilate` that other options leave without effect: refused, so that no record holds them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from jaxsrda.app.cli.assimilate import Assimilate

UNUSED = (
    (
        ("free-run", "bicubic", "climatology"),
        ("localization", "inflation", "adaptive", "additive", "rtps", "rtpp", "representativeness"),
    ),
    (("persistence", "oi-lagrange"), ("additive", "rtps", "rtpp")),
    (("etkf-hr", "ensf-sr"), ("localization",)),
)
"""Methods, and the tuning that they do not read."""

CONTROLS = ("enkf-dual", "enkf-dual-lagrange")
"""Methods with control forecasts."""


class Rule(NamedTuple):
    """Options that have no effect if `idle(options, configuration of the method)`, and why."""

    options: tuple[str, ...]
    idle: Callable[[Assimilate, Any], bool]
    why: str


def _stepless(options: Assimilate, config: Any) -> bool:
    return getattr(config, "sampler", "") in ("mean", "gaussian", "white")


def _uncontrolled(options: Assimilate, _: Any) -> bool:
    from jaxsrda.filters.config import FILTERS

    return options.method in FILTERS and options.method not in CONTROLS


RULES: tuple[Rule, ...] = (
    Rule(("truths", "truth_level"), lambda options, _: options.truth is not None, "--truth gives the truth"),
    Rule(
        ("truths", "truth_level"),
        lambda options, _: options.observations is not None,
        "no truth is simulated beside --observations",
    ),
    Rule(
        ("layout", "obs_noise", "guide_layout", "guide_operator", "guide_noise"),
        lambda options, _: options.observations is not None,
        "--observations says where, what and how precisely was measured",
    ),
    Rule(("cycle_at",), lambda options, _: options.observations is None, "there are no --observations to go by"),
    Rule(
        ("guide_operator", "guide_noise"),
        lambda options, _: options.guide_layout is None,
        "there are no further sensors (give a --guide-layout)",
    ),
    Rule(
        ("guides_assimilated",),
        lambda options, _: options.guide_layout is None and options.observations is None,
        "there are no further sensors (give a --guide-layout)",
    ),
    Rule(("guide_on",), lambda _, config: config.guidance is None, "nothing is guided (give a --guidance)"),
    Rule(("eta",), lambda _, config: config.sampler != "ddim", "only --sampler ddim reads it"),
    Rule(("steps",), _stepless, "this sampler takes no steps"),
    Rule(("centred",), lambda _, config: config.sampler == "mean", "sampler mean draws nothing around its estimate"),
    *(
        Rule(names, lambda options, _, methods=methods: options.method in methods, "the method does not read it")
        for methods, names in UNUSED
    ),
    Rule(("controls",), _uncontrolled, f"only {' and '.join(CONTROLS)} have controls"),
    Rule(("animate",), lambda options, _: options.plot is None, "no pictures are made (give --plot)"),
    Rule(("save_members",), lambda options, _: options.out is None, "no analyses are written (give --out)"),
    Rule(
        ("joint",),
        lambda options, _: options.observations is not None and options.truth is None,
        "there is no --truth to score against",
    ),
)
"""All of them, in one table."""


def refuse_idle(options: Assimilate, config: Any) -> None:
    """ValueError for the first option that was given and has no effect."""
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    for rule in RULES:
        for name in rule.options:
            if getattr(options, name) != defaults[name] and rule.idle(options, config):
                raise ValueError(f"--{name.replace('_', '-')}: has no effect, {rule.why}; leave it out")
