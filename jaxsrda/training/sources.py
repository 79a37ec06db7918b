"""Training windows made on the device, from truths that lie there: what a stream of training windows comes from.

A prior cycles over many truths at once with the model's own estimate in the loop, so that a training visits what its
own cycling visits.  Layouts of sensors share one compiled program: their slots are padded to one capacity.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, PartitionSpec

from jaxsrda.core import draws
from jaxsrda.core.checks import check_choice, check_positive
from jaxsrda.core.devices import shared
from jaxsrda.cycling.assimilator import Setup
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.model import Model, ModelConfig
from jaxsrda.diffsrda.prior import PRIORS, make_prior
from jaxsrda.diffsrda.sampling import mean_draw
from jaxsrda.flow.climatology import training_key
from jaxsrda.flow.grid import regrid, to_physical
from jaxsrda.flow.solver import etdrk4, rollout
from jaxsrda.flow.testbed import Level, Testbed
from jaxsrda.observing.layouts import Layout, parse_layout
from jaxsrda.observing.observations import NOISE_STD, Observations, observe_run, padded
from jaxsrda.training.truths import FIRST_SEED
from jaxsrda.training.windows import Windows, forecast_windows, observed_windows

# Truths ---------------------------------------------------------------------------------------


def truth_program(testbed: Testbed, level: Level, frames: int) -> Callable[[Array], Array]:
    """A function of seeds (R,): training runs (R, frames, nx, ny) at `level`, float16, truncated to the analysis grid.

    The same seeds are the runs of `training_runs`; a run whose step became unstable is not finite.
    """
    step = etdrk4(level.grid, testbed.flow_params(level), testbed.frame / level.steps)

    def kept(state: Array) -> Array:
        return regrid(level.grid, testbed.grid, to_physical(level.grid, state)).astype(jnp.float16)

    def run(seed: Array) -> Array:
        start = testbed.start(training_key(seed), level.grid)
        _, later = rollout(step, level.steps, frames - 1, kept)(start)
        return jnp.concatenate([kept(start)[None], later])

    return jax.vmap(run)


def make_truths(
    program: Callable[[Array], Array], runs: int, batch: int, first: int = 0, report: Callable = lambda *_: None
) -> Array:
    """Training runs `first` … on the device, `batch` at a time, those that are not finite left out."""
    parts = []
    for begin in range(first, first + runs, batch):
        seeds = jnp.asarray(FIRST_SEED + begin + np.arange(batch))
        part = program(seeds)
        sound = np.asarray(jnp.isfinite(part).all((1, 2, 3)))
        parts.append(part if sound.all() else part[np.flatnonzero(sound)])
        report(begin + batch - first, runs)
    return jnp.concatenate(parts)[:runs]


# Sensors --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Sensing:
    """Sensors that the runs of one program meet: `shares` of the runs have each of `layouts`.

    noise_std: of the observations; noise_range: for half of the runs, log-uniform between two numbers instead; empty
    for none.
    """

    layouts: tuple[str, ...] = ("lattice:8",)
    shares: tuple[int, ...] = (1,)
    noise_std: float = NOISE_STD
    noise_range: tuple[float, ...] = ()

    def __post_init__(self):
        if len(self.layouts) != len(self.shares) or min(self.shares) < 1:
            raise ValueError(f"sensing: expected a share of 1 or more for each layout, got {self.layouts, self.shares}")
        check_positive("noise_std", self.noise_std)
        if self.noise_range and not 0 < self.noise_range[0] <= self.noise_range[-1]:
            raise ValueError(f"noise_range: expected two numbers above 0 in order, got {self.noise_range}")

    def parts(self, runs: int) -> list[tuple[str, slice]]:
        """Which of `runs` runs have which layout; ValueError if the shares do not divide them."""
        each, left = divmod(runs, sum(self.shares))
        if left:
            raise ValueError(f"sensing: expected runs in multiples of {sum(self.shares)}, got {runs}")
        ends = each * np.cumsum(self.shares)
        return [(name, slice(int(end - each * n), int(end))) for name, n, end in zip(self.layouts, self.shares, ends)]


def observe_runs(key: Array, setup: Setup, sensing: Sensing, truths: Array) -> Observations:
    """Observations (R, times, p) of truths (R, frames, nx, ny), p the largest capacity of the layouts."""
    every, (sensors,) = setup.testbed.frames_per_cycle, setup.sensors
    cycles = (truths.shape[1] - 1) // every
    layouts = [(parse_layout(name, setup.grid), runs) for name, runs in sensing.parts(len(truths))]
    capacity = max(layout.capacity for layout, _ in layouts)

    def one(layout: Layout, key: Array, truth: Array) -> Observations:
        noise_key, which_key, key = jax.random.split(key, 3)
        noise_std = jnp.asarray(sensing.noise_std, truth.dtype)
        if sensing.noise_range:
            low, high = (math.log(end) for end in (sensing.noise_range[0], sensing.noise_range[-1]))
            other = jnp.exp(low + (high - low) * draws.uniform(noise_key, (), truth.dtype))
            noise_std = jnp.where(draws.coins(which_key, ()), other, noise_std)
        seen = truth[: cycles * every]
        return padded(observe_run(key, setup.grid, layout, seen, every, noise_std, sensors.measure), capacity)

    keys = jax.random.split(key, len(truths))
    parts = [jax.vmap(functools.partial(one, layout))(keys[runs], truths[runs]) for layout, runs in layouts]
    return jax.tree.map(lambda *a: jnp.concatenate(a), *parts)


# Windows --------------------------------------------------------------------------------------


class Policy(NamedTuple):
    """The model in the loop: parameters, and the scale (frames,) of its corrections."""

    params: Any
    scale: Array


def cycled(
    setup: Setup,
    model: ModelConfig,
    prior: str,
    sensing: Sensing,
    members: int = 30,
    looped: bool = True,
    mesh: Mesh | None = None,
) -> Callable[[Array, Array, Policy], Windows]:
    """A function (key, truths (R, frames, nx, ny), policy) → windows (R · n, …) of a prior, the first assimilation time
    of each run left out.

    looped: the prior goes on from the policy's mean, as it does in the model's own cycling; else it is left alone.
    mesh: each device cycles runs of its own along the axis `data`, which has to divide them; None for one device.
    """
    check_choice("prior", prior, PRIORS)
    restart = PRIORS[prior].restart if looped else "open"
    made = make_prior(setup, DiffSRDAConfig(prior=prior, members=members, restart=restart))

    def windows(key: Array, truths: Array, policy: Policy) -> Windows:
        truths = truths.astype(setup.dtype)
        sensor_key, run_key = jax.random.split(key)
        observed = observe_runs(sensor_key, setup, sensing, truths)

        def runs(policy: Policy, keys: Array, truths: Array, observed: Observations) -> Windows:
            loop: Any = model.conditioning
            if looped:
                loop = mean_draw(Model(model, policy.params, policy.scale))  # type: ignore[arg-type]

            def run(key: Array, truth: Array, observed: Observations) -> Windows:
                out = observed_windows(setup, made, tuple(jax.random.split(key)), truth, observed, loop, restart)
                return jax.tree.map(lambda a: a[1:, 0], out)

            return jax.vmap(run)(keys, truths, observed)

        whole, data = PartitionSpec(), PartitionSpec("data")
        each = shared(runs, mesh, (whole, data, data, data), data)
        out = each(policy, jax.random.split(run_key, len(truths)), truths, observed)
        # A run whose cycle was lost (early policies may) is replaced by one that was not.
        axes = tuple(range(1, out.condition.ndim))
        sound = jnp.isfinite(out.condition).all(axes) & jnp.isfinite(out.correction).all(axes)
        kept = jnp.where(sound, jnp.arange(len(sound)), jnp.argmax(sound))
        return jax.tree.map(lambda a: a[kept].reshape(-1, *a.shape[2:]), out)

    return windows


def forecasts(
    setup: Setup, model: ModelConfig, sensing: Sensing, starts: str = "perturbed"
) -> Callable[[Array, Array, Policy], Windows]:
    """A function (key, truths, policy) → windows of bare cheap forecasts (`forecast_windows`), which need no policy.

    Windows of one run come one after the other.
    """

    def windows(key: Array, truths: Array, policy: Policy) -> Windows:
        truths = truths.astype(setup.dtype)
        sensor_key, start_key = jax.random.split(key)
        observed = observe_runs(sensor_key, setup, sensing, truths)
        out = forecast_windows(setup, observed, start_key, truths, starts, units=model.conditioning)
        return jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0).reshape(-1, *a.shape[2:]), out)

    return windows


def of_policy(make: Callable[..., Windows], policy: Policy) -> Callable[[Array, Array, Policy], Windows]:
    """A maker whose windows are those of a policy of its own."""
    return lambda key, truths, _: make(key, truths, policy)
