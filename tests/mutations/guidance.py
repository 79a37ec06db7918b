"""Guides."""

from __future__ import annotations

from mutations.mutation import Mutation

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
)
