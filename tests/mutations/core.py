"""Streams of random numbers."""

from __future__ import annotations

from mutations.mutation import Mutation

CORE = (
    Mutation(
        "one tag for two streams",
        "core/draws.py",
        '"silent": 0xD1000002',
        '"silent": 0xD1000001',
        ("core/test_draws.py::test_tags_are_far_from_counts_and_from_one_another",),
    ),
    Mutation(
        "further sets share a stream",
        "core/draws.py",
        "jax.random.fold_in(tagged, number) if number else tagged",
        "tagged",
        ("core/test_draws.py::test_no_two_streams_meet",),
    ),
    Mutation(
        "withheld sensors by the first set's stream",
        "core/draws.py",
        "jnp.uint32(TAGS[name])",
        "jnp.uint32(TAGS[name] - 0xD1000000)",
        ("core/test_draws.py::test_no_two_streams_meet",),
    ),
)
