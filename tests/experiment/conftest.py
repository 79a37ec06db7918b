"""Small arrays: the time goes into compiling, so these tests compile fast rather than well."""

import jax
import pytest

from jaxsrda.cycling.assimilator import Assimilator
from jaxsrda.experiment import scan
from jaxsrda.experiment.registry import METHODS, Method


@pytest.fixture(scope="package", autouse=True)
def compile_fast():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def traces(monkeypatch):
    """A method called traced, and the times that its step was traced."""
    counted, plain = [], METHODS["persistence"]

    def make(setup, config, params, model):
        made = plain.make(setup, config, params, model)

        def step(*inputs):
            counted.append(1)
            return made.step(*inputs)

        return Assimilator(made.init, step, made.members)

    monkeypatch.setitem(METHODS, "traced", Method(make, plain.config))
    scan.program.cache_clear()
    yield counted
    scan.program.cache_clear()
