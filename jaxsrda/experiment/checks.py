"""Checks of an experiment before any work."""

from __future__ import annotations

import numpy as np

from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.filters.config import FilterConfig
from jaxsrda.flow.testbed import FRAMES_PER_CYCLE
from jaxsrda.observing.layouts import Layout
from jaxsrda.observing.observations import Observations


def check_guidance(
    method: str,
    config: FilterConfig | DiffSRDAConfig,
    guides: Layout | None,
    own: Observations | None,
    assimilated: bool = False,
    **options: object,
) -> None:
    """ValueError for sensors that would guide nothing, and for a guidance, or options of guides, without sensors.

    assimilated: the second set of sensors is assimilated like the first.  options: None where not given.
    """
    guidance = config.guidance if isinstance(config, DiffSRDAConfig) else "none"
    if assimilated:
        if guidance != "none":
            raise ValueError(
                f"guides_assimilated: sensors are assimilated or they guide, got guidance {guidance}; set it to none"
            )
        if guides is None and (own is None or own.guides is None):
            raise ValueError("guides_assimilated: there are no further sensors; give a guide_layout")
    elif guides is not None and guidance == "none":
        raise ValueError(f"guide_layout: {method} is not guided; choose a guidance, or put these sensors into layout")
    elif guidance == "none" and own is not None and own.guides is not None:
        raise ValueError(
            f"observations.guides: {method} is not guided; choose a guidance, or guides_assimilated to assimilate them"
        )
    if guides is not None and own is not None:
        raise ValueError(
            "guide_layout: with your own observations, mark those that guide in them (Observations.guides)"
        )
    new = guides is not None or (own is not None and own.guides is not None)
    for name, given in options.items():
        if given is not None and not new:
            raise ValueError(f"{name}: there are no further sensors that it could be of; give a guide_layout")
    if guidance != "none" and not new and isinstance(config, DiffSRDAConfig) and config.guide_on == "new":
        raise ValueError(
            f"guidance: {guidance} has no new sensors to follow; give a guide_layout, or guide_on all to use those of "
            "layout again"
        )


def check_cycles(observations: Observations, truth: np.ndarray) -> None:
    cycles = truth.shape[1] // FRAMES_PER_CYCLE
    if observations.values.shape[0] != cycles or len(truth) != 1:
        raise ValueError(
            f"observations: expected {cycles} assimilation times, one each {FRAMES_PER_CYCLE} frames of one truth; got "
            f"{observations.values.shape[0]} for {len(truth)} truth(s)"
        )
