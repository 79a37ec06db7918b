"""Methods as a user might write them, right and wrong; loaded by "benchmark.methods:name"."""

import jax.numpy as jnp
import numpy as np

import jaxsrda
from jaxsrda.filters.config import FilterConfig
from jaxsrda.filters.ensemble import ensemble_filter

steps = []
"""One entry each time that a step is traced."""


def hold(setup, members=2):
    """Members that stay where they are, ±1 around what the climatology says."""

    def init(key):
        mean = jaxsrda.to_physical(setup.grid, setup.climatology.mean[0])
        return jnp.stack([mean + (1 if number % 2 else -1) for number in range(members)]).astype(setup.dtype)

    def step(key, state, observations):
        steps.append(observations.capacity)
        frames = jnp.repeat(state[:, None], setup.testbed.frames_per_cycle, axis=1)
        return state, setup.window(setup.assimilated(observations), frames)

    return jaxsrda.Assimilator(init, step, members)


def changed(**parts):
    """A function like `hold` whose assimilator differs in some parts, each made of the right one."""

    def make(setup):
        right = hold(setup)
        return right._replace(**{name: change(right) for name, change in parts.items()})

    return make


def stepping(change):
    """`hold` with what its step returns changed."""
    return changed(step=lambda right: lambda *inputs: change(*right.step(*inputs)))


def _raise(error):
    raise error


def no_speeds(setup):
    """`hold`, for sensors of vorticity alone."""
    if not setup.sensors[0].measures_vorticity:
        raise ValueError("only vorticity, please")
    return hold(setup)


raises = lambda setup: _raise(KeyError("no such thing"))  # noqa: E731
no_assimilator = lambda setup: 3  # noqa: E731
init_raises = changed(init=lambda right: lambda key: _raise(RuntimeError("lost")))
no_window = stepping(lambda state, window: window)
wrong_members = changed(members=lambda right: 5)
wrong_frames = stepping(lambda state, window: (state, window._replace(omega=window.omega[:, :2])))
wrong_state = stepping(lambda state, window: (state[:1], window))
wrong_type = stepping(lambda state, window: (state, window._replace(omega=window.omega.astype(jnp.float16))))
not_finite = stepping(
    lambda state, window: (
        state,
        window._replace(diagnostics=window.diagnostics._replace(finite=jnp.asarray(False))),
    )
)
number = 3
field = np.zeros((32, 17))
a_method = jaxsrda.Method(
    lambda setup, config, params, model: ensemble_filter(setup, setup.forecast_model(), "enkf", config.members, params),
    FilterConfig(members=4),
)
