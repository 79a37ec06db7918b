"""Observations: operators, noise, keys, distances."""

from __future__ import annotations

from mutations.mutation import Mutation

OBSERVING = (
    Mutation(
        "sensors interpolate with swapped weights",
        "observing/operators.py",
        "(1 - b) * low + b * high",
        "b * low + (1 - b) * high",
        ("observing/test_observations.py::test_operators_are_exact_on_grid_points",),
    ),
    Mutation(
        "sensors end at x = 2π",
        "observing/operators.py",
        "i % grid.nx, (i + 1) % grid.nx\n",
        "i % grid.nx, jnp.minimum(i + 1, grid.nx - 1)\n",
        ("observing/test_observations.py::test_bilinear_wraps_in_x_and_ends_at_the_walls",),
    ),
    Mutation(
        "noise with a variance for its deviation",
        "observing/observations.py",
        "jnp.asarray(noise_std, omega.dtype) * noise",
        "jnp.asarray(noise_std, omega.dtype) ** 2 * noise",
        ("observing/test_observations.py::test_noise_statistics",),
    ),
    Mutation(
        "every time sees time 0",
        "observing/observations.py",
        "jnp.asarray(time, jnp.uint32))",
        "jnp.asarray(0 * time, jnp.uint32))",
        ("observing/test_observations.py::test_observations_depend_on_key_truth_and_time_alone",),
    ),
    Mutation(
        "block means without the odd image",
        "observing/operators.py",
        "jnp.where(j == mirrored, 1, -1)",
        "jnp.where(j == mirrored, 1, 1)",
        ("observing/test_observations.py::test_block_means",),
    ),
    Mutation(
        "channel not periodic",
        "observing/geometry.py",
        "    dx = jnp.minimum(dx, 2 * np.pi - dx)\n",
        "",
        ("filters/test_analysis.py::test_distances_are_periodic_in_x",),
    ),
    Mutation(
        "silent times hear the last sensors",
        "observing/observations.py",
        "silent = last._replace(mask=jnp.zeros_like(last.mask))",
        "silent = last",
        ("observing/test_observation_properties.py::test_stacked_times_are_those_that_went_in",),
    ),
)
