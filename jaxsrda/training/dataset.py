"""Training sets on the host: which runs, with which sensors, in which cycle; kept in the cache block by block."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.core.cache import cached_npz, content_hash
from jaxsrda.core.checks import check_choice
from jaxsrda.core.records import key_of, renamed
from jaxsrda.cycling.assimilator import Setup
from jaxsrda.diffsrda.condition import Conditioning
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.prior import PRIORS, make_prior
from jaxsrda.diffsrda.step import Draw, conditioning_of
from jaxsrda.flow.testbed import Level, Testbed, jet
from jaxsrda.observing.layouts import parse_layout
from jaxsrda.observing.observations import NOISE_STD
from jaxsrda.observing.sensors import Sensors
from jaxsrda.training.truths import BLOCK, training_runs
from jaxsrda.training.windows import STARTS, Windows, cycle_windows, forecast_windows

EXTRA_LAYOUTS = ("random-moving:128", "lattice:12", "lattice:8+dropout:0.3+silent:0.3", "lattice:6", "lattice:4")
"""Sensor layouts that training meets beside its main one."""

BATCH = 4
"""Runs cycled side by side."""


@renamed(others="extra_layouts", observation_std="noise_std")
@dataclasses.dataclass(frozen=True)
class DataConfig:
    """A training set: testbed, runs, truth level, prior, and sensors.

    testbed: the flow; level: of the training runs, by name, empty for that of the testbed's truths.  runs: training
    runs, a multiple of 8, all with the sensors `layout`; every third block of 8 once more with one of `extra_layouts`
    in turn, so that one network serves many layouts.  prior, members: the forecasts that give the first guess.
    noise_std: of the observations.  repeats: passes over all of it with new observations.  starts: of the forecasts of
    prior lr (`windows.STARTS`).  times: assimilation times used of each run, the earliest; 0 takes all.
    """

    prior: str = "dual"
    members: int = 30
    level: str = ""
    runs: int = 160
    layout: str = "lattice:8"
    extra_layouts: tuple[str, ...] = EXTRA_LAYOUTS
    noise_std: float = NOISE_STD
    repeats: int = 1
    starts: str = "perturbed"
    times: int = 0
    testbed: Testbed = dataclasses.field(default_factory=jet)

    def __post_init__(self):
        check_choice("prior", self.prior, PRIORS)
        _ = self.truth_level
        check_choice("starts", self.starts, STARTS)
        if self.repeats < 1:
            raise ValueError(f"repeats: expected at least 1, got {self.repeats}")
        if self.times < 0:
            raise ValueError(f"times: expected 1 or more, or 0 for all, got {self.times}")
        for layout in (self.layout, *self.extra_layouts):
            parse_layout(layout, self.testbed.grid)
        if self.runs < BLOCK or self.runs % BLOCK:
            raise ValueError(f"runs: expected a multiple of {BLOCK}, at least {BLOCK}; got {self.runs}")

    @property
    def truth_level(self) -> Level:
        """The level of the training runs, which is not coarser than that of analyses."""
        fine = {level.name: level for level in self.testbed.levels if level.nx >= self.testbed.analysis.nx}
        return fine[check_choice("level", self.level, fine)] if self.level else self.testbed.truth

    def plan(self) -> list[tuple[int, int, str]]:
        """What to run: (block of runs, pass, layout)."""
        blocks, extra = range(self.runs // BLOCK), self.extra_layouts
        plan, turn = [], itertools.count()
        for repeat in range(self.repeats):
            plan += [(block, repeat, self.layout) for block in blocks]
            if extra:
                third = [block for block in blocks if block % 3 == repeat % 3]
                plan += [(block, repeat, extra[next(turn) % len(extra)]) for block in third]
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
        """Root mean square (frames,) of the corrections, by frame."""
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
    units: Conditioning | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> WindowSet:
    """The windows of a training set, the first assimilation time of each run left out.

    draw, restart: a model in the loop, so that the windows are those its own cycling visits; `tag` then names it
    for the cache (a hash of its weights).  units: what conditions hold, by default the draw's, else what fits the
    testbed.
    """
    units = conditioning_of(setup, draw, units)
    setup = setup._replace(sensors=(Sensors(noise_std=config.noise_std),))
    # Left alone an LR forecast never meets the truth, so its windows start from it, one by one.
    alone = config.prior == "lr" and draw is None

    @functools.cache
    def cycler(layout: str) -> Callable:  # compiled once a layout
        place = parse_layout(layout, setup.grid)
        if alone:
            return jax.jit(
                lambda keys, truths: forecast_windows(setup, place, keys[0], truths, config.starts, units=units)
            )
        prior = make_prior(setup, DiffSRDAConfig(prior=config.prior, members=config.members, restart=restart))

        def run(key: jax.Array, truth: jax.Array) -> Windows:
            windows = cycle_windows(setup, prior, place, key, truth, units if draw is None else draw, restart)
            # The first time is not scored; of several guesses, all alike in law, the first will do.
            return jax.tree.map(lambda a: a[1:, :1], windows)

        return jax.jit(jax.vmap(run))

    plan = config.plan()
    # SR-mixup chooses among the runs of a block, so those go together; cycles would need more memory.
    batch = BLOCK if alone else BATCH
    starts = config.starts if config.prior == "lr" else ""
    what = [config.prior, config.members, config.noise_std, starts, PRIORS[config.prior].filter, restart, tag]
    what += [units, config.testbed.numerics(*config.testbed.levels), config.truth_level.name]
    what += [config.testbed.frames, config.testbed.frames_per_cycle, config.testbed.symmetries, str(setup.dtype)]
    parts = []
    for done, (block, repeat, layout) in enumerate(plan):
        progress("windows", done, len(plan))
        stream = f"{layout} {repeat} {restart} {tag}"
        compute = functools.partial(_block, config, setup.dtype, cycler(layout), batch, block, stream)
        name = f"windows-{config.testbed.name}-{config.prior}-{block:04d}"
        arrays = cached_npz(name, key_of(what, layout, repeat, block), compute)
        windows = Windows(arrays["condition"], arrays["correction"])  # type: ignore[arg-type]
        # Times lead where all runs of a block go together, else runs do.
        parts.append(jax.tree.map(functools.partial(earliest, config.times, batch < BLOCK), windows))
    progress("windows", len(plan), len(plan))
    return WindowSet(parts)


def _block(config: DataConfig, dtype: Any, run: Callable, batch: int, block: int, stream: str) -> dict[str, np.ndarray]:
    truths = training_runs(config.testbed, config.truth_level, BLOCK, first=block * BLOCK)
    base = jax.random.fold_in(jax.random.key(0x7761), int(content_hash(stream)[:7], 16))
    parts = []
    for first in range(0, BLOCK, batch):
        numbers = jnp.arange(batch, dtype=jnp.uint32) + block * BLOCK + first
        keys = jax.vmap(lambda i: jax.random.fold_in(base, i))(numbers)
        parts.append(jax.tree.map(np.asarray, run(keys, jnp.asarray(truths[first : first + batch], dtype))))
    joined = jax.tree.map(lambda *a: np.concatenate([b.reshape(-1, *b.shape[-3:]) for b in a]), *parts)
    return {"condition": joined.condition, "correction": joined.correction}
