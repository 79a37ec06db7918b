"""The background check: observations too far from the background are left out of the analysis, for any method."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxsrda.cycling.assimilator import Assimilator, Window
from jaxsrda.observing.observations import Observations
from jaxsrda.scoring.point import member_variance


def far_off(observations: Observations, predicted: Array, threshold: Array | float) -> Array:
    """Which observations (p,) depart from the mean of the predicted ensemble (M, p) by more than `threshold` standard
    deviations: |y − HX̄| > threshold · √(diag HPHᵀ + R).  Masked ones do not."""
    departure = observations.values - predicted.mean(0)
    expected = observations.variance + member_variance(predicted)
    return observations.mask & (departure**2 > jnp.asarray(threshold, departure.dtype) ** 2 * expected)


def background_checked(assimilator: Assimilator, threshold: Array | float) -> Assimilator:
    """The assimilator, from which observations are hidden that its background finds too far off (`far_off`).

    threshold: in standard deviations, may be traced; 5 hides what a Gaussian gives once in two million.  The windows'
    diagnostics say which were `rejected`.  An ensemble whose spread is too small rejects good observations.  A method
    of your own gives its background in observation space as `before` of `Setup.window`.
    Raises ValueError, when the step is traced, for a background of one member, which has no spread.
    """

    def step(key: Array, state: Any, observations: Observations) -> tuple[Any, Window]:
        # The background does not depend on the observations of its time.  Of this first call the compiler keeps
        # nothing but the background in observation space, which both calls share.
        background = assimilator.step(key, state, observations)[1].diagnostics.background_observed
        if len(background) < 2:
            raise ValueError(
                "reject: one forecast has no spread that departures could be compared with; leave it out, or choose a "
                "method whose background is an ensemble"
            )
        rejected = far_off(observations, background, threshold)
        state, window = assimilator.step(key, state, observations._replace(mask=observations.mask & ~rejected))
        return state, window._replace(diagnostics=window.diagnostics._replace(rejected=rejected))

    return assimilator._replace(step=step)
