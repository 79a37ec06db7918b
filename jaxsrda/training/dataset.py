"""Training sets on the host: which runs, with which sensors, in which cycle; kept in the cache block by block."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.core.cache import cached_npz, content_hash
from jaxsrda.core.checks import check_choice
from jaxsrda.core.records import to_json
from jaxsrda.cycling.assimilator import Setup
from jaxsrda.diffsrda.condition import CHANNELS, FRAMES
from jaxsrda.diffsrda.config import PRIOR_FILTERS, PRIORS, DiffSRDAConfig
from jaxsrda.diffsrda.prior import make_prior
from jaxsrda.diffsrda.step import Draw
from jaxsrda.flow.testbed import LEVELS, level_grid
from jaxsrda.observing.layouts import parse_layout
from jaxsrda.observing.observations import OBSERVATION_STD
from jaxsrda.training.truths import BLOCK, training_runs
from jaxsrda.training.windows import STARTS, Windows, cycle_windows, forecast_windows

OTHERS = ("random-moving:128", "lattice:12", "lattice:8+dropout:0.3+silent:0.3", "lattice:6", "lattice:4")
"""Sensor layouts that training meets beside its main one."""

NUMERICS = 1
"""Raised when the numbers of cached windows change."""

BATCH = 4
"""Runs cycled side by side."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """A training set: runs, truth level, prior, and sensors.

    runs: training runs, a multiple of 8, all with the sensors `layout`; every third block of 8 once more with one of
    `others` in turn, so that one network serves many layouts.  prior, members: the forecasts that give the first
    guess.  repeats: passes over all of it with new observations.  starts: of the forecasts of prior lr (`data.STARTS`).
    times: assimilation times used of each run, the earliest; 0 takes all.
    """

    prior: str = "dual"
    members: int = 30
    level: str = "fine"
    runs: int = 160
    layout: str = "lattice:8"
    others: tuple[str, ...] = OTHERS
    observation_std: float = OBSERVATION_STD
    repeats: int = 1
    starts: str = "perturbed"
    times: int = 0

    def __post_init__(self):
        check_choice("prior", self.prior, PRIORS)
        check_choice("level", self.level, LEVELS)
        check_choice("starts", self.starts, STARTS)
        if self.repeats < 1:
            raise ValueError(f"repeats: expected at least 1, got {self.repeats}")
        if self.times < 0:
            raise ValueError(f"times: expected 1 or more, or 0 for all, got {self.times}")
        for layout in (self.layout, *self.others):
            parse_layout(layout, level_grid(LEVELS["hr"]))
        if self.runs < BLOCK or self.runs % BLOCK:
            raise ValueError(f"runs: expected a multiple of {BLOCK}, at least {BLOCK}; got {self.runs}")

    def plan(self) -> list[tuple[int, int, str]]:
        """What to run: (block of runs, pass, layout)."""
        blocks = range(self.runs // BLOCK)
        plan, turn = [], itertools.count()
        for repeat in range(self.repeats):
            plan += [(block, repeat, self.layout) for block in blocks]
            if self.others:
                extra = [block for block in blocks if block % 3 == repeat % 3]
                plan += [(block, repeat, self.others[next(turn) % len(self.others)]) for block in extra]
        return plan


class WindowSet:
    """Windows from several arrays, without joining them: len(), and `take` of a batch."""

    def __init__(self, parts: list[Windows]):
        self.parts = parts
        self.starts = np.cumsum([0, *(len(part.condition) for part in parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def take(self, indices: np.ndarray) -> Windows:
        """The windows of these numbers, stacked."""
        where = np.searchsorted(self.starts, indices, side="right") - 1
        places = zip(where, indices - self.starts[where])
        chosen = [jax.tree.map(lambda a, i=i: a[i], self.parts[part]) for part, i in places]
        return jax.tree.map(lambda *a: np.stack(a), *chosen)

    def correction_scale(self) -> np.ndarray:
        """Root mean square (5,) of the corrections, by frame."""
        total = sum(
            np.square(part.correction, dtype=np.float32).sum((0, 1, 2), dtype=np.float64) for part in self.parts
        )
        points = sum(part.correction[..., 0].size for part in self.parts)
        return np.sqrt(total / points).astype(np.float32)


def earliest(times: int, runs_lead: bool, array: np.ndarray) -> np.ndarray:
    """The windows of the first `times` assimilation times of a block's runs, (runs · times, …); 0 takes all."""
    if not times:
        return array
    if runs_lead:
        return array.reshape(BLOCK, -1, *array.shape[1:])[:, :times].reshape(-1, *array.shape[1:])
    return array[: BLOCK * times]


def training_windows(
    config: DataConfig,
    setup: Setup,
    draw: Draw | None = None,
    restart: str = "open",
    tag: str = "",
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> WindowSet:
    """The windows of a training set, the first assimilation time of each run left out.

    draw, restart: a model in the loop, so that the windows are those its own cycling visits; `tag` then names it
    for the cache (a hash of its weights).
    """

    @functools.cache
    def cycler(layout: str):  # compiled once a layout
        place, std = parse_layout(layout, setup.grid), config.observation_std
        if config.prior == "lr" and draw is None:
            # Left alone an LR forecast never hears of the truth, so these start from it, window by window.
            return jax.jit(lambda keys, truths: forecast_windows(setup, place, keys[0], truths, config.starts, std))
        prior = make_prior(setup, DiffSRDAConfig(prior=config.prior, members=config.members, restart=restart))

        def run(key, truth):
            windows = cycle_windows(setup, prior, place, key, truth, draw, restart, std)
            # The first time is not scored; of several guesses, all alike in law, the first will do.
            return jax.tree.map(lambda a: a[1:, :1], windows)

        return jax.jit(jax.vmap(run))

    plan = config.plan()
    # SR-mixup chooses among the runs of a block, so those go together; cycles would need more memory.
    batch = BLOCK if config.prior == "lr" and draw is None else BATCH
    parts = []
    for done, (block, repeat, layout) in enumerate(plan):
        progress("windows", done, len(plan))
        named = [NUMERICS, config.prior, config.members, config.level, config.observation_std, layout, repeat, block]
        named += [restart, tag, CHANNELS, FRAMES, to_json(LEVELS[config.level])]
        named += [to_json(setup.fine), to_json(setup.coarse), getattr(setup.operator, "__name__", "operator")]
        named += [config.starts] if config.prior == "lr" else [to_json(PRIOR_FILTERS[config.prior])]
        dtype = setup.climatology.mean.dtype
        named += [] if dtype == jnp.float32 else [str(dtype)]
        compute = functools.partial(
            _block, config.level, dtype, cycler, batch, block, f"{layout} {repeat} {restart} {tag}", layout
        )
        arrays = cached_npz(f"windows-{config.prior}-{block:04d}", json.dumps(named), compute)
        windows = Windows(arrays["condition"], arrays["correction"])  # type: ignore[arg-type]
        # Times lead where all runs of a block go together, else runs do.
        parts.append(jax.tree.map(functools.partial(earliest, config.times, batch < BLOCK), windows))
    progress("windows", len(plan), len(plan))
    return WindowSet(parts)


def _block(
    level: str, dtype, cycler: Callable, batch: int, block: int, stream: str, layout: str
) -> dict[str, np.ndarray]:
    run = cycler(layout)
    truths = training_runs(LEVELS[level], BLOCK, first=block * BLOCK)
    base = jax.random.fold_in(jax.random.key(0x7761), int(content_hash(stream)[:7], 16))
    parts = []
    for first in range(0, BLOCK, batch):
        numbers = jnp.arange(batch, dtype=jnp.uint32) + block * BLOCK + first
        keys = jax.vmap(lambda i: jax.random.fold_in(base, i))(numbers)
        parts.append(jax.tree.map(np.asarray, run(keys, jnp.asarray(truths[first : first + batch], dtype))))
    joined = jax.tree.map(lambda *a: np.concatenate([b.reshape(-1, *b.shape[-3:]) for b in a]), *parts)
    return {"condition": joined.condition, "correction": joined.correction}
