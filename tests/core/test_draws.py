"""Random streams: none meets another, and numbers are the same in both precisions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID, TESTBED, setup, truth

from jaxsrda.core import draws
from jaxsrda.core.draws import stream
from jaxsrda.diffusion.samplers import initial_noise
from jaxsrda.filters.analysis import Departures, perturbations
from jaxsrda.flow.climatology import training_key
from jaxsrda.flow.jet import truth_key
from jaxsrda.observing.layouts import parse_layout
from jaxsrda.observing.observations import observation_key, observe_run

TIMES = 400


def sensing(key):
    """The keys of one set of sensors."""
    times = jax.vmap(lambda t: jax.random.fold_in(key, 1 + t))(jnp.arange(TIMES, dtype=jnp.uint32))
    place, noise = jnp.moveaxis(jax.vmap(jax.random.split)(times), 1, 0)
    parts = jax.vmap(lambda k: jax.random.split(k, 3))(place)
    marks = [jax.vmap(lambda k, n=name: stream(k, n))(place) for name in ("dropout", "silent")]
    return [key, jax.random.fold_in(key, 0), times, noise, parts, *marks]


def experiment(seed, number):
    """The keys of one truth in an experiment: its run's cycles, and what two sets of sensors see of it."""
    run, seen = jax.random.fold_in(jax.random.key(seed), number), observation_key(seed, number)
    cycles = jax.vmap(lambda c: jax.random.fold_in(run, 1 + c))(jnp.arange(TIMES, dtype=jnp.uint32))
    steps, ranks = jnp.moveaxis(jax.vmap(jax.random.split)(cycles), 1, 0)
    inside = jax.vmap(lambda k: jax.random.split(k, 3))(steps)
    frames = jax.vmap(lambda k: jax.random.split(k, 4))(ranks)
    own = [run, jax.random.fold_in(run, 0), cycles, inside, frames, stream(run, "withheld")]
    sets = [sensing(seen), *(sensing(stream(seen, "further set", n)) for n in (1, 2))]
    return [*own, *(key for keys in sets for key in keys), truth_key(number)]


def test_no_two_streams_meet():
    keys = [key for pair in ((0, 0), (0, 1), (1, 0)) for key in experiment(*pair)]
    keys += [training_key(number) for number in range(3)]
    words = np.concatenate([np.asarray(jax.random.key_data(key)).reshape(-1, 2) for key in keys])
    distinct = len(np.unique(words, axis=0))
    assert len(words) > 10_000
    # Truths 0 of two seeds are the same truth: one key comes twice.
    assert distinct == len(words) - 1


def test_tags_are_far_from_counts_and_from_one_another():
    values = list(draws.TAGS.values())
    assert len(set(values)) == len(values) and min(values) > 2**31 and max(values) < 2**32
    key = jax.random.key(0)
    assert not np.array_equal(*(jax.random.key_data(stream(key, "further set", n)) for n in (1, 2)))
    with pytest.raises(KeyError):
        stream(key, "unheard of")


def rounded(make, tolerance=2e-6):
    """Numbers made in float32 are those made in float64, rounded."""
    single, double = make("float32"), make("float64")
    assert single.dtype == "float32" and double.dtype == "float64"
    scale = float(np.abs(double).max())
    np.testing.assert_allclose(single, double, atol=tolerance * scale, rtol=0)
    assert double.std() > 0


KEY = jax.random.key(5)
TRACKS = parse_layout("track:2+dropout:0.5", GRID)


def rounded_climatology(dtype):
    return jax.tree.map(lambda a: a.astype(dtype), setup().climatology)


@pytest.mark.parametrize(
    "make",
    [
        lambda dtype: draws.normal(KEY, (50,), dtype),
        lambda dtype: draws.uniform(KEY, (50,), dtype),
        lambda dtype: TESTBED.start(KEY, GRID, dtype),
        lambda dtype: rounded_climatology(dtype).draw(KEY, 1, 5, GRID),
        lambda dtype: observe_run(KEY, GRID, TRACKS, truth(2).astype(dtype), 4).values,
        lambda dtype: initial_noise(KEY, (4, 5), 3.0, dtype),
        lambda dtype: perturbations(KEY, 4, Departures(*jnp.ones((3, 6), dtype))),
    ],
    ids=["normal", "uniform", "first state", "climatology", "observations", "initial noise", "perturbations"],
)
def test_draws_are_the_same_in_both_precisions(make):
    rounded(make, 1e-5)


def test_no_room_draws_for_itself():
    """Everything that is drawn with a precision is drawn by `core.draws`."""
    import re
    from pathlib import Path

    import jaxsrda

    root = Path(jaxsrda.__file__).parent
    found = {
        str(path.relative_to(root)): names
        for path in root.rglob("*.py")
        if (names := re.findall(r"jax\.random\.(normal|uniform|bernoulli|randint)\(", path.read_text(encoding="utf-8")))
        and "rngs.params()" not in path.read_text(encoding="utf-8")
        and path.name != "draws.py"
    }
    assert found in ({}, {"networks/codebook.py": ["normal"]})


def test_coins_and_integers():
    thrown = draws.coins(KEY, (20_000,), 0.3)
    assert thrown.dtype == bool and abs(thrown.mean() - 0.3) < 0.015
    assert not draws.coins(KEY, (50,), 0.0).any() and draws.coins(KEY, (50,), 1.0).all()
    numbers = draws.integers(KEY, (1000,), 2, 5)
    assert numbers.dtype == "int32" and set(np.asarray(numbers).tolist()) == {2, 3, 4}
