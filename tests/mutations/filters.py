"""Filters: gains, inflation, relaxation, noise, localization."""

from __future__ import annotations

from mutations.mutation import Mutation


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
        "prior = state.inflation * member_model",
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
        "ensemble without inflation",
        "filters/ensemble.py",
        "inflate(model.to_analysis_grid(state.omega_hat), state.inflation)",
        "model.to_analysis_grid(state.omega_hat)",
        (steps("test_inflation_widens_the_background"),),
    ),
    Mutation(
        "ensemble's inflation forgotten",
        "filters/ensemble.py",
        "state.time + 1, inflation)",
        "state.time + 1, state.inflation)",
        (steps("test_an_adaptive_inflation_follows_the_departures"),),
    ),
    Mutation(
        "dual's inflation forgotten",
        "filters/dual.py",
        "forecast(control, delta, state.time, inflation)",
        "forecast(control, delta, state.time, state.inflation)",
        (steps("test_an_adaptive_inflation_follows_the_departures"),),
    ),
    Mutation(
        "optimal interpolation's inflation forgotten",
        "filters/controls.py",
        "state.time + 1, inflation), window",
        "state.time + 1, state.inflation), window",
        ("filters/test_models.py::test_optimal_interpolation_forecasts_its_mean_alone",),
    ),
    Mutation(
        "adaptive inflation of an ensemble as if it were not inflated",
        "filters/inflation.py",
        "factor**2 * excess",
        "excess",
        ("filters/test_inflation.py::test_the_factor_is_that_of_departures_covariances_and_noise",),
    ),
    Mutation(
        "adaptive inflation without the noise's part",
        "filters/inflation.py",
        "/ seen.variance) - count",
        "/ seen.variance)",
        ("filters/test_inflation.py::test_the_factor_is_that_of_departures_covariances_and_noise",),
    ),
    Mutation(
        "adaptive inflation of factors, not of variances",
        "filters/inflation.py",
        "params.adaptive) * factor**2",
        "params.adaptive) * factor",
        ("filters/test_inflation.py::test_the_factor_is_that_of_departures_covariances_and_noise",),
    ),
    Mutation(
        "adaptive inflation divided by M",
        "filters/inflation.py",
        "/ seen.variance) / (len(predicted) - 1)",
        "/ seen.variance) / len(predicted)",
        ("filters/test_inflation.py::test_the_factor_is_that_of_departures_covariances_and_noise",),
    ),
    Mutation(
        "ensemble without RTPS",
        "filters/ensemble.py",
        "        ensemble = relax_spread(ensemble, wide, params.rtps)\n",
        "",
        (steps("test_rtps_in_the_step_gives_the_spread_between_background_and_analysis"),),
    ),
    Mutation(
        "ensemble without RTPP",
        "filters/ensemble.py",
        "        ensemble = relax_perturbations(ensemble, wide, params.rtpp)\n",
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
        "cholesky(between * matmul(",
        "cholesky(matmul(",
        (analysis("test_enkf_is_its_formula"),),
    ),
    Mutation(
        "covariance to sensors not localized",
        "filters/analysis.py",
        "localization(here, sensors, half_width) * matmul(anomalies",
        "matmul(anomalies",
        (analysis("test_enkf_is_its_formula"),),
    ),
    Mutation(
        "perturbations with R in place of its root",
        "filters/analysis.py",
        "return (noise - noise.mean(0, keepdims=True)) * jnp.sqrt(seen.variance)[None]",
        "return (noise - noise.mean(0, keepdims=True)) * seen.variance[None]",
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
        "half-width doubled",
        "filters/analysis.py",
        "gaspari_cohn(distance(a, b) / half_width)",
        "gaspari_cohn(distance(a, b) / (2 * half_width))",
        (analysis("test_the_weight_is_five_24ths_at_the_half_width_and_zero_at_twice_that"),),
    ),
    Mutation(
        "LETKF tapers twice",
        "filters/analysis.py",
        "taper = sqrt(jnp.where(",
        "taper = (jnp.where(",
        (analysis("test_letkf_is_an_etkf_of_the_sensors_near_each_point"),),
    ),
    Mutation(
        "R assumed is a deviation",
        "filters/analysis.py",
        "params.assumed_std**2, observations",
        "params.assumed_std, observations",
        (analysis("test_r_is_the_sensors_own_unless_configured"),),
    ),
    Mutation(
        "masked sensors have an innovation",
        "filters/analysis.py",
        "jnp.where(mask, observations.values - mean, 0)",
        "observations.values - mean",
        ("filters/test_analysis_properties.py::test_masked_sensors_may_hold_anything",),
    ),
    Mutation(
        "local weights belong to other sensors",
        "filters/analysis.py",
        "scaled[:, nearest] * taper[None]",
        "scaled[:, : len(nearest)] * taper[None]",
        ("filters/test_analysis_properties.py::test_the_order_of_sensors_is_of_no_consequence",),
    ),
)
