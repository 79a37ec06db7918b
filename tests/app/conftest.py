"""Small arrays: the time goes into compiling, so these tests compile fast rather than well."""

import jax
import pytest


@pytest.fixture(scope="package", autouse=True)
def compile_fast():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
