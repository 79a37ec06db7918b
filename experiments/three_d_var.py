"""3D-Var on one HR forecast: a method written from docs/your-method.md alone, as a row of the leaderboard.

    jaxsrda benchmark experiments.three_d_var:three_d_var --out experiments/leaderboard

J(v) = ½|v|² + ½ (y − H(ω_b + U v))ᵀ R⁻¹ (y − H(ω_b + U v)), with U U ᵀ = B diagonal in the modes of the channel: the
variance of climatological anomalies by mode, times `scale`².  Minimised by Gauss–Newton, conjugate gradients inside, so
that any differentiable operator will do.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

import jaxsrda

OUTER, INNER = 2, 30
"""Linearisations, and iterations of conjugate gradients after each."""


def three_d_var(setup: jaxsrda.Setup, scale: float | jax.Array = 0.1) -> jaxsrda.Assimilator:
    """3D-Var, without an ensemble.  scale: errors of the forecast over climatological anomalies, chosen from
    0.02 … 0.15 on truths 1000 and 1001 (may be traced)."""
    model = setup.analysis_model()
    deviation = scale * jnp.sqrt((setup.climatology.anomalies**2).mean((0, 1)))  # of each mode, (2K+1, L)

    def init(key):
        return model.initial(key, 1, setup.dtype)

    def step(key, state, observations):
        observations = setup.assimilated(observations)
        background = model.to_analysis_grid(state)[0]
        precision = jnp.where(observations.mask, 1 / observations.variance, 0)

        def field(control):
            return background + jaxsrda.to_physical(setup.grid, deviation * control)

        def seen(control):
            return setup.observed(field(control)[None], observations)[0]

        def outer(control, _):
            predicted, forward = jax.linearize(seen, control)
            back = jax.linear_transpose(forward, control)
            departure = observations.values - predicted + forward(control)

            def curvature(v):
                return v + back(precision * forward(v))[0]

            return jax.scipy.sparse.linalg.cg(curvature, back(precision * departure)[0], control, maxiter=INNER)[
                0
            ], None

        control, _ = jax.lax.scan(outer, jnp.zeros_like(deviation), length=OUTER)
        analysis = field(control)[None]
        ahead = model.forecast(model.from_analysis_grid(analysis))
        frames = jnp.concatenate([analysis[:, None], model.to_analysis_grid(ahead.frames[:, 1:])], axis=1)
        before = setup.observed(background[None], observations)
        return ahead.ahead, setup.window(observations, frames, background, before, ahead.speeds)

    return jaxsrda.Assimilator(init, step, members=1)
