"""Training: losses, windows, distillation."""

from __future__ import annotations

from mutations.mutation import Mutation

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
