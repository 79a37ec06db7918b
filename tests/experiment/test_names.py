"""Names at the top of the package: all there, loaded when they are needed, and old ones answered with the new."""

import os
import subprocess
import sys

import pytest

import jaxsrda


def test_every_public_name_is_there():
    assert [name for name in jaxsrda.__all__ if getattr(jaxsrda, name, None) is None] == []
    assert len(set(jaxsrda.__all__)) == len(jaxsrda.__all__)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Analysis", "Result"),
        ("CONFIGS", "METHODS[name].config"),
        ("JetConfig", "Physics"),
        ("LEVELS", "jet().levels"),
        ("flow_params", "Testbed.flow_params"),
        ("initial_state", "Testbed.start"),
    ],
)
def test_old_names_say_the_new(old, new):
    with pytest.raises(AttributeError) as refused:
        getattr(jaxsrda, old)
    assert f"jaxsrda.{old} is now jaxsrda.{new}" in str(refused.value) and "use that name" in str(refused.value)
    assert not hasattr(jaxsrda, old) and old not in jaxsrda.__all__


def test_unknown_names_are_no_attributes():
    with pytest.raises(AttributeError, match="module 'jaxsrda' has no attribute 'nothing'"):
        _ = jaxsrda.nothing


def test_networks_are_loaded_on_first_use():
    code = (
        "import sys, jaxsrda; heavy = {'flax', 'optax', 'orbax'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        "jaxsrda.Model; assert 'flax' in sys.modules; jaxsrda.train; assert 'orbax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})
