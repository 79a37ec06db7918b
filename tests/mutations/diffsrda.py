"""DiffSRDA: samples, conditions, memory, priors, covariances."""

from __future__ import annotations

from mutations.mutation import Mutation

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
    Mutation(
        "blur's width",
        "diffsrda/covariance.py",
        "jnp.exp(-0.5 * (",
        "jnp.exp(-1.0 * (",
        ("diffusion/test_guidance.py::test_a_blur_keeps_the_value_at_a_sensor",),
    ),
)
