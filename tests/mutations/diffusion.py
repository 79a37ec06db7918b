"""Diffusion: samplers, schedules, denoisers."""

from __future__ import annotations

from mutations.mutation import Mutation

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
