"""The benchmark: what is scored, paired and timed."""

from __future__ import annotations

from mutations.mutation import Mutation

BENCHMARK = (
    Mutation(
        "a silence ends one time too late",
        "observing/layouts.py",
        "(jnp.asarray(time) > last)",
        "(jnp.asarray(time) > last + 1)",
        ("benchmark/test_protocol.py::test_silence_is_eight_time_units_long",),
    ),
    Mutation(
        "places of a task do not depend on the truth",
        "benchmark/protocol.py",
        "observation_key(protocol.seed, number)",
        "observation_key(protocol.seed, 0 * number)",
        ("benchmark/test_protocol.py::test_places_and_noise_are_frozen",),
    ),
    Mutation(
        "scores of a second truth stand before those of the first",
        "benchmark/row.py",
        'order = np.argsort(entry["seeds"], kind="stable")',
        'order = np.argsort(entry["seeds"], kind="stable")[::-1]',
        ("benchmark/test_run.py::test_a_row_has_the_scores_of_assimilate",),
    ),
    Mutation(
        "a ratio is upside down",
        "benchmark/row.py",
        "own[seed] / value for seed, value",
        "value / own[seed] for seed, value",
        ("benchmark/test_run.py::test_a_ratio_pairs_truths",),
    ),
    Mutation(
        "the change within a cycle is counted from the frame itself",
        "experiment/evaluate.py",
        "_device(frames[starts[j]], truths[starts[j]])",
        "_device(frames[j], truths[j])",
        ("benchmark/test_analyses.py::test_every_score_is_that_of_the_run",),
    ),
    Mutation(
        "truths of other code go though any code will do",
        "benchmark/row.py",
        "if not all(same_code(each, any_code) for each in made(entry)):",
        "if not all(same_code(each) for each in made(entry)):",
        ("benchmark/test_run.py::test_truths_of_other_code_stay_where_any_code_will_do",),
    ),
    Mutation(
        "a reference of other settings will do",
        "benchmark/row.py",
        'known = other.get("hash") == reference and same_code',
        "known = same_code",
        ("benchmark/test_run.py::test_a_reference_of_other_settings_is_run_again",),
    ),
    Mutation(
        "a variant of the reference is taken for it",
        "benchmark/run.py",
        "other.identity == given.identity",
        "other.spec == given.spec",
        ("benchmark/test_run.py::test_a_variant_of_the_reference_has_it_beside_it",),
    ),
    Mutation(
        "scores of other code are kept",
        "benchmark/row.py",
        "if found is None or not all(same_code(each, any_code) for each in made(found)):",
        "if found is None:",
        ("benchmark/test_run.py::test_scores_of_other_code_are_made_anew",),
    ),
)
