"""Eight virtual devices, or two processes, give the numbers of one device; and what cannot be shared out is said."""

import itertools
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import jaxsrda
from jaxsrda.app.cli import main
from jaxsrda.core.devices import division, divisions, mesh_of, placed
from jaxsrda.experiment.registry import METHODS
from jaxsrda.filters.config import FILTERS
from jaxsrda.flow.grid import to_physical
from jaxsrda.flow.testbed import jet_small

TESTS = Path(__file__).resolve().parents[1]


def environment(devices=1):
    flags = f"{os.environ.get('QUICK_XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    return dict(os.environ, XLA_FLAGS=flags, JAX_PLATFORMS="cpu", PYTHONPATH=path)


def sharded(truths, devices, *methods):
    """What `sharded.py` found on 8 devices, by method."""
    command = [sys.executable, str(Path(__file__).with_name("sharded.py")), str(truths), devices, *methods]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, env=environment(8))
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [row["method"] for row in rows] == list(methods)
    return rows


def test_eight_devices_are_one():
    """Two truths by four members; noise drawn in float32 and sums in another order leave rounding alone."""
    (row,) = sharded(2, "2x4", "toy")
    assert row["off"] < 1e-6 and row["gone_on"] < 1e-6 and row["said"] == []
    assert row["work"] < 0.4  # truths alone would leave half


@pytest.mark.slow
def test_what_does_not_divide_is_shared_by_fewer():
    (row,) = sharded(3, "8", "toy")
    assert row["off"] < 1e-6
    assert row["said"] == ["devices: 6 of 8 have work, counts divide no further (case 3 into 3, member 4 into 2)"]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_eight_devices_are_one_for_every_method(method):
    (row,) = sharded(2, "8", method)
    assert row["off"] < (1e-6 if method in FILTERS else 1e-4), row  # networks compute in float32
    alone = "devices: 2 of 8 have work, counts divide no further (case 2 into 2, member 1 into 1)"
    assert row["said"] == ([alone] if method == "cnn" else [])
    assert row["work"] < (0.6 if method == "cnn" else 0.5), row  # truths alone would leave half


# Shares ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "devices, counts, parts",
    [
        (8, (4, 40), (4, 2)),
        (8, (1, 40), (1, 8)),
        (8, (3, 40), (1, 8)),
        (8, (3, 5), (1, 5)),
        (8, (3, 2), (3, 2)),
        (6, (4, 3), (2, 3)),
        (8, (64, 4), (8, 1)),
        (1, (4, 40), (1, 1)),
        (7, (1,), (1,)),
    ],
)
def test_parts_divide_the_counts_and_keep_most_devices_busy(devices, counts, parts):
    assert divisions(devices, counts) == parts


def test_leading_axes_are_divided_and_those_of_fields():
    class Eight:
        shape = {"case": 2, "member": 4}  # noqa: RUF012

    def spec(*shape):
        return tuple(division(Eight, shape, "case", fields="member"))

    assert spec(2, 8, 32, 17) == ("case", "member")
    assert spec(2, 6, 32, 17) == ("case", None)  # six members do not go into four parts
    assert spec(2, 8) == ("case",) and spec(3) == (None,)


def test_one_device_is_no_mesh():
    assert mesh_of(None, case=2) is None and mesh_of(1, case=2) is None and mesh_of("all", case=2) is None
    tree = {"a": np.ones(2), "b": 1.0}
    assert placed(tree, None, "case") is tree
    own = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("case", "member"))
    assert mesh_of(own, case=3, member=4) is None


ANOTHER = """
import jax, numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxsrda.core.devices import mesh_of, placed, shared
second = jax.devices()[1]
mesh = mesh_of(Mesh(np.array([second]).reshape(1, 1), ("case", "member")), case=3, member=4)
case = PartitionSpec("case")
made = jax.jit(shared(lambda a: 2 * a, mesh, case, case))(placed(np.arange(3.0), mesh, "case"))
assert made.devices() == {second} and made.tolist() == [0, 2, 4]
"""


def test_a_mesh_of_one_device_is_that_device():
    """Not the first one, to which work goes by itself."""
    done = subprocess.run([sys.executable, "-c", ANOTHER], capture_output=True, text=True, env=environment(2))
    assert done.returncode == 0, done.stderr


# Faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "devices, message",
    [
        (3, r"devices: expected at most the 1 that JAX finds \(cpu\), got 3; on a CPU, XLA_FLAGS=--xla_force_host"),
        (0, "devices: expected all, a number of 1 or more, or a mesh, got 0"),
        ("some", "devices: expected all, a number of 1 or more, or a mesh, got 'some'"),
        (True, "devices: expected all, a number of 1 or more, or a mesh, got True"),
    ],
)
def test_devices_that_there_are_not(devices, message):
    with pytest.raises(ValueError, match=message):
        jaxsrda.assimilate("persistence", devices=devices)


def test_meshes_that_do_not_fit():
    def mesh(**shape):
        return Mesh(np.array(jax.devices() * 2)[: np.prod(list(shape.values()))].reshape(*shape.values()), tuple(shape))

    with pytest.raises(ValueError, match="expected a mesh with axes among case, member, got 'batch'; rename it"):
        mesh_of(mesh(batch=1), case=2, member=4)
    with pytest.raises(ValueError, match="expected a case count that the mesh's 2 divides, got 3; give a number"):
        mesh_of(mesh(case=2), case=3, member=4)


@pytest.mark.parametrize(
    "options, message",
    [
        ("--devices 3", "devices: expected at most the 1 that JAX finds (cpu), got 3"),
        ("--devices some", "--devices"),
        ("--processes 2", "--processes 2: expected --process and --coordinator with it, or auto"),
        ("--process 1", "--process: has no effect with --processes 1; give their number"),
        ("--processes auto --process 1", "--process: has no effect with --processes auto; give their number"),
        ("--processes 2 --process 2 --coordinator here:1", "--process: expected 0 to 1, got 2"),
        ("--processes 0 --process 0 --coordinator here:1", "--process: expected 0 to -1, got 0"),
        ("--processes 2 --process 1 --coordinator here", "--coordinator: expected host:port, got here"),
        ("--processes 2 --process 1 --coordinator :80", "--coordinator: expected host:port, got :80"),
        ("--processes 2 --process 1 --coordinator a:80 --patience 0", "--patience: expected 1 second or more, got 0"),
    ],
)
@pytest.mark.parametrize(
    "command", ["assimilate --method persistence", "sweep --grid additive 0.1", "train --out w.npz"]
)
def test_options_of_devices_are_checked(command, options, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main.main([*command.split(), *options.split()]) == 2
    line = capsys.readouterr().err
    assert message in line and line.startswith("jaxsrda: ") and line.count("\n") == 1
    assert not list(tmp_path.iterdir())


# Processes ------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def started(arguments, number, port, processes=2):
    options = f"--processes {processes} --process {number} --coordinator localhost:{port}"
    command = [sys.executable, "-m", "jaxsrda", *arguments, *options.split()]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment() | {"JAX_ENABLE_X64": "1"}
    )


def said(process):
    out, errors = process.communicate(timeout=1200)
    lines = [line for line in (out + errors).splitlines() if not line.startswith("[Gloo]")]
    return process.returncode, "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_is_left_alone_says_so_and_ends(number):
    began = time.monotonic()
    code, line = said(started(["assimilate", "--method", "persistence", "--patience", "3"], number, free_port()))
    assert code == 2 and line.count("\n") == 0, line
    assert line.startswith("jaxsrda: --processes: not all met at localhost:") and "within 3 s; start all" in line
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_processes_without_a_cluster_are_refused():
    process = subprocess.run(
        [sys.executable, "-m", "jaxsrda", "assimilate", "--processes", "auto"],
        capture_output=True,
        text=True,
        timeout=120,
        env={name: value for name, value in environment().items() if not name.startswith(("SLURM", "OMPI"))},
    )
    assert process.returncode == 2 and process.stderr.count("\n") == 1, process.stderr
    assert "--processes auto: found no Slurm, Open MPI or TPU" in process.stderr


SLURM = {"SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "1"}


@pytest.mark.slow
@pytest.mark.parametrize("slurm", [False, True], ids=["coordinator", "slurm"])
def test_processes_meet_and_fail_together(slurm):
    """Two processes of one device see two devices; a fault that both have ends both."""
    pair = []
    for number in (1, 0):
        if slurm:
            port = {"JAX_COORDINATOR_PORT": str(pair[0][1] if pair else free_port())}
            env = environment() | SLURM | port | {"SLURM_PROCID": str(number)}
            command = [sys.executable, "-m", "jaxsrda", "assimilate", "--processes", "auto", "--devices", "9"]
            made = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
            pair.append((made, port["JAX_COORDINATOR_PORT"]))
        else:
            port = pair[0][1] if pair else free_port()
            pair.append((started(["assimilate", "--devices", "9"], number, port), port))
    for number, (process, _) in zip((1, 0), pair):
        code, line = said(process)
        wanted = f"jaxsrda: process {number}: devices: expected at most the 2 that JAX finds (cpu), got 9"
        assert code == 2 and line.startswith(wanted) and line.count("\n") == 0, line


@pytest.mark.slow
def test_two_processes_are_one(tmp_path):
    """Truths from a file; one process alone, then two that have a truth each; the first of them writes and prints."""
    small = jet_small()
    keys = jax.random.split(jax.random.key(0), 3)
    begins = [np.asarray(to_physical(small.grid, small.start(key, small.grid))) for key in keys]
    part = np.linspace(0, 1, 8)[:, None, None]
    drifts = [(1 - part) * one + part * other for one, other in itertools.pairwise(begins)]
    np.save(tmp_path / "truth.npy", np.stack(drifts))
    arguments = f"assimilate --testbed jet-small --method persistence --members 4 --truth {tmp_path}/truth.npy".split()
    alone = subprocess.run(
        [sys.executable, "-m", "jaxsrda", *arguments, "--json", str(tmp_path / "one.json")],
        env=environment() | {"JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert alone.returncode == 0, alone.stderr
    port = free_port()
    pair = [started([*arguments, "--json", str(tmp_path / f"two-{i}.json")], i, port) for i in (1, 0)]
    (other, silent), (first, table) = (said(process) for process in pair)
    assert first == other == 0, silent + table
    assert silent == "" and "MAER" in table
    assert {path.name for path in tmp_path.glob("*.json")} == {"one.json", "two-0.json"}
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two-0"))
    for name, score in one["scores"].items():
        np.testing.assert_allclose(two["scores"][name]["mean"], score["mean"], rtol=1e-7, err_msg=name)
