"""A protocol on the small testbed whose truths are frames of `helpers`, so that tests take seconds."""

import jax
import numpy as np
import pytest
from helpers import TESTBED, setup, truth

from jaxsrda.benchmark import analyses, run
from jaxsrda.benchmark.protocol import PROTOCOLS, Protocol, Task

SMALLEST = Protocol(
    "smallest",
    TESTBED,
    (Task("lattice-4", "lattice:4"), Task("speed", "lattice:8", "speed")),
    (0, 1),
)


@pytest.fixture(scope="package", autouse=True)
def compile_fast():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def protocol(monkeypatch, tmp_path):
    """The protocol, and the cache of a test."""
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(PROTOCOLS, "smallest", SMALLEST)
    for module in (run, analyses):
        monkeypatch.setattr(module, "simulate_truth", truths)
        monkeypatch.setattr(module, "default_climatology", lambda testbed: setup().climatology)
    return SMALLEST


def truths(testbed, seeds, progress=None):
    """Truths (truths, frames, nx, ny) of these seeds."""
    assert testbed == TESTBED
    return np.stack([np.asarray(truth(3, seed=seed)) for seed in seeds])
