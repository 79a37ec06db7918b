"""The twin experiment from start to finish: truth, observations, cycles, scores.

result = assimilate("enkf-dual")                      # a simulated truth, 128 sensors a time unit
result = assimilate("enkf-hr", truth=my_vorticity)    # your own frames × nx × ny
result.scores["maer"]                                 # mean and 95 % interval over the truths
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core.checks import check_choice, check_fraction, check_positive
from jaxsrda.core.records import described
from jaxsrda.cycling import cycle
from jaxsrda.cycling.assimilator import Assimilator, Setup
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.experiment import checks
from jaxsrda.experiment.registry import CONFIGS, METHODS, configured_model, make_assimilator
from jaxsrda.filters.config import FilterConfig
from jaxsrda.flow.climatology import Climatology
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.testbed import FRAMES_PER_CYCLE, LEVELS, level_grid
from jaxsrda.observing import operators, sensors
from jaxsrda.observing.layouts import Layout, parse_layout
from jaxsrda.observing.observations import OBSERVATION_STD, Observations, check_observations, observation_key
from jaxsrda.observing.operators import OPERATORS, Operator, is_linear, operator

if TYPE_CHECKING:
    from jaxsrda.diffsrda.model import Model
from jaxsrda.core.progress import Progress
from jaxsrda.experiment.result import Analysis, _collect, check_healthy
from jaxsrda.experiment.truth import default_climatology, prepare_truth, simulate_truth

# The experiment -------------------------------------------------------------------------------


def assimilate(
    method: str,
    truth: Any = None,
    *,
    layout: str | Layout = "lattice:8",
    measure: str | Operator = "vorticity",
    observation_std: float = OBSERVATION_STD,
    observations: Observations | None = None,
    guide_layout: str | Layout | None = None,
    guide_measure: str | Operator | None = None,
    guide_std: float | None = None,
    guides_assimilated: bool = False,
    withhold: float = 0.0,
    config: FilterConfig | DiffSRDAConfig | None = None,
    model: Model | None = None,
    climatology: Climatology | None = None,
    seed: int = 0,
    truth_seeds: Sequence[int] | None = None,
    keep_members: bool = False,
    progress: Progress | None = None,
) -> Analysis:
    """Run one method over a truth (or several, side by side) and score it.

    method: a name in `METHODS`.  truth: frames at HR, fine or UHR (`prepare_truth`); None simulates one
    at the fine level from `seed`.  layout: a name (`layouts.parse_layout`) or a `Layout`; measure: a name in
    `observations.OPERATORS` or a function; observation_std: of the noise.  observations: your own instead,
    stacked over the assimilation times, (cycles, p); without `truth` nothing is scored but the fit to them.
    guide_layout: further sensors that guide the samples of a method with `guidance` and are used for nothing else, with
    an operator and a noise of their own, by default those of the others; guides_assimilated: they are assimilated like
    all others instead, by any method (a network hears those that measure vorticity, its prior all).
    withhold: fraction of the sensors, drawn anew at each time, that is kept from the method and used to verify it
    (`observation_rmse_withheld`).  config: the method's configuration, by default its preset; model: diffsrda's, by
    default the weights that the configuration names.  seed: of the noise and the members, and of the simulated
    truth; truth_seeds: which truths these are (by default 0, 1, …).  Observations depend on seed, truth seed and
    time alone, so every method meets the same.

    Raises ValueError for bad input (before any work) and `DivergedError` for an ensemble that did not stay finite.
    """
    check_choice("method", method, METHODS)
    check_positive("observation_std", observation_std)
    check_fraction("withhold", withhold)
    grid = level_grid(LEVELS["hr"])
    measured, guides_measured = (
        m if isinstance(m, str) else getattr(m, "__name__", str(m)) for m in (measure, guide_measure or measure)
    )
    measure = operator(measure) if isinstance(measure, str) else measure
    layout = parse_layout(layout, grid) if isinstance(layout, str) else layout
    config = CONFIGS[method] if config is None else config
    guides = parse_layout(guide_layout, grid) if isinstance(guide_layout, str) else guide_layout
    guide_operator = operator(guide_measure) if isinstance(guide_measure, str) else guide_measure or measure
    guided = isinstance(config, DiffSRDAConfig) and config.guidance != "none"
    for name, given in (("measure", measure), ("guide_measure", guide_operator)):
        if given not in OPERATORS.values():
            operators.check_operator(name, given, grid, differentiable=guided)
    new = {"guide_measure": guide_measure, "guide_std": guide_std}
    checks.check_guidance(method, config, guides, observations, guides_assimilated, **new)
    guide_std = observation_std if guide_std is None else guide_std
    check_positive("guide_std", guide_std)
    linear = is_linear(measure, grid) and (guide_operator is measure or is_linear(guide_operator, grid))
    if isinstance(config, DiffSRDAConfig) and model is None:
        model = configured_model(config)
    report = progress or (lambda *_: None)

    own = observations
    if truth is not None:
        truth = prepare_truth(truth)
    elif own is None:
        report("truth", 0, 1)
        truth_seeds = [seed]
        truth = simulate_truth(LEVELS["fine"], [seed])
    if own is not None:
        own = check_observations(own)
        if truth is not None:
            checks.check_cycles(own, truth)
        observed = jax.tree.map(lambda a: a[None], own)
    else:
        truths = jnp.asarray(truth)
        numbers = _truth_numbers(truth_seeds, len(truths))
        keys = jax.vmap(lambda number: observation_key(seed, number))(numbers)

        own_set = sensors.Sensors(layout, measure, observation_std)
        guide_set = None if guides is None else sensors.Sensors(guides, guide_operator, guide_std)
        observed = sensors.observe_truths(keys, grid, truths, own_set, guide_set)
        sensors.check_values(observed)
    observed = sensors.assimilated(observed) if guides_assimilated else observed
    report("climatology", 0, 1)
    climatology = default_climatology() if climatology is None else climatology
    assimilator = make_assimilator(
        method, Setup(climatology, measure, guide_operator=guide_operator), config, model=model
    )
    keep: cycle.Keep = "members" if keep_members else "fields"
    numbers = _truth_numbers(truth_seeds, len(observed.values))
    keys = jax.vmap(lambda number: jax.random.fold_in(jax.random.key(seed), number))(numbers)
    observed, withheld = sensors.split(observed, keys, withhold)
    carry, history, seconds = run_segments(assimilator, grid, keys, observed, truth, keep, report)

    settings = {
        "layout": layout.name if own is None else "own observations",
        "observation_std": observation_std,
        "operator": measured,
        "linear": linear,
        "seed": seed,
        "withhold": withhold,
        "filter": described(config),
    }
    if guides is not None:
        new = {"layout": guides.name, "operator": guides_measured, "std": guide_std, "assimilated": guides_assimilated}
        settings |= {f"guide_{name}": value for name, value in new.items()}
    result = _collect(method, settings, grid, observed, truth, carry, history, seconds)
    if withhold > 0:
        analyses = jnp.asarray(result.mean[:, ::FRAMES_PER_CYCLE])
        result.per_truth["observation_rmse_withheld"] = np.asarray(
            sensors.misfit(grid, withheld, analyses, measure, guide_operator)
        )
    return result


def _truth_numbers(truth_seeds: Sequence[int] | None, truths: int) -> Array:
    numbers = range(truths) if truth_seeds is None else truth_seeds
    if len(numbers) != truths:
        raise ValueError(f"truth_seeds: expected {truths}, one for each truth, got {len(numbers)}")
    return jnp.asarray(list(numbers), jnp.uint32)


def run_segments(
    assimilator: Assimilator,
    grid: ChannelGrid,
    keys: Array,
    observed: Observations,
    truth: np.ndarray | None,
    keep: cycle.Keep,
    report: Progress,
) -> tuple[cycle.Carry, cycle.History, dict[str, float]]:
    """Run the cycles one call at a time, so that progress shows and a divergence stops the run at once.

    All truths go side by side, one key each; compiled once.  Returns the last carry, the histories joined
    (truths leading, on the host) and the seconds that compiling and running took.
    """
    cycles = observed.values.shape[1]
    scored = None if truth is None else grid
    dtype = observed.values.dtype

    def segment(key: Array, observations: Observations, frames: Array | None, carry: cycle.Carry):
        return cycle.run_cycles(assimilator, key, observations, frames, carry, keep)

    def inputs(i: int):
        frames = None if truth is None else jnp.asarray(truth[:, i * FRAMES_PER_CYCLE : (i + 1) * FRAMES_PER_CYCLE])
        return jax.tree.map(lambda a: a[:, i : i + 1], observed), frames

    began = time.perf_counter()
    report("compile", 0, 1)
    carry = jax.jit(jax.vmap(lambda key: cycle.start(assimilator, key, scored, dtype)))(keys)
    step = jax.jit(jax.vmap(segment)).lower(keys, *inputs(0), carry).compile()
    compiled = time.perf_counter()
    parts = []
    for i in range(cycles):
        carry, history = step(keys, *inputs(i), carry)
        parts.append(jax.tree.map(np.asarray, history))
        check_healthy(parts[-1], i)
        report("cycle", i + 1, cycles)
    joined = jax.tree.map(lambda *a: np.concatenate(a, axis=1), *parts)
    return carry, joined, {"compile": compiled - began, "run": time.perf_counter() - compiled}
