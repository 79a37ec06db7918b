"""Broadcasting is written out: what every method and every training compiles is traced where JAX refuses to guess.

Nothing is compiled here; `tests/app/test_modes.py` runs the main job in the same mode.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID, TESTBED, observed, setup, truth

from jaxsrda.cycling.cycle import run_cycles, start
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.model import Model, ModelConfig, network
from jaxsrda.diffusion.guidance import GUIDES
from jaxsrda.experiment.registry import METHODS, make_assimilator, method_preset
from jaxsrda.training.dataset import DataConfig
from jaxsrda.training.loss import TrainConfig
from jaxsrda.training.programs import compiled, makers
from jaxsrda.training.stream import Fixed, StreamConfig, first_state

FILTERS = [name for name in METHODS if not isinstance(method_preset(name, "lattice:8"), DiffSRDAConfig)]


@pytest.fixture(autouse=True)
def written_out():
    with jax.numpy_rank_promotion("raise"):
        yield


def trace(method, config, model=None):
    """The shapes of a run and its scores; an error names the arrays that do not have the same rank."""
    inputs = setup(), observed(2), truth(2)

    def whole(where, seen, frames):
        made, key = make_assimilator(method, where, config, None, model), jax.random.key(0)
        begin = start(made, key, GRID, frames.dtype)
        return run_cycles(made, key, seen, frames, begin, "members", TESTBED, joint=True)

    given = inputs[0]
    shapes = jax.eval_shape(
        lambda climatology, *rest: whole(given._replace(climatology=climatology), *rest), given.climatology, *inputs[1:]
    )
    assert shapes[1].fields.mean.shape == (2, 4, *GRID.shape)


def test_a_guess_of_ranks_is_an_error():
    with pytest.raises(ValueError, match="could not be broadcast together"):
        jnp.ones((2, 3)) - jnp.ones(3)


@pytest.mark.parametrize("method", FILTERS)
def test_filters_write_out_what_they_broadcast(method):
    config = method_preset(method, "lattice:8")
    trace(method, dataclasses.replace(config, members=min(config.members, 4)))


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "method, options",
    [
        pytest.param("diffsrda", {}, id="diffsrda"),
        pytest.param("cnn", {}, id="cnn", marks=SLOW),
        *(
            pytest.param("diffsrda", {"guidance": guide(), "guide_on": "all"}, id=name, marks=SLOW)
            for name, guide in GUIDES.items()
        ),
        *(pytest.param("diffsrda", {"sampler": name}, id=name, marks=SLOW) for name in ("heun", "ddim")),
    ],
)
def test_networks_and_guides_write_out_what_they_broadcast(smallest, method, options):
    kind = ModelConfig.of(
        TESTBED, network="tiny", priors=("enkf-sr",), target="regression" if method == "cnn" else "residual"
    )
    model = Model(kind, network(kind).initial(0), np.full(kind.frames, 0.5, np.float32))
    config = dataclasses.replace(method_preset(method, "lattice:8"), members=2, prior="enkf-sr", **options)
    trace(method, config, model)


@pytest.mark.parametrize(
    "target", ["residual", pytest.param("direct", marks=SLOW), pytest.param("regression", marks=SLOW)]
)
def test_training_writes_out_what_it_broadcasts(smallest, target):
    """Windows of the model's own cycling, steps, and the errors of held-out windows."""
    kind = ModelConfig.of(TESTBED, network="tiny", priors=("enkf-sr",), target=target)
    data = DataConfig("enkf-sr", members=3, runs=16, layout="lattice:4", extra_layouts=(), testbed=TESTBED)
    config, stream = TrainConfig(batch=2), StreamConfig(capacity=8, dispatch=1, side_by_side=2)
    whole = jax.eval_shape(functools.partial(network(kind).initial, 0))
    state = jax.eval_shape(lambda: first_state(kind, config, network(kind).initial(0)))
    run = jax.ShapeDtypeStruct((TESTBED.frames + 1, *GRID.shape), jnp.float16)
    traced = []

    def shape(name, function, *shapes, donate=()):
        traced.append((name, jax.eval_shape(function, *shapes)))

    with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32 and multiplies with it
        made = makers(setup("float32"), kind, (data,), stream)
        shapes = {"whole": whole, "fixed": Fixed(), "state": state, "run": run}
        compiled(kind, config, stream, made, shapes, shape)
    assert [name for name, _ in traced] == ["steps", "enkf-sr", "error of enkf-sr"]
