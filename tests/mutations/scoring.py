"""Scores."""

from __future__ import annotations

from mutations.mutation import Mutation

SCORING = (
    Mutation(
        "CRPS not fair",
        "scoring/point.py",
        "(members * (members - 1)), truth.dtype",
        "(members * members), truth.dtype",
        ("scoring/test_scores.py::test_crps_matches_scoringrules_and_the_double_sum",),
    ),
    Mutation(
        "spread-skill without 1 + 1/M",
        "scoring/point.py",
        "own = 1 + 1 / len(ensemble) if analysis is None else 1.0",
        "own = 1.0",
        ("scoring/test_scores.py::test_spread_matches_numpy",),
    ),
    Mutation(
        "spread-skill of an analysis with 1 + 1/M",
        "scoring/point.py",
        "own = 1 + 1 / len(ensemble) if analysis is None else 1.0",
        "own = 1 + 1 / len(ensemble)",
        ("scoring/test_scores.py::test_scores_are_of_the_analysis_where_one_is_given",),
    ),
    Mutation(
        "biased variance",
        "scoring/point.py",
        "ensemble.var(0, ddof=1) if",
        "ensemble.var(0, ddof=0) if",
        ("scoring/test_scores.py::test_spread_matches_numpy",),
    ),
    Mutation(
        "MSSIM's second constant",
        "scoring/point.py",
        "(0.03 * span) ** 2",
        "(0.3 * span) ** 2",
        ("scoring/test_scores.py::test_mssim_matches_scipy",),
    ),
    Mutation(
        "MSSIM's window",
        "scoring/point.py",
        "np.arange(-5, 6) / 1.5",
        "np.arange(-5, 6) / 1.4",
        ("scoring/test_scores.py::test_mssim_matches_scipy",),
    ),
    Mutation(
        "MAER of squares",
        "scoring/point.py",
        "jnp.abs(estimate - truth).sum() / jnp.abs(truth).sum()",
        "jnp.sqrt(((estimate - truth) ** 2).sum() / (truth**2).sum())",
        ("scoring/test_scores.py::test_field_errors_match_numpy",),
    ),
    Mutation(
        "chi² without the members' variance",
        "scoring/fit.py",
        "jnp.asarray(variance, values.dtype) + member_variance(predicted)",
        "jnp.asarray(variance, values.dtype)",
        ("scoring/test_scores.py::test_observation_fit",),
    ),
    Mutation(
        "tallied error of the first member",
        "scoring/tally.py",
        "squared_error=jnp.mean((mean - truth) ** 2)",
        "squared_error=jnp.mean((ensemble[0] - truth) ** 2)",
        ("scoring/test_scores.py::test_merged_halves_equal_the_whole",),
    ),
    Mutation(
        "ranks above in place of below",
        "scoring/tally.py",
        "(ensemble < truth[None]).sum(0",
        "(ensemble > truth[None]).sum(0",
        ("scoring/test_scores.py::test_ranks_and_histograms_match_numpy",),
    ),
    Mutation(
        "coverage one member too wide",
        "scoring/tally.py",
        "ranks[m : members + 1 - m].sum()",
        "ranks[m - 1 : members + 1 - m].sum()",
        ("scoring/test_scores.py::test_a_calibrated_ensemble_is_found_calibrated",),
    ),
    Mutation(
        "decibels of amplitudes",
        "scoring/spectra.py",
        "10 * jnp.log10(",
        "20 * jnp.log10(",
        ("scoring/test_scores.py::test_log_spectral_distance",),
    ),
    Mutation(
        "energy score with all pairs",
        "scoring/joint.py",
        "apart.sum() / (2 * members * (members - 1))",
        "apart.sum() / (2 * members * members)",
        ("scoring/test_joint.py::test_the_energy_score_is_that_of_scoringrules",),
    ),
    Mutation(
        "variogram of the mean",
        "scoring/joint.py",
        "(powers[0] - powers[1:].mean(0)) ** 2",
        "(powers[0] - powers[1]) ** 2",
        ("scoring/test_joint.py::test_the_variogram_score_is_that_of_scoringrules",),
    ),
    Mutation(
        "Laplacian's sign",
        "scoring/joint.py",
        "to_physical(grid, -k2 * to_spectral",
        "to_physical(grid, k2 * to_spectral",
        ("scoring/test_joint.py::test_the_laplacian_of_a_mode_is_minus_its_wavenumber_squared",),
    ),
    Mutation(
        "change of the truth alone",
        "scoring/joint.py",
        "crps(of.ensemble - ensemble, of.truth - truth)",
        "crps(of.ensemble, of.truth - truth)",
        ("scoring/test_joint.py::test_scores_by_name_are_those_of_their_functionals",),
    ),
)
