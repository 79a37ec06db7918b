"""Configurations come back from JSON as they were, whatever they hold."""

from hypothesis import given
from hypothesis import strategies as st

from jaxsrda.core.records import from_json, key_of, to_json
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.filters.config import FilterConfig
from jaxsrda.training.loss import TrainConfig

FILTERS = st.builds(
    FilterConfig,
    members=st.integers(2, 500),
    inflation=st.floats(0.5, 3),
    localization=st.floats(0.1, 5),
    additive=st.floats(0, 1),
    rtps=st.floats(0, 1),
    rtpp=st.floats(0, 1),
)
TRAININGS = st.builds(
    TrainConfig,
    samples=st.integers(1, 10**9),
    minutes=st.floats(0, 1e4),
    batch=st.integers(1, 512),
    learning_rate=st.floats(1e-8, 1),
    averages=st.lists(st.floats(0.01, 0.25), min_size=1, max_size=3).map(tuple),
    bfloat16=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
SAMPLINGS = st.builds(
    DiffSRDAConfig,
    prior=st.sampled_from(("dual", "enkf-sr", "carried")),
    members=st.integers(2, 200),
    steps=st.integers(1, 100),
    eta=st.floats(0, 1),
    sampler=st.sampled_from(("ddim", "heun", "dpmpp-2m")),
    centred=st.booleans(),
)


@given(st.one_of(FILTERS, TRAININGS, SAMPLINGS))
def test_configurations_round_trip(config):
    back = from_json(type(config), to_json(config))
    assert back == config and key_of(back) == key_of(config)


@given(FILTERS, FILTERS)
def test_keys_are_equal_for_equal_configurations_alone(one, other):
    assert (key_of(one) == key_of(other)) == (to_json(one) == to_json(other))
