"""The twin experiment from start to finish: truth, observations, cycles, scores.

result = assimilate("enkf-dual")                      # a simulated truth, 128 sensors a time unit
result = assimilate("enkf-hr", truth=my_vorticity)    # your own frames × nx × ny
result.scores["maer"]                                 # mean and 95 % interval over the truths
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda import sensing
from jaxsrda.config import CONFIGS
from jaxsrda.core.cache import cached_npz, scratch_dir
from jaxsrda.core.checks import check_choice, check_finite, check_fraction, check_positive
from jaxsrda.core.progress import duration
from jaxsrda.core.records import described, to_json
from jaxsrda.cycling import cycle
from jaxsrda.cycling.assimilator import Assimilator, Setup
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.filters.config import FilterConfig
from jaxsrda.flow import climatology as climatologies
from jaxsrda.flow.climatology import Climatology
from jaxsrda.flow.grid import ChannelGrid, regrid
from jaxsrda.flow.simulate import Run, estimate_seconds, simulate_resumable
from jaxsrda.flow.testbed import DEFAULT_FRAMES, FRAME, FRAMES_PER_CYCLE, LEVELS, Level, level_grid
from jaxsrda.methods import METHODS, configured_model, make_assimilator
from jaxsrda.observing import operators, sensors
from jaxsrda.observing.layouts import Layout, parse_layout
from jaxsrda.observing.observations import OBSERVATION_STD, Observations, check_observations, observation_key
from jaxsrda.observing.operators import OPERATORS, Operator, is_linear, operator
from jaxsrda.scoring import fit as fit_module
from jaxsrda.scoring import tally as tally_module

if TYPE_CHECKING:
    from jaxsrda.diffsrda.model import Model
from jaxsrda.core.progress import Progress

NUMERICS = 1
"""Raised when the numbers of cached truths and climatologies change."""


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The result of `assimilate`, on the host; a leading axis of truths where there are several (or one).

    per_truth: name → (truths,) scores, means over the scored frames; series: name → (truths, scored frames);
    statistics: one `tally_module.summarize` dictionary a truth; times: (frames,); mean, std, background, truth:
    (truths, frames or cycles, nx, ny); members: (truths, M, frames, nx, ny) if kept; seconds: compile and run.
    Without a truth to compare with, per_truth holds the fit to the observations alone, the others nothing.
    """

    method: str
    config: dict[str, Any]
    per_truth: dict[str, np.ndarray]
    series: dict[str, np.ndarray]
    statistics: list[dict[str, np.ndarray]]
    times: np.ndarray
    truth: np.ndarray | None
    mean: np.ndarray
    std: np.ndarray
    background: np.ndarray
    members: np.ndarray | None
    observations: Observations
    grid: ChannelGrid
    seconds: dict[str, float]
    finite: bool

    @property
    def scores(self) -> dict[str, tuple[float, float, float]]:
        """Each score's mean over the truths and its 95 % bootstrap interval, (mean, low, high)."""
        intervals = {name: fit_module.bootstrap_interval(values) for name, values in self.per_truth.items()}
        return {name: tuple(float(v) for v in interval) for name, interval in intervals.items()}  # type: ignore


class DivergedError(ValueError):
    """A method's ensemble stopped being finite."""


# Truth and climatology ------------------------------------------------------------------------


def simulate_truth(
    level: Level, seeds: Sequence[int], frames: int = DEFAULT_FRAMES, progress: Progress = lambda *_: None
) -> np.ndarray:
    """HR vorticity (truths, frames, nx, ny) of runs at `level`, spectrally truncated to HR; kept in the cache.

    A run that was killed goes on from its last part.  Its cost is part of what `progress` is told.
    """
    config = json.dumps([NUMERICS, to_json(level), frames, _precision()])

    def compute(seed: int) -> dict[str, np.ndarray]:
        run = Run(level, frames, seed=seed)
        what = f"truth {seed}, about {duration(estimate_seconds(run))}"
        progress(what, 0, frames)
        parts = scratch_dir() / f"truth-{level.name}-{seed}.parts"
        omega = simulate_resumable(run, parts, progress=lambda done, total: progress(what, done, total))
        return {"omega": to_hr(omega)}

    return np.stack([cached_npz(f"truth-{seed}", config, functools.partial(compute, seed))["omega"] for seed in seeds])


def default_climatology(runs: int = climatologies.CLIMATOLOGY_RUNS) -> Climatology:
    """The climatology of `runs` HR training runs (seeds apart from all truths and members); kept in the cache."""
    level = LEVELS["hr"]
    config = json.dumps([NUMERICS, to_json(level), runs, _precision()])
    states = cached_npz("climatology", config, lambda: {"states": climatologies.simulate_climatology(runs)})["states"]
    return climatologies.from_runs(level_grid(level), jnp.asarray(states))


def _precision() -> str:
    return str(jnp.zeros(()).dtype)


def prepare_truth(truth: Any, source: str = "truth") -> np.ndarray:
    """HR vorticity (truths, frames, nx, ny) from the user's frames at the HR, fine or UHR level.

    truth: (frames, nx, ny) or (truths, frames, nx, ny), both walls included, a frame each 0.25.  Finer grids are
    truncated spectrally.  Frames beyond a multiple of four are dropped.  Raises ValueError for other
    shapes, NaN, or fewer than 8 frames (two assimilation times).
    """
    truth = np.asarray(truth)
    if truth.ndim not in (3, 4):
        raise ValueError(f"{source}: expected frames × nx × ny, or truths × frames × nx × ny, got shape {truth.shape}")
    truth = truth if truth.ndim == 4 else truth[None]
    grids = {level_grid(level).shape: level for level in LEVELS.values() if level.name != "lr"}
    if truth.shape[2:] not in grids:
        known = ", ".join(f"{nx} × {ny}" for nx, ny in grids)
        raise ValueError(
            f"{source}: expected a grid of {known} points (both walls counted), got "
            f"{' × '.join(map(str, truth.shape[2:]))}; bring it to one of these first"
        )
    if truth.shape[1] < 2 * FRAMES_PER_CYCLE:
        raise ValueError(
            f"{source}: expected at least {2 * FRAMES_PER_CYCLE} frames (two assimilation times), got {truth.shape[1]}"
        )
    check_finite(source, truth)
    truth = truth[:, : truth.shape[1] // FRAMES_PER_CYCLE * FRAMES_PER_CYCLE]
    return np.stack([to_hr(frames) for frames in truth])


def to_hr(omega: np.ndarray) -> np.ndarray:
    """Vorticity frames (frames, nx, ny) on the HR grid, by spectral truncation; HR frames stay as they are."""
    grid, hr = ChannelGrid(*omega.shape[1:]), level_grid(LEVELS["hr"])
    if grid == hr:
        return omega.astype(_precision())
    down = jax.jit(lambda frame: regrid(grid, hr, frame))
    return np.stack([down(jnp.asarray(frame, _precision())) for frame in omega])


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
    sensing.check_guidance(method, config, guides, observations, guides_assimilated, **new)
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
            sensing.check_cycles(own, truth)
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


def check_healthy(history: cycle.History, first_cycle: int = 0) -> None:
    """Raise `DivergedError` naming the truth, the time and the likely cause of an ensemble that is not finite."""
    lost = np.argwhere(~np.asarray(history.finite))
    if len(lost):
        truth, i = (int(n) for n in lost[0])
        speed = np.asarray(history.speeds.speed)[truth, i]
        seen = speed[np.isfinite(speed)]
        raise DivergedError(
            f"truth {truth}, time {(first_cycle + i) * FRAMES_PER_CYCLE * FRAME:g}: the ensemble is no longer finite "
            f"(largest speed seen {seen.max() if seen.size else np.nan:.3g}); lower the additive noise or inflation, "
            "or the strength of a guidance, or check the observations"
        )


def _collect(method, settings, grid, observed, truth, carry, history, seconds) -> Analysis:
    truths, cycles = observed.values.shape[:2]
    series, summary = {}, {}
    for name, fit in (("background", history.fit_background), ("analysis", history.fit_analysis)):
        counted = np.where(fit["count"] > 0, 1.0, np.nan)
        for key in ("rmse", "chi2"):
            with np.errstate(invalid="ignore"):
                values = (fit[key] * counted)[:, 1:]
            summary[f"observation_{key}_{name}"] = np.nanmean(values, 1) if np.isfinite(values).any() else None
    statistics = []
    if truth is not None:
        series = {name: s[:, 1:].reshape(truths, -1) for name, s in history.scores.items()}
        summary = {name: s.mean(1) for name, s in series.items()} | summary
        summarize = jax.vmap(lambda tally: tally_module.summarize(tally, grid))(carry.tally)
        statistics = [{k: np.asarray(v[i]) for k, v in summarize.items()} for i in range(truths)]
        for name in ("spread_skill", "energy_distance_mean", "energy_distance_members"):
            summary[name] = np.array([s[name] for s in statistics])
    fields = history.fields

    def frames(array):  # (truths, cycles, 4, nx, ny) → (truths, frames, nx, ny)
        return array.reshape(truths, -1, *grid.shape)

    members = fields.members
    if members is not None:
        members = np.moveaxis(members, 2, 1).reshape(truths, members.shape[2], -1, *grid.shape)
    return Analysis(
        method=method,
        config=settings,
        per_truth={name: values for name, values in summary.items() if values is not None},
        series=series,
        statistics=statistics,
        times=FRAME * np.arange(cycles * FRAMES_PER_CYCLE),
        truth=truth,
        mean=frames(fields.mean),
        std=frames(fields.std),
        background=fields.background,
        members=members,
        observations=jax.tree.map(np.asarray, observed),
        grid=grid,
        seconds=seconds,
        finite=bool(history.finite.all()),
    )
