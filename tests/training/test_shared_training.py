"""Training on several devices: windows lie where they should, gradients are those of one, and checkpoints move."""

import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxsrda.diffsrda.model import ModelConfig
from jaxsrda.flow.testbed import jet
from jaxsrda.training.stream import StreamConfig

TESTS = Path(__file__).resolve().parents[1]


def started(devices, *arguments):
    flags = f"{os.environ.get('QUICK_XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    env = dict(os.environ, XLA_FLAGS=flags, JAX_PLATFORMS="cpu", PYTHONPATH=path)
    command = [sys.executable, str(Path(__file__).with_name("data_parallel.py")), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def told(process):
    out, errors = process.communicate(timeout=1500)
    assert process.returncode == 0, errors
    return json.loads(out.splitlines()[-1])


def found(what, folder):
    return told(started(8, what, folder))


def test_a_buffer_on_eight_devices_holds_what_one_does(tmp_path):
    """Each has its share, and a batch is picked without bringing all windows together."""
    row = found("buffer", tmp_path)
    assert row == {"rows": [[True, True]] * 4, "shards": [2] * 8, "gathers_all": False}


@pytest.mark.slow
def test_steps_and_checkpoints_do_not_depend_on_devices(tmp_path):
    """The same batch gives the same loss and gradient on 1, 2 and 8 devices, and a killed training moves."""
    row = found("steps", tmp_path)
    one = row["steps"]["1"][0]
    for devices in ("2", "8"):
        metrics, moments = row["steps"][devices]
        assert moments < 1e-4, (devices, moments)
        for name, value in one.items():
            assert math.isclose(metrics[name], value, rel_tol=1e-4), (devices, name)
    whole = np.array(row["curves"].pop("1"))
    assert whole[:, 0].tolist() == [8, 16, 24] and len(set(whole[:, 1])) == 3
    assert set(row["curves"]) == {"8, 1", "1, 8"}
    for curve in row["curves"].values():
        np.testing.assert_allclose(curve, whole, rtol=1e-3)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """They meet on loopback, one of them writes checkpoints, and both go on from them with the same numbers."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    pair = [started(1, "process", tmp_path / "shared", port, number) for number in (1, 0)]
    one, two = (told(process) for process in pair)
    assert one == two and one["devices"] == 2
    assert one["refused"].startswith(
        "devices: 1 of 2 would have work (data 3 into 1) and some processes none; take all"
    )
    whole = found("steps", tmp_path)["curves"]["1"]
    np.testing.assert_allclose(one["curve"], whole, rtol=1e-3)


def test_a_buffer_is_shared_out_evenly_unless_asked_otherwise():
    """So many windows that 2 to 64 devices divide them."""
    kind = ModelConfig.of(jet())
    assert StreamConfig().settled(kind).capacity % 64 == 0
    assert StreamConfig(capacity=100).settled(kind).capacity == 100
