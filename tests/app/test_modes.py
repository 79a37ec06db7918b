"""The main job under JAX's other settings: NaN checked, strict types and ranks, another generator, double precision."""

import os
import re
import subprocess
import sys

import pytest

JOB = ["assimilate", "--testbed", "jet-small", "--method", "enkf-sr", "--members", "4", "--cycles", "2"]

SETTINGS = {
    "JAX_DEBUG_NANS": "1",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_ENABLE_X64": "1",
}


def scores(cache, **settings):
    """MAER and CRPS of the job in a process of its own."""
    environment = os.environ | {"JAXSRDA_CACHE": str(cache)} | settings
    done = subprocess.run([sys.executable, "-m", "jaxsrda", *JOB], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [float(re.search(rf"{name} .*?([0-9.]+)", done.stdout)[1]) for name in ("MAER", "CRPS")]


@pytest.mark.slow
def test_the_main_job_runs_under_each_setting(tmp_path):
    plain = scores(tmp_path)
    for name, value in SETTINGS.items():
        found = scores(tmp_path, **{name: value})
        if name == "JAX_DEFAULT_PRNG_IMPL":  # other draws
            assert found != plain and 0.5 * plain[0] < found[0] < 2 * plain[0]
        else:
            assert found == pytest.approx(plain, abs=2e-3), name
