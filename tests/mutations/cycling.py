"""Cycles, tallies, sweeps and devices."""

from __future__ import annotations

from mutations.mutation import Mutation

CYCLING = (
    Mutation(
        "tally with the first cycle",
        "cycling/cycle.py",
        "counted = carry.index > 0",
        "counted = carry.index >= 0",
        ("cycling/test_cycle.py::test_the_tally_leaves_the_first_cycle_out",),
    ),
    Mutation(
        "every cycle draws alike",
        "cycling/cycle.py",
        "jax.random.fold_in(key, 1 + carry.index)",
        "jax.random.fold_in(key, 1)",
        ("cycling/test_cycle.py::test_a_scan_is_a_loop",),
    ),
    Mutation(
        "a lost cycle is forgotten",
        "cycling/cycle.py",
        "carry.finite & out.diagnostics.finite",
        "out.diagnostics.finite",
        ("cycling/test_cycle.py::test_a_cycle_that_was_lost_is_not_forgotten",),
    ),
    Mutation(
        "departures without the noise of the observations",
        "cycling/background_check.py",
        "observations.variance + member_variance(predicted)",
        "member_variance(predicted)",
        ("cycling/test_background_check.py::test_departures_are_compared_with_background_and_noise",),
    ),
    Mutation(
        "sweeps with the first cycle",
        "cycling/sweep.py",
        "s[1:].mean()",
        "s.mean()",
        ("cycling/test_cycle.py::test_a_sweep_is_its_runs_and_compiles_once",),
    ),
    Mutation(
        "windows of one device on all",
        "training/buffer.py",
        '- size * jax.lax.axis_index("data")',
        "",
        ("training/test_shared_training.py::test_a_buffer_on_eight_devices_holds_what_one_does",),
    ),
    Mutation(
        "devices by the first count alone",
        "core/devices.py",
        "key=lambda parts: (math.prod(parts), parts)",
        "key=lambda parts: parts",
        ("experiment/test_shared_runs.py::test_parts_divide_the_counts_and_keep_most_devices_busy",),
    ),
    Mutation(
        "what leads fields is not divided",
        "core/devices.py",
        "len(shape) >= len(lead) + 3",
        "len(shape) >= len(lead) + 4",
        (
            "experiment/test_shared_runs.py::test_leading_axes_are_divided_and_those_of_fields",
            "experiment/test_shared_runs.py::test_eight_devices_are_one",
        ),
    ),
)
