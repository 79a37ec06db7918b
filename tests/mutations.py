"""Mutations: one wrong factor, sign or index each, and the tests that have to notice it.

    python tests/mutations.py [NAME …]      apply each to a copy of the package, run its tests, say what they did

tests/project/test_mutations.py does the same under pytest.  A mutation that no test notices is a formula without one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxsrda"


class Mutation(NamedTuple):
    """A name; a file of the package; text that stands once in it, and what takes its place; tests (`file::function` in
    tests/) of which at least one has to fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def dual(name: str) -> str:
    return f"filters/test_dual.py::{name}"


def steps(name: str) -> str:
    return f"filters/test_steps.py::{name}"


def analysis(name: str) -> str:
    return f"filters/test_analysis.py::{name}"


GAIN = dual("test_the_step_is_the_gain_of_explicit_matrices")
TIME = steps("test_additive_noise_is_the_climatologys_of_the_states_time")
LINEAR = steps("test_additive_noise_is_linear_in_its_amplitude")
ENSF = analysis("test_ensf_at_one_point_has_the_posterior_of_a_gaussian")
CONTROLS = "control + increments[:controls]"

FILTERS = (
    Mutation("dual gain doubled", "filters/dual.py", CONTROLS, "control + 2 * increments[:controls]", (GAIN,)),
    Mutation("dual gain weakened", "filters/dual.py", CONTROLS, "control + 0.3 * increments[:controls]", (GAIN,)),
    Mutation("dual gain's sign", "filters/dual.py", CONTROLS, "control - increments[:controls]", (GAIN,)),
    Mutation(
        "dual inflation ignored",
        "filters/dual.py",
        "prior = params.inflation * member_model",
        "prior = member_model",
        (steps("test_inflation_widens_the_background"), GAIN),
    ),
    Mutation(
        "dual members not perturbed",
        "filters/dual.py",
        "[wanted, perturbations(keys[0], members, sensed) - sensed.anomalies]",
        "[wanted, -sensed.anomalies]",
        (GAIN,),
    ),
    Mutation(
        "dual without RTPS",
        "filters/dual.py",
        "        delta = relax_spread(delta, before, params.rtps)\n",
        "",
        (dual("test_rtps_brings_back_the_spread_of_the_perturbations"),),
    ),
    Mutation(
        "dual without RTPP",
        "filters/dual.py",
        "        delta = relax_perturbations(delta, before, params.rtpp)\n",
        "",
        (dual("test_rtpp_brings_back_the_perturbations"),),
    ),
    Mutation(
        "dual noise squared",
        "filters/dual.py",
        "recentre(noise, params.additive)",
        "recentre(noise, params.additive**2)",
        (LINEAR,),
    ),
    Mutation(
        "dual noise of time 0",
        "filters/dual.py",
        "setup.climatology.draw(key, time, members, grid)",
        "setup.climatology.draw(key, 0, members, grid)",
        (TIME,),
    ),
    Mutation(
        "ensemble noise squared",
        "filters/ensemble.py",
        "recentre(noise, params.additive)",
        "recentre(noise, params.additive**2)",
        (LINEAR,),
    ),
    Mutation(
        "ensemble noise of time 0",
        "filters/ensemble.py",
        "setup.climatology.draw(noise_key, state.time, members, grid)",
        "setup.climatology.draw(noise_key, 0, members, grid)",
        (TIME,),
    ),
    Mutation(
        "all noise squared",
        "flow/forecasts.py",
        "return amplitude * (draws - draws.mean(0))",
        "return amplitude**2 * (draws - draws.mean(0))",
        (LINEAR,),
    ),
    Mutation(
        "ensemble without inflation",
        "filters/ensemble.py",
        "inflate(model.to_analysis_grid(state.omega_hat), params.inflation)",
        "model.to_analysis_grid(state.omega_hat)",
        (steps("test_inflation_widens_the_background"),),
    ),
    Mutation(
        "ensemble without RTPS",
        "filters/ensemble.py",
        "        ensemble = relax_spread(ensemble, background, params.rtps)\n",
        "",
        (steps("test_rtps_in_the_step_gives_the_spread_between_background_and_analysis"),),
    ),
    Mutation(
        "ensemble without RTPP",
        "filters/ensemble.py",
        "        ensemble = relax_perturbations(ensemble, background, params.rtpp)\n",
        "",
        (steps("test_rtpp_in_the_step_mixes_the_perturbations"),),
    ),
    Mutation(
        "persistence of time 0",
        "filters/controls.py",
        "setup.climatology.draw(draw_key, state.time, members, grid)",
        "setup.climatology.draw(draw_key, 0, members, grid)",
        (steps("test_controls_draw_from_the_climatology_of_their_time"),),
    ),
    Mutation(
        "EnSF's diffusion without its 2",
        "filters/analysis.py",
        "1 + 2 * 0.95 / alpha * t",
        "1 + 0.95 / alpha * t",
        (ENSF,),
    ),
    Mutation("EnSF's damping reversed", "filters/analysis.py", "(1 - t) * precision", "t * precision", (ENSF,)),
    Mutation(
        "members divided by M",
        "filters/analysis.py",
        "dof = anomalies.shape[0] - 1",
        "dof = anomalies.shape[0]",
        (analysis("test_enkf_is_its_formula"),),
    ),
    Mutation(
        "covariance between sensors not localized",
        "filters/analysis.py",
        "innovation_cov = between_sensors * matmul(",
        "innovation_cov = matmul(",
        (analysis("test_enkf_is_its_formula"),),
    ),
    Mutation(
        "covariance to sensors not localized",
        "filters/analysis.py",
        "cross = to_sensors * matmul(",
        "cross = matmul(",
        (analysis("test_enkf_is_its_formula"),),
    ),
    Mutation(
        "perturbations with R in place of its root",
        "filters/analysis.py",
        "return (noise - noise.mean(0)) * jnp.sqrt(seen.variance)",
        "return (noise - noise.mean(0)) * seen.variance",
        (analysis("test_perturbations_have_the_variance_of_r"),),
    ),
    Mutation(
        "Gaspari-Cohn's 5/8",
        "filters/analysis.py",
        "(-s / 4 + 0.5) * s + 0.625",
        "(-s / 4 + 0.5) * s + 0.6",
        (analysis("test_gaspari_cohn_is_the_papers"),),
    ),
    Mutation(
        "channel not periodic",
        "observing/geometry.py",
        "    dx = jnp.minimum(dx, 2 * np.pi - dx)\n",
        "",
        (analysis("test_distances_are_periodic_in_x"),),
    ),
    Mutation(
        "half-width doubled",
        "filters/analysis.py",
        "gaspari_cohn(distance(a, b) / half_width)",
        "gaspari_cohn(distance(a, b) / (2 * half_width))",
        (analysis("test_the_weight_is_five_24ths_at_the_half_width_and_zero_at_twice_that"),),
    ),
    Mutation(
        "LETKF tapers twice",
        "filters/analysis.py",
        "taper = sqrt(weight)",
        "taper = weight",
        (analysis("test_letkf_is_an_etkf_of_the_sensors_near_each_point"),),
    ),
    Mutation(
        "R assumed is a deviation",
        "filters/analysis.py",
        "params.assumed_std**2, observations",
        "params.assumed_std, observations",
        (analysis("test_r_is_the_sensors_own_unless_configured"),),
    ),
)

FLOW = (
    Mutation(
        "climatology of time 0",
        "flow/climatology.py",
        "self.anomalies[:, jnp.minimum(time, self.anomalies.shape[1] - 1)]",
        "self.anomalies[:, 0]",
        (TIME,),
    ),
    Mutation(
        "climatological mean of time 0",
        "flow/climatology.py",
        "self.mean[jnp.minimum(time, self.mean.shape[0] - 1)]",
        "self.mean[0]",
        (steps("test_controls_draw_from_the_climatology_of_their_time"),),
    ),
    Mutation(
        "climatology not reflected",
        "flow/climatology.py",
        "jnp.where(side, reflect_hat(self.grid, anomaly), anomaly)",
        "anomaly",
        ("flow/test_climatology.py::test_each_draw_is_one_run_shifted_and_half_the_time_reflected",),
    ),
    Mutation(
        "climatology shifted by half the channel at most",
        "flow/climatology.py",
        "distance = 2 * np.pi *",
        "distance = np.pi *",
        ("flow/test_climatology.py::test_draws_have_the_moments_of_the_symmetric_law",),
    ),
    Mutation(
        "beta's sign",
        "flow/solver.py",
        "tendency -= params.beta",
        "tendency += params.beta",
        ("flow/test_solver.py::test_rossby_wave",),
    ),
    Mutation(
        "no drag",
        "flow/solver.py",
        "return -params.drag - params.viscosity * k2**2",
        "return -params.viscosity * k2**2",
        ("flow/test_solver.py::test_hr_frame_matches_the_papers_program",),
    ),
    Mutation(
        "hyperviscosity of sixth order",
        "flow/solver.py",
        "params.viscosity * k2**2",
        "params.viscosity * k2**3",
        ("flow/test_solver.py::test_hr_frame_matches_the_papers_program",),
    ),
    Mutation(
        "forcing's sign",
        "flow/solver.py",
        "tendency.at[0].add(params.forcing)",
        "tendency.at[0].add(-params.forcing)",
        ("flow/test_solver.py::test_hr_frame_matches_the_papers_program",),
    ),
    Mutation(
        "advection's x-derivative halved",
        "flow/solver.py",
        "* uv + l * strain_x",
        "* uv + 0.5 * l * strain_x",
        ("flow/test_solver.py::test_advection_matches_products_on_a_finer_grid",),
    ),
    Mutation(
        "last stage of ETDRK4",
        "flow/solver.py",
        "half * (2 * n_b - n_0)",
        "half * n_b",
        ("flow/test_solver.py::test_observed_order",),
    ),
    Mutation(
        "reflection keeps the sign",
        "flow/grid.py",
        "np.where(bases(grid).l % 2, -1.0, 1.0)",
        "np.where(bases(grid).l % 2, 1.0, -1.0)",
        ("flow/test_grid.py::test_shift_and_reflection_match_the_physical_ones",),
    ),
)

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
        "(ensemble < truth).sum(0",
        "(ensemble > truth).sum(0",
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
)

CYCLING = (
    Mutation(
        "tally with the first cycle",
        "cycling/cycle.py",
        "counted = index > 0",
        "counted = index >= 0",
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
        "sweeps with the first cycle",
        "cycling/sweep.py",
        "s[1:].mean()",
        "s.mean()",
        ("cycling/test_cycle.py::test_a_sweep_is_its_runs_and_compiles_once",),
    ),
)

DIFFUSION = (
    Mutation(
        "DDIM's kick",
        "diffusion/samplers.py",
        "eta * next_sigma * jnp.sqrt((1 - ratio) * (1 + ratio))",
        "eta * sigma * jnp.sqrt((1 - ratio) * (1 + ratio))",
        ("diffusion/test_samplers.py::test_one_step_of_ddim_is_that_of_the_paper",),
    ),
    Mutation(
        "DDIM's way along",
        "diffusion/samplers.py",
        "(1 - eta) * (1 + eta) + (eta * ratio) ** 2",
        "(1 - eta) + (eta * ratio) ** 2",
        ("diffusion/test_samplers.py::test_one_step_of_ddim_is_that_of_the_paper",),
    ),
    Mutation(
        "Heun without its correction",
        "diffusion/samplers.py",
        "jnp.where(predicting, x + 2 * change, memory + change)",
        "jnp.where(predicting, x + 2 * change, memory + 0 * change)",
        ("diffusion/test_samplers.py::test_order_along_the_probability_flow",),
    ),
    Mutation(
        "Heun's rise of sigma",
        "diffusion/samplers.py",
        "jnp.sqrt(knobs.gamma * (2 + knobs.gamma))",
        "knobs.gamma",
        ("diffusion/test_samplers.py::test_samples_have_the_laws_mean_and_covariance",),
    ),
    Mutation(
        "multistep weights doubled",
        "diffusion/samplers.py",
        "h[1:] / (2 * h[:-1])",
        "h[1:] / h[:-1]",
        ("diffusion/test_samplers.py::test_multistep_extrapolates_to_the_middle_of_uneven_steps",),
    ),
    Mutation(
        "multistep weights upside down",
        "diffusion/samplers.py",
        "h[1:] / (2 * h[:-1])",
        "h[:-1] / (2 * h[1:])",
        ("diffusion/test_samplers.py::test_multistep_extrapolates_to_the_middle_of_uneven_steps",),
    ),
    Mutation(
        "EDM's rho",
        "diffusion/schedules.py",
        "sigma_min ** (1 / rho), steps) ** rho",
        "sigma_min ** (1 / rho), steps) ** (rho - 1)",
        ("diffusion/test_schedules.py::test_edm_grid_is_uniform_in_its_root",),
    ),
    Mutation(
        "VP levels",
        "diffusion/schedules.py",
        "np.sqrt(np.expm1(-log_alpha_bar))",
        "np.expm1(-log_alpha_bar)",
        ("diffusion/test_schedules.py::test_the_schedule_is_the_product_of_its_steps",),
    ),
    Mutation(
        "VP steps one late",
        "diffusion/schedules.py",
        "schedule.sigmas()[t - 1]",
        "schedule.sigmas()[t - 2]",
        ("diffusion/test_schedules.py::test_vp_grid_takes_levels_of_the_schedule",),
    ),
    Mutation(
        "EDM's skip",
        "diffusion/denoiser.py",
        "(sigma_data * inverse) ** 2, (sigma * inverse) ** 2",
        "sigma_data * inverse, (sigma * inverse) ** 2",
        ("diffusion/test_denoiser.py::test_edm_preconditioning",),
    ),
    Mutation(
        "EDM's level",
        "diffusion/denoiser.py",
        "jnp.log(sigma) / 4",
        "jnp.log(sigma) / 2",
        ("diffusion/test_denoiser.py::test_edm_preconditioning",),
    ),
    Mutation(
        "velocity's sign",
        "diffusion/denoiser.py",
        "-a * sigma, a, a)",
        "a * sigma, a, a)",
        ("diffusion/test_denoiser.py::test_velocity_prediction",),
    ),
    Mutation(
        "law of training levels",
        "diffusion/denoiser.py",
        "jnp.exp(p_mean + p_std * draws",
        "jnp.exp(p_mean + p_std**2 * draws",
        ("diffusion/test_denoiser.py::test_training_levels",),
    ),
)

POSTERIOR = "diffusion/test_guidance.py::test_the_estimate_is_the_posterior_mean_of_any_gaussian"
WHITE = "diffusion/test_guidance.py::test_the_estimate_is_the_posterior_mean_of_a_white_gaussian"
FORMULAS = "diffusion/test_guidance.py::test_other_estimates_are_their_formulas"
UNTOLD = "diffusion/test_guidance.py::test_what_is_known_of_the_samples_is_the_strength_unless_told"
BLEND = "diffusion/test_guidance.py::test_blend_replaces_what_sensors_of_their_own_points_see"

GUIDANCE = (
    Mutation(
        "gain's sign",
        "diffusion/guidance/gain.py",
        "return estimate + gain(",
        "return estimate - gain(",
        (WHITE,),
    ),
    Mutation(
        "what x leaves of the variance",
        "diffusion/guidance/guide.py",
        "square * sigma**2 / (square + sigma**2)",
        "square * sigma / (square + sigma)",
        (WHITE,),
    ),
    Mutation(
        "innovation's sign",
        "diffusion/guidance/guide.py",
        "readings.values - predicted, 0)",
        "predicted - readings.values, 0)",
        (WHITE,),
    ),
    Mutation(
        "OI takes a deviation for a variance",
        "diffusion/guidance/gain.py",
        "jnp.square(samples.std)",
        "jnp.asarray(samples.std)",
        (UNTOLD,),
    ),
    Mutation(
        "OI's strength",
        "diffusion/guidance/gain.py",
        "covariance(u, sigma**2 / strength)",
        "covariance(u, sigma**2)",
        (UNTOLD,),
    ),
    Mutation(
        "DiffPIR's penalty",
        "diffusion/guidance/gain.py",
        "sigma**2 / strength * u",
        "sigma**2 * strength * u",
        (FORMULAS,),
    ),
    Mutation(
        "blend's strength",
        "diffusion/guidance/blend.py",
        "self.strength / (self.strength + noise)",
        "self.strength / (self.strength + noise**2)",
        (BLEND,),
    ),
    Mutation(
        "SDA's variance",
        "diffusion/guidance/gradient.py",
        "noise + self.strength * sigma**2",
        "noise + self.strength * sigma",
        (FORMULAS,),
    ),
    Mutation(
        "DPS without its strength",
        "diffusion/guidance/gradient.py",
        "self.strength * tweedie(",
        "tweedie(",
        (FORMULAS,),
    ),
    Mutation(
        "Tweedie's variance",
        "diffusion/guidance/gradient.py",
        "lambda u: sigma**2 * back(u)[0]",
        "lambda u: sigma * back(u)[0]",
        (POSTERIOR,),
    ),
    Mutation(
        "MMPS's strength",
        "diffusion/guidance/gradient.py",
        "variance=strength * readings.variance",
        "variance=readings.variance",
        (FORMULAS,),
    ),
    Mutation(
        "PiGDM's variance",
        "diffusion/guidance/gradient.py",
        "push(variance * u)",
        "push(sigma**2 * u)",
        (WHITE,),
    ),
    Mutation(
        "blur's width",
        "diffsrda/covariance.py",
        "jnp.exp(-0.5 * (",
        "jnp.exp(-1.0 * (",
        ("diffusion/test_guidance.py::test_a_blur_keeps_the_value_at_a_sensor",),
    ),
)

CENTRED = "diffsrda/test_model.py::test_centred_samples_are_independent_draws_around_the_conditioners_mean"
CHANNELS = "diffsrda/test_condition.py::test_channels_in_order"
PAPER_CYCLE = "training/test_windows.py::test_the_papers_cycle_has_the_conditions_of_training"

DIFFSRDA = (
    Mutation(
        "scale not reflected",
        "diffsrda/model.py",
        "(scale + mirrored_scale[:, :, ::-1]) / 2",
        "(scale + mirrored_scale) / 2",
        ("diffsrda/test_model.py::test_the_scale_is_averaged_over_the_reflection_as_the_mean_is",),
    ),
    Mutation(
        "mean reflected without its sign",
        "diffsrda/model.py",
        "(mean - mirrored_mean[:, :, ::-1]) / 2",
        "(mean + mirrored_mean[:, :, ::-1]) / 2",
        ("diffsrda/test_model.py::test_the_mean_keeps_the_reflection",),
    ),
    Mutation(
        "walls move",
        "diffsrda/model.py",
        "jnp.ones((ny, 1), scale.dtype).at[jnp.array([0, -1])].set(0)",
        "jnp.ones((ny, 1), scale.dtype)",
        ("diffsrda/test_model.py::test_a_draw_has_its_shape_type_and_still_walls",),
    ),
    Mutation(
        "samples without the conditioner's scale",
        "diffsrda/sampling.py",
        "(features.mean + features.scale * drawn[..., :frames]) * scale",
        "(features.mean + drawn[..., :frames]) * scale",
        ("diffsrda/test_model.py::test_a_certain_network_draws_what_it_is_certain_of",),
    ),
    Mutation(
        "analysis without the scale",
        "diffsrda/sampling.py",
        "mean, free = features.mean * by_frame, corrections",
        "mean, free = features.mean, corrections",
        (CENTRED,),
    ),
    Mutation(
        "no analysis of its own",
        "diffsrda/sampling.py",
        "jnp.moveaxis(mean[0], -1, 0))",
        "jnp.moveaxis(0 * mean[0], -1, 0))",
        (CENTRED,),
    ),
    Mutation(
        "kriging's noise",
        "diffsrda/condition.py",
        "observations.variance / units.kriging_std**2",
        "observations.variance / units.kriging_std",
        ("diffsrda/test_condition.py::test_kriging_solves_its_equations",),
    ),
    Mutation(
        "kriging's length",
        "diffsrda/condition.py",
        "to_grid = jnp.exp(-distance(here, at) / units.kriging_length)",
        "to_grid = jnp.exp(-distance(here, at) / (2 * units.kriging_length))",
        ("diffsrda/test_condition.py::test_kriging_solves_its_equations",),
    ),
    Mutation(
        "departures' sign",
        "diffsrda/condition.py",
        "observations.values - predicted, 0)",
        "predicted - observations.values, 0)",
        ("diffsrda/test_condition.py::test_snapshot_measures_from_the_prediction",),
    ),
    Mutation(
        "channels' signs",
        "diffsrda/condition.py",
        "*(odd * 2 * past + even * past + odd + odd)",
        "*(odd * 2 * past + odd * past + odd + odd)",
        ("diffsrda/test_condition.py::test_reflections_pass_through",),
    ),
    Mutation(
        "background from the wrong side",
        "diffsrda/condition.py",
        "(guess.background - guess.frames[0])[None]",
        "(guess.frames[0] - guess.background)[None]",
        (CHANNELS,),
    ),
    Mutation(
        "spread in units of vorticity",
        "diffsrda/condition.py",
        "guess.spread / units.departure_scale",
        "guess.spread / units.field_scale",
        (CHANNELS,),
    ),
    Mutation(
        "the paper's earlier frame is that of now",
        "diffsrda/condition.py",
        "start, earlier = jnp.where(alone, first, memory.analyses),",
        "start, earlier = jnp.where(alone, first, first),",
        ("diffsrda/test_condition.py::test_the_papers_channels_in_order", PAPER_CYCLE),
    ),
    Mutation(
        "the paper's last frame one too early",
        "diffsrda/condition.py",
        "[start, first, now.guess.frames[-1:], earlier,",
        "[start, first, now.guess.frames[-2:-1], earlier,",
        (
            "diffsrda/test_condition.py::test_the_papers_channels_in_order",
            "training/test_windows.py::test_the_papers_windows_hold_the_forecast_before_and_the_sensors",
        ),
    ),
    Mutation(
        "observations filtered as departures",
        "diffsrda/condition.py",
        "jnp.diag(1e-4 + (1 - seen))",
        "jnp.diag(1e-2 + (1 - seen))",
        ("diffsrda/test_condition.py::test_filling_passes_through_the_sensors",),
    ),
    Mutation(
        "what forecasts restarted from is the guess",
        "diffsrda/step.py",
        "analysis = prior.began(restarted, restart)",
        "analysis = prior.began(guess.frames[:, 0], restart)",
        (PAPER_CYCLE,),
    ),
    Mutation(
        "the paper's windows remember now",
        "training/windows.py",
        "earlier = snapped(guess._replace(frames=fields[:1]), then)",
        "earlier = snapped(guess._replace(frames=fields[:1]), now)",
        (PAPER_CYCLE,),
    ),
    Mutation(
        "guides take another frame for the guess",
        "diffsrda/sampling.py",
        "guess = condition[0, ..., units.first] * units.field_scale",
        "guess = condition[0, ..., 0] * units.field_scale",
        ("diffsrda/test_model.py::test_guides_find_the_guess_in_the_papers_condition",),
    ),
    Mutation(
        "memory oldest first",
        "diffsrda/condition.py",
        "jnp.concatenate([new[None], old[:-1]])",
        "jnp.concatenate([old[1:], new[None]])",
        ("diffsrda/test_condition.py::test_memory_moves_on",),
    ),
    Mutation(
        "memory after the step",
        "diffsrda/step.py",
        "memory = jax.vmap(remember)(state.memory, past, analysis, ahead)",
        "memory = jax.vmap(remember)(state.memory, past, analysis + 1, ahead)",
        ("diffsrda/test_step.py::test_memory_holds_the_last_analyses",),
    ),
    Mutation(
        "one control restarts from the first for the mean",
        "diffsrda/prior.py",
        'one = (fields[0] if mode == "first" else fields.mean(0))[None]',
        "one = fields[0][None]",
        ("diffsrda/test_step.py::test_restarts_are_forecasts_from_the_samples",),
    ),
    Mutation(
        "covariance of residuals in units of the grid",
        "diffsrda/covariance.py",
        "own * variance / (own + variance) * hat",
        "own / (own + variance) * hat",
        ("diffusion/test_guidance.py::test_the_channels_covariance_is_that_of_its_modes",),
    ),
)

LOSS = "training/test_loss.py::test_the_loss_is_that_of_single_samples"

TRAINING = (
    Mutation(
        "noise not scaled by its level",
        "training/loss.py",
        "c.scale * (clean + sigma * noise)",
        "c.scale * (clean + noise)",
        (LOSS,),
    ),
    Mutation(
        "scale's likelihood",
        "training/loss.py",
        "/ features.scale + jnp.log(features.scale)",
        "/ features.scale - jnp.log(features.scale)",
        (LOSS,),
    ),
    Mutation(
        "weight of the conditioner's losses",
        "training/loss.py",
        "diffusion + config.regression * (regression + scale)",
        "diffusion + (regression + scale)",
        (LOSS,),
    ),
    Mutation(
        "residual not in the conditioner's units",
        "training/loss.py",
        "left / jax.lax.stop_gradient(features.scale) if",
        "left if",
        (LOSS,),
    ),
    Mutation(
        "averages' half-life",
        "training/loss.py",
        "0.5 ** (config.batch / half_life)",
        "0.5 ** (1 / half_life)",
        ("training/test_loss.py::test_averages_are_those_of_a_loop",),
    ),
    Mutation(
        "rate does not fall",
        "training/loss.py",
        "0.01 * config.learning_rate",
        "0.1 * config.learning_rate",
        ("training/test_loss.py::test_the_rate_warms_up_and_falls_to_a_hundredth",),
    ),
    Mutation(
        "mirrored corrections keep their sign",
        "training/windows.py",
        "-window.correction[:, ::-1]",
        "window.correction[:, ::-1]",
        ("training/test_windows.py::test_augmented_windows_are_shifts_and_reflections",),
    ),
    Mutation(
        "mixup's weight",
        "training/windows.py",
        "(1 - weight) * forecasts + weight * forecasts[nearest]",
        "weight * forecasts + (1 - weight) * forecasts[nearest]",
        ("training/test_windows.py::test_mixup_joins_the_nearest_runs",),
    ),
    Mutation(
        "correction's sign",
        "training/windows.py",
        "jnp.moveaxis(frames - now.guess.frames, 1, -1)",
        "jnp.moveaxis(now.guess.frames - frames, 1, -1)",
        ("training/test_windows.py::test_guess_and_correction_add_up_to_the_truth",),
    ),
    Mutation(
        "student's target",
        "training/distillation.py",
        "(there - ratio * here) / (1 - ratio)",
        "there - ratio * here",
        ("training/test_distillation.py::test_a_student_that_hits_its_targets_goes_the_teachers_way",),
    ),
)

MUTATIONS = (
    *FILTERS,
    *FLOW,
    *OBSERVING,
    *SCORING,
    *CYCLING,
    *DIFFUSION,
    *GUIDANCE,
    *DIFFSRDA,
    *TRAINING,
)


# Running --------------------------------------------------------------------------------------


REPORTER = '''
"""Writes down which package the tests ran."""


def pytest_sessionfinish():
    import jaxsrda

    print(f"\\nran {jaxsrda.__file__}")
'''


def copy_package(folder: Path) -> Path:
    """A copy of the package in a folder; the released weights, which are large, are links."""
    copy = folder / "jaxsrda"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "released"))
    (copy / "diffsrda" / "released").symlink_to(PACKAGE / "diffsrda" / "released", target_is_directory=True)
    (folder / "reporter.py").write_text(REPORTER, encoding="utf-8")
    return copy


def mutate(copy: Path, mutation: Mutation) -> None:
    """Apply a mutation to a copy."""
    path = copy / mutation.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.name}: {mutation.old!r} stands {text.count(mutation.old)} times in {path}")
    path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")


def run_tests(folder: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """Exit status and output of the tests of this checkout on the package in a folder, up to the first that fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    # What a wrong package computes must not be kept for others.
    environment = kept | {"PYTHONPATH": str(folder), "JAXSRDA_CACHE": str(folder / "cache")}
    environment["COLUMNS"] = "500"  # pytest's summary says why a test failed, as far as the line has room
    options = ["-q", "-x", "-rfE", "-p", "reporter", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    options += ["--rootdir", str(ROOT), "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    command = [sys.executable, "-m", "pytest", *options, *(str(ROOT / "tests" / test) for test in tests)]
    # In the folder, because `python -m` puts the working directory first on the path.
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    output = done.stdout + done.stderr
    if f"ran {folder / 'jaxsrda' / '__init__.py'}" not in output:
        raise RuntimeError(f"the tests did not run the package in {folder}:\n{output}")
    return done.returncode, output


def failed(output: str) -> list[str]:
    """The tests that failed because a number was wrong, not because the mutation is no program that runs."""
    lines = re.findall(r"^FAILED (.+)$", output, re.MULTILINE)
    return [line for line in lines if not re.search(r" - (Type|Name|Attribute|Import|Syntax|Key)Error", line)]


def main(*names: str) -> None:
    """Apply the mutations named, by default all, and say which tests noticed them."""
    for mutation in MUTATIONS:
        if names and not any(name in mutation.name for name in names):
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            mutate(copy_package(Path(folder)), mutation)
            status, output = run_tests(Path(folder), mutation.tests)
        noticed = failed(output)
        verdict = (
            f"killed by {noticed[0].split(' - ')[0]}"
            if status == 1 and noticed
            else "SURVIVED"
            if status == 0
            else output
        )
        print(f"{mutation.name}: {verdict} ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
