"""Truths sharded over two devices: the numbers of one device, for every method, and nothing waits for ever."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxsrda.experiment.registry import METHODS
from jaxsrda.filters.config import FilterConfig

FILTER_METHODS = [name for name, method in METHODS.items() if isinstance(method.config, FilterConfig)]
QUICK = ("enkf-sr", "letkf-sr")

SCRIPT = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from helpers import TESTBED, SENSORS, observed, setup, truth
from jaxsrda.cycling.cycle import run_cycles
from jaxsrda.experiment.registry import make_assimilator
from jaxsrda.filters.config import FilterConfig

assert len(jax.devices()) == 2
mesh = Mesh(np.array(jax.devices()), "truths")
spread = NamedSharding(mesh, PartitionSpec("truths"))
stack = lambda *trees: jax.tree.map(lambda *a: jnp.stack(a), *trees)
inputs = (jax.random.split(jax.random.key(0), 2), stack(*(observed(2, seed=i) for i in range(2))),
          jnp.stack([truth(2, seed=i) for i in range(2)]))
off = {}
for method in sys.argv[1:]:
    made = make_assimilator(method, setup(), FilterConfig(members=5, localization=1.0, additive=0.1))
    scan = lambda key, seen, frames: run_cycles(made, key, seen, frames, keep="fields", testbed=TESTBED)
    run = jax.jit(jax.vmap(scan))
    one = run(*inputs)[1]
    two = run(*jax.tree.map(lambda a: jax.device_put(a, spread), inputs))[1]
    assert len(two.fields.mean.sharding.device_set) == 2, method
    off[method] = float(max(jnp.abs(jax.device_get(a) - jax.device_get(b)).max()
                            for a, b in ((one.fields.mean, two.fields.mean), (one.scores["crps"], two.scores["crps"]))))
print(json.dumps(off))
"""


def run_on_two(methods):
    flags = f"{os.environ.get('QUICK_XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    env = dict(os.environ, XLA_FLAGS=flags, JAX_PLATFORMS="cpu")
    env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), env.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *methods], capture_output=True, text=True, timeout=400, env=env
    )
    assert done.returncode == 0, done.stderr
    off = json.loads(done.stdout.splitlines()[-1])
    assert set(off) == set(methods)
    for method, value in off.items():
        assert value < 1e-6, (method, value)  # noise is drawn in float32, and rounded by how a loop is vectorized


def test_two_devices_are_one():
    run_on_two(QUICK)


@pytest.mark.slow
def test_two_devices_are_one_for_every_method():
    run_on_two([name for name in FILTER_METHODS if name not in QUICK])
