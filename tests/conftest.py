"""Both precisions in one process: x64 is on, types never promote silently, and tests name their dtype."""

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def smallest(monkeypatch):
    """The network preset tiny, smaller still."""
    from jaxsrda.diffsrda.model import network
    from jaxsrda.networks.unet import PRESETS

    monkeypatch.setitem(PRESETS, "tiny", {"widths": (32,), "blocks": 1, "denoiser_widths": (16,)})
    network.cache_clear()
    yield
    network.cache_clear()
