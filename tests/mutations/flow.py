"""The flow: climatology, solver, symmetries of the grid."""

from __future__ import annotations

from mutations.filters import LINEAR, TIME, steps
from mutations.mutation import Mutation

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
    Mutation(
        "all noise squared",
        "flow/forecasts.py",
        "return amplitude * (draws - draws.mean(0))",
        "return amplitude**2 * (draws - draws.mean(0))",
        (LINEAR,),
    ),
)
