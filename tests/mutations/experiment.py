"""Sweeps: settings, their traced numbers, their cycles, and records."""

from __future__ import annotations

from mutations.mutation import Mutation

EXPERIMENT = (
    Mutation(
        "scales are drawn linearly",
        "experiment/space.py",
        "low * (high / low) ** part",
        "low + (high - low) * part",
        ("experiment/test_space.py::test_random_settings_are_reproducible_and_in_their_ranges",),
    ),
    Mutation(
        "traced numbers of a filter are forgotten",
        "experiment/options.py",
        "filter_params(config, dtype)._replace(**numbers)",
        "filter_params(config, dtype)",
        ("experiment/test_options.py::test_traced_numbers_take_their_places",),
    ),
    Mutation(
        "a search goes on with the first frames",
        "experiment/batch.py",
        "inputs.truth[:, first * every : last * every]",
        "inputs.truth[:, : (last - first) * every]",
        ("experiment/test_search.py::test_it_finds_the_better_half_and_can_be_repeated",),
    ),
    Mutation(
        "rows of other code are kept",
        "experiment/trials.py",
        "if same_code(kept) else []",
        "if kept else []",
        ("experiment/test_sweep.py::test_a_sweep_goes_on_from_its_record",),
    ),
    Mutation(
        "members of the first time in the place of the start's",
        "experiment/first_members.py",
        "frames.cut(int(at[0]), int(at[0]) + 1)",
        "frames.cut(0, 1)",
        ("experiment/test_first_members.py::test_members_of_a_later_start_are_those_of_its_time",),
    ),
    Mutation(
        "a control starts from one member",
        "cycling/assimilator.py",
        "given[i::members].mean(0)",
        "given[i]",
        ("experiment/test_first_members.py::test_fewer_states_are_means_of_groups",),
    ),
)
