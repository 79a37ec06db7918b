"""The programs of a training job: makers of windows, steps, and errors, to be compiled at first use or before."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxsrda.cycling.assimilator import Setup
from jaxsrda.diffsrda.latent import LatentSpace
from jaxsrda.diffsrda.model import Model, ModelConfig
from jaxsrda.observing.sensors import Sensors
from jaxsrda.training import sources
from jaxsrda.training.dataset import DataConfig
from jaxsrda.training.loss import TrainConfig
from jaxsrda.training.sources import Policy
from jaxsrda.training.stream import Maker, StreamConfig, make_steps, window_errors
from jaxsrda.training.windows import Windows

CHUNK = 64
"""Windows that errors are computed on at once."""

CHECKED = 512
"""Windows that errors are computed on in all."""


class Making(NamedTuple):
    """A maker, how many runs it takes, how many windows it makes, and of how many of these, the first, errors are
    computed (or none)."""

    make: Maker
    runs: int
    windows: int
    checked: int = 0


def makers(
    setup: Setup,
    model: ModelConfig,
    data: tuple[DataConfig, ...],
    stream: StreamConfig,
    policy: Model | str = "own",
    mesh: Mesh | None = None,
) -> dict[str, Making]:
    """Makers by name, `prior` and `prior, dense`, for each training set.

    policy: whose cycling windows are of, the model's `own`, that of another one, or `none`, the priors' alone.  mesh:
    its axis `data` shares the runs out, where it divides them.
    Errors are computed on windows of the first layout of each prior.
    """
    made = {}
    for each in data:
        here = setup._replace(sensors=(Sensors(noise_std=each.noise_std),))
        units = sum(sum(sensing.shares) for sensing in each.sensings.values())
        times = -(-stream.side_by_side // units)
        cycles = (each.frames - 1) // each.testbed.frames_per_cycle - 1
        for more, sensing in each.sensings.items():
            runs = times * sum(sensing.shares)
            if each.starts != "cycle":
                make = sources.forecasts(here, model, sensing, each.starts)
            else:
                cycler = policy.config if isinstance(policy, Model) else model
                parts = None if mesh is None or runs % mesh.size else mesh
                make = sources.cycled(here, cycler, each.prior, sensing, each.members, policy != "none", parts)
                if isinstance(policy, Model):
                    make = sources.of_policy(make, Policy(policy.params, jnp.asarray(policy.scale)))
            first = cycles * sensing.parts(runs)[0][1].stop
            made[each.prior + more] = Making(make, runs, cycles * runs, 0 if more else min(first, CHECKED))
    return made


def check_capacity(made: dict[str, Making], capacity: int) -> None:
    """ValueError for a buffer that does not hold what one maker makes."""
    for name, each in made.items():
        if each.windows > capacity:
            raise ValueError(
                f"capacity: expected room for the {each.windows} windows that are made at once for {name}, got "
                f"{capacity}; raise it, or lower side_by_side"
            )


def errors(
    model: ModelConfig, config: TrainConfig, count: int
) -> Callable[[Policy, LatentSpace | None, Windows], dict[str, Array]]:
    """A function (policy, space, windows) → `window_errors` of `count` windows."""
    chunk = min(CHUNK, count)

    def of_windows(policy: Policy, space: LatentSpace | None, windows: Windows) -> dict[str, Array]:
        return window_errors(model, config, policy, space, windows, chunk)

    return of_windows


class Programs(NamedTuple):
    """What a stream runs: steps of `make_steps`; makers by name, each with its number of runs, in the order that they
    fill the buffer; errors by name of a maker, on the first of its windows, and how many; what: the makers' settings,
    as JSON has them, which tell one training from another; mesh: of devices that share windows out, None for one."""

    steps: Callable
    makers: dict[str, tuple[Maker, int]]
    errors: dict[str, tuple[Callable, int]]
    what: Any = None
    mesh: Mesh | None = None


def programs(
    model: ModelConfig,
    config: TrainConfig,
    stream: StreamConfig,
    made: dict[str, Making],
    what: Any = None,
    mesh: Mesh | None = None,
) -> Programs:
    """The programs of a job, compiled when they are first called."""
    everywhere = None if mesh is None else NamedSharding(mesh, PartitionSpec())
    steps = jax.jit(make_steps(model, config, stream.dispatch, mesh), donate_argnums=0, out_shardings=everywhere)
    scored = {
        name: (jax.jit(errors(model, config, m.checked), out_shardings=everywhere), m.checked)
        for name, m in made.items()
        if m.checked
    }
    return Programs(steps, {name: (jax.jit(m.make), m.runs) for name, m in made.items()}, scored, what, mesh)


def windows_shape(model: ModelConfig, count: int) -> Windows:
    """Shapes of windows."""
    channels = model.channels, model.frames
    return Windows(*(jax.ShapeDtypeStruct((count, model.nx, model.ny, n), jnp.float16) for n in channels))  # type: ignore


Compile = Callable[..., Any]
"""compile(name, function, *shapes, donate=…) → something whose `result()` is the compiled program."""


def compiled(
    model: ModelConfig,
    config: TrainConfig,
    stream: StreamConfig,
    made: dict[str, Making],
    shapes: dict[str, Any],
    compile_: Compile,
) -> Callable[[], Programs]:
    """The same, compiled before: a function that waits for them.

    shapes: of the `whole` parameters, what is `fixed`, the `state`, and a run of the truths (`run`).
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    scale = jax.ShapeDtypeStruct((model.frames,), jnp.float32)
    policy = Policy(shapes["whole"], scale)  # type: ignore[arg-type]
    windows = functools.partial(windows_shape, model)
    numbers = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((), jnp.float32)
    inputs = shapes["state"], shapes["fixed"], windows(stream.capacity), *numbers, scale, key
    steps = compile_("steps", make_steps(model, config, stream.dispatch), *inputs, donate=(0,))
    making, scored = {}, {}
    for name, m in made.items():
        truths = jax.ShapeDtypeStruct((m.runs, *shapes["run"].shape), jnp.float16)
        making[name] = compile_(name, m.make, key, truths, policy), m.runs
        if m.checked:
            error = errors(model, config, m.checked)
            scored[name] = (
                compile_(f"error of {name}", error, policy, shapes["fixed"].space, windows(m.checked)),
                m.checked,
            )

    def result() -> Programs:
        def ready(futures: dict[str, tuple[Any, int]]) -> dict[str, tuple[Any, int]]:
            return {name: (future.result(), count) for name, (future, count) in futures.items()}

        return Programs(steps.result(), ready(making), ready(scored))

    return functools.cache(result)
