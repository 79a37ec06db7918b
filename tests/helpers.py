"""A small testbed that compiles and runs in seconds, shared by the tests of filters and cycles."""

import dataclasses
import functools
import os

import jax
import jax.numpy as jnp

from jaxsrda.cycling.assimilator import Setup
from jaxsrda.filters.config import FilterConfig, filter_params
from jaxsrda.flow import climatology
from jaxsrda.flow.forecasts import Forecast, spectral
from jaxsrda.flow.grid import to_physical
from jaxsrda.flow.solver import Speeds
from jaxsrda.flow.testbed import Level, Testbed
from jaxsrda.observing.layouts import parse_layout
from jaxsrda.observing.observations import observe_run
from jaxsrda.observing.sensors import Sensors

COARSE = Level("lr", 16, 9, 1e-3, steps=6, rk2_steps=250)
FINE = Level("hr", 32, 17, 1e-4, steps=10, rk2_steps=500)
TESTBED = Testbed("small", forecast=COARSE, analysis=FINE, truth=FINE, frames=12)
GRID = TESTBED.grid
SENSORS = (Sensors("lattice:4"),)

# Small arrays: the time goes into compiling, so compile fast rather than well.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def once(make):
    """The function, computed once for each of its arguments, with numbers even while a caller is traced."""

    @functools.cache
    @functools.wraps(make)
    def made(*args, **options):
        with jax.ensure_compile_time_eval():
            return make(*args, **options)

    return made


@once
def states(dtype="float64"):
    """Four states of the jet (4, 2K+1, L) with waves of order one on it."""

    @quick_jit
    def draw():
        start = TESTBED.start(jax.random.key(0), GRID, dtype)
        rows, columns = 1 + jnp.arange(start.shape[0]), 1 + jnp.arange(start.shape[1])
        waves = jax.random.normal(jax.random.key(1), (4, *start.shape), dtype)
        return start[None] + waves / (rows[:, None] * columns[None]).astype(dtype)[None]

    return draw()


@once
def setup(dtype="float64", sensors=SENSORS, **changes):
    """The small testbed, changed where asked, with a climatology of two runs at two times."""
    runs = states(dtype).reshape(2, 2, *GRID.spectral_shape)
    testbed = dataclasses.replace(TESTBED, **changes)
    return Setup(testbed, climatology.from_runs(GRID, runs, testbed.symmetries), sensors)


@once
def truth(cycles=3, dtype="float64", seed=0):
    """Frames (4 · cycles, nx, ny) that drift slowly: not a run, but something to observe and to score against."""
    a, b = (to_physical(GRID, states(dtype)[(seed + i) % 4]) for i in range(2))
    part = jnp.linspace(0, 1, 4 * cycles, dtype=dtype)[:, None, None]
    return (1 - part) * a[None] + part * b[None]


@once
def observed(cycles=3, dtype="float64", seed=0, layout="lattice:4"):
    """Observations of `truth` at its assimilation times."""
    return quick_jit(lambda frames: observe_run(jax.random.key(seed), GRID, parse_layout(layout, GRID), frames, 4))(
        truth(cycles, dtype, seed)
    )


def parameters(dtype="float64", **values):
    """Traced numbers of a filter: the defaults, changed where asked."""
    return filter_params(FilterConfig(), dtype)._replace(**{k: jnp.asarray(v, dtype) for k, v in values.items()})


def held(level, testbed=TESTBED):
    """A forecast model at a level that holds every state, so that what an analysis left is seen in the next state."""

    def forecast(omega_hat):
        zeros = jnp.zeros(testbed.window, omega_hat.dtype)
        return Forecast(
            jnp.repeat(omega_hat[:, None], testbed.frames_per_cycle, axis=1), omega_hat, Speeds(zeros, zeros)
        )

    return spectral(testbed, level)._replace(forecast=forecast)


def training_programs(model, config, windows, dispatch=1):
    """What a training on these windows alone runs, compiled fast; and truths that no one looks at."""
    from jaxsrda.training.programs import Programs, errors
    from jaxsrda.training.stream import make_steps
    from jaxsrda.training.stream_run import Truths

    count = len(windows.condition)
    some = jax.tree.map(jnp.asarray, windows)
    made = {"all": (lambda key, truths, policy: jax.tree.map(jnp.copy, some), 1)}
    steps = quick_jit(make_steps(model, config, dispatch))
    nothing = jnp.zeros((1, 2, 3, 3), jnp.float16)
    return Programs(steps, made, {"all": (quick_jit(errors(model, config, count)), count)}), Truths(nothing, nothing)


def fill(folder, left):
    """Leave so many bytes of a file system; returns the file that takes the others."""
    ballast, about = folder / "ballast", os.statvfs(folder)
    ballast.write_bytes(bytes(about.f_bavail * about.f_frsize - left))
    return ballast
