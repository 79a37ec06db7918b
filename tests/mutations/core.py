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
    Mutation(
        "slope of a vanished spread",
        "core/roots.py",
        "jnp.where(positive, x, 1)",
        "x",
        ("core/test_roots.py::test_sqrt_is_flat_at_zero",),
    ),
    Mutation(
        "deviation of the population",
        "core/roots.py",
        "x.var(0, ddof=ddof)",
        "x.var(0)",
        ("core/test_roots.py::test_deviation_is_that_of_numpy",),
    ),
    Mutation(
        "Newton–Schulz's turn",
        "core/roots.py",
        "1.5 * one - 0.5 * matmul(z, y)",
        "1.25 * one - 0.25 * matmul(z, y)",
        ("core/test_roots.py::test_matrix_functions",),
    ),
    Mutation(
        "inverse root of the scaled matrix",
        "core/roots.py",
        "return z / jnp.sqrt(size)",
        "return z / size",
        ("core/test_roots.py::test_matrix_functions",),
    ),
    Mutation(
        "shrinkage of the root",
        "core/roots.py",
        "-matmul(inverse, x)",
        "-matmul(z, x)",
        ("core/test_roots.py::test_matrix_functions",),
    ),
    Mutation(
        "shrinkage one Newton step short",
        "core/roots.py",
        "for _ in range(4)",
        "for _ in range(3)",
        ("core/test_roots.py::test_matrix_functions",),
    ),
)
