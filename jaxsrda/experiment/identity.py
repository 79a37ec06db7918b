"""What tells one experiment from others: whose carry goes on, and whose finished truths are taken up again."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxsrda.core.cache import content_hash, numerics
from jaxsrda.core.provenance import source_hash, versions
from jaxsrda.core.records import described, key_of
from jaxsrda.core.trees import digest, numbered
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.experiment.experiment import Experiment
from jaxsrda.experiment.registry import configured_model
from jaxsrda.experiment.scan import Inputs


def belongs(experiment: Experiment) -> dict[str, Any]:
    """What a carry belongs to, as text by name: a carry of anything else would go on with wrong numbers."""
    testbed, method, model = experiment.testbed, experiment.method, experiment.model
    if isinstance(experiment.config, DiffSRDAConfig):
        from jaxsrda.diffsrda.weights import model_hash

        model = configured_model(experiment.config) if model is None else model
    flow = content_hash(key_of(testbed.numerics(*testbed.levels), testbed.frames_per_cycle))
    sensors = [f"{each.role} {each.operator_name}" for each in experiment.sensors]
    return {
        "method": method if isinstance(method, str) else f"{experiment.name} {content_hash(key_of(method))}",
        **{f"option {name}": str(value) for name, value in (described(experiment.config) or {}).items()},
        "testbed": f"{testbed.name} {flow}",
        "weights": "none" if model is None else model_hash(model),
        "kinds of sensors": ", ".join(sensors),
        "seed": str(experiment.seed),
        "withhold": str(experiment.withhold),
        "reject": str(experiment.reject),
        "version of jaxsrda": versions()["jaxsrda"],
        **{name: str(value) for name, value in numerics().items()},
    }


def known(given: Experiment) -> dict[str, str]:
    """What tells an experiment from others before its truths are there, as text by name."""
    own = {"own climatology": given.climatology, "carry": given.carry}
    return belongs(given) | {
        "set of sensors": content_hash(key_of(given.sensors)),
        "joint": str(given.joint),
        "keep": given.keep,
        "source": source_hash(),
        "version of jax": versions()["jax"],
        **{name: "none" if tree is None else _digest(tree) for name, tree in own.items()},
    }


def identity(given: Experiment, inputs: Inputs, at_once: int) -> dict[str, str]:
    """All that tells a run from others: where all of it agrees, numbers do to the last bit."""
    return known(given) | {
        "number of truths": str(len(inputs.keys)),
        "number of truths at once": str(at_once),
        "truth": "none" if inputs.truth is None else _digest(inputs.truth),
        "observations": _digest((inputs.observed, jax.random.key_data(inputs.keys))),
        "first time": str(inputs.setup.first),
        "members at the start": "none" if inputs.setup.fields is None else _digest(inputs.setup.fields),
    }


def _digest(tree: Any) -> str:
    return digest({name: np.asarray(leaf) for name, leaf in numbered(tree).items()})[:12]
