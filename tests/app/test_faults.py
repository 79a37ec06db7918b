"""Faults: one line that says what to do, exit code 2, and nothing lost."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrda.app.cli import main as cli
from jaxsrda.app.cli.faults import remedy
from jaxsrda.core import cache, files
from jaxsrda.core.files import write_json, write_npz
from jaxsrda.diffsrda.weights import load_model
from jaxsrda.experiment.experiment import Experiment
from jaxsrda.flow.simulate import Run
from jaxsrda.flow.testbed import jet_small
from jaxsrda.training.loss import TrainConfig

SMALL = jet_small()


def raises(error):
    def run(self):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"),
            "take fewer --members, --truths or",
        ),
        (MemoryError(), "out of memory; take fewer"),
        (FloatingPointError("invalid value (nan) encountered in jit(f)"), "unset these"),
        (OSError(errno.ENOSPC, "No space left on device", "a.nc"), "no space left on the disk for a.nc; free some"),
        (ValueError("RESOURCE_EXHAUSTED: write failed: No space left on device"), "no space left on the disk; free"),
        (RuntimeError("Unable to initialize backend 'tpu': none"), "no such device, JAX_PLATFORMS=tpu; unset"),
        (ValueError("a: expected\nb"), "jaxsrda: a: expected b"),
    ],
)
def test_what_a_user_can_mend_is_one_line(monkeypatch, capsys, error, line):
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    monkeypatch.setattr(cli.Info, "run", raises(error))
    assert cli.main(["info"]) == 2
    printed = capsys.readouterr().err
    assert line in printed and printed.count("\n") == 1


def test_other_faults_are_the_packages():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli.Info, "run", raises(KeyError("mine")))
        with pytest.raises(KeyError, match="mine"):
            cli.main(["info"])
    assert remedy(KeyError()) is None


def test_debug_nans_is_such_a_fault():
    with jax.debug_nans(True), pytest.raises(FloatingPointError) as caught:
        jax.jit(jnp.log)(-1.0).block_until_ready()
    assert "JAX_DEBUG_NANS" in remedy(caught.value)


def test_warnings_are_one_line_too(monkeypatch, capsys):
    monkeypatch.setattr(cli.Info, "run", lambda self: cache.warnings.warn("cache: it is damaged", stacklevel=1))
    assert cli.main(["info"]) == 0
    assert capsys.readouterr().err == "jaxsrda: cache: it is damaged\n"


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_are_no_keys_are_refused(seed):
    for make in (
        lambda: Experiment("enkf-sr", testbed=SMALL, seed=seed),
        lambda: Experiment("enkf-sr", testbed=SMALL, truth_seeds=[seed]),
        lambda: Run(SMALL, SMALL.forecast, 3, seed=seed),
        lambda: TrainConfig(seed=seed),
    ):
        with pytest.raises(ValueError, match=rf"seeds?: expected a whole number from 0 to 2³² − 1, got {seed}"):
            make()
    with pytest.raises(TypeError, match="seed: expected a whole number, got float"):
        Run(SMALL, SMALL.forecast, 3, seed=1.5)


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("write", [write_json, write_npz], ids=["json", "npz"])
def test_a_full_disk_leaves_the_old_file(monkeypatch, tmp_path, call, write):
    path = tmp_path / ("a.json" if write is write_json else "a.npz")

    def put(number):
        write_json(path, {"a": number}) if write is write_json else write_npz(path, a=number)

    put(1)
    before = path.read_bytes()
    monkeypatch.setattr(files.os, call, full)
    with pytest.raises(OSError, match="No space left"):
        put(2)
    monkeypatch.undo()
    assert path.read_bytes() == before and [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_full_disk_costs_no_result_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path))
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.warns(UserWarning, match="could not write .*No space left on device"):
        assert cache.cached_npz("a", "{}", lambda: {"a": np.ones(3)})["a"].sum() == 3
    assert not list(tmp_path.iterdir())


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_loading_runs_nothing(tmp_path, capsys):
    """Weights and fields with pickles in them are refused, and what these would run is not run."""
    sign, weights, fields = (tmp_path / name for name in ("sign", "weights.npz", "fields.npy"))
    trapped = np.array([Trap(sign)], dtype=object)
    np.savez(weights, header=trapped, scale=trapped)
    np.save(fields, trapped, allow_pickle=True)
    with pytest.raises(ValueError, match="could not read them"):
        load_model(weights)
    assert cli.main(["assimilate", "--method", "enkf-sr", "--testbed", "jet-small", "--truth", str(fields)]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not sign.exists()


def test_the_cache_is_shown_and_pruned(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path))
    cache.cached_npz("truth-jet-fine-3", "{}", lambda: {"a": np.zeros(250_000)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "NUMERICS", 1)
        cache.cached_npz("climatology-jet", "{}", lambda: {"a": np.zeros(3)})

    def printed(*arguments):
        assert cli.main(["cache", *arguments]) == 0
        return " ".join(capsys.readouterr().out.split())

    assert "truth-jet-fine-3 │ 2.0 MB │ 0.0 h │ yes" in (shown := printed()) and "climatology-jet" in shown
    assert "2 entries, 2.0 MB" in shown
    assert "removed 0 entries" in printed("--older-than", "1")
    assert "removed 1 entries, 0.0 MB" in printed("--prune", "old")
    assert "removed 1 entries, 2.0 MB" in printed("--prune", "all") and not list(tmp_path.iterdir())
    assert cli.main(["cache", "--older-than", "-1"]) == 2
    assert "older_than: expected a number of days" in capsys.readouterr().err


# Processes ------------------------------------------------------------------------------------


def test_a_kill_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    code = (
        "import os, signal, sys; from jaxsrda.core import files\n"
        "files.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write_json(sys.argv[1], {'a': 2})"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], timeout=120).returncode == -signal.SIGKILL
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_terminal_without_utf_8_and_one_that_is_gone(tmp_path):
    """Signs that the terminal lacks are replaced; files are there when nobody reads the output any more."""
    env = dict(os.environ, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    command = [sys.executable, "-m", "jaxsrda", "info", "--json"]
    plain = subprocess.run([*command, str(tmp_path / "a.json")], capture_output=True, env=env, timeout=120)
    assert plain.returncode == 0 and not plain.stderr
    assert b"enkf-dual" in plain.stdout and b"128 ? 65" in plain.stdout
    reader, writer = os.pipe()
    os.close(reader)
    gone = subprocess.run([*command, str(tmp_path / "b.json")], stdout=writer, stderr=subprocess.PIPE, timeout=120)
    os.close(writer)
    assert gone.returncode == 0 and not gone.stderr
    assert json.loads((tmp_path / "b.json").read_text())["methods"]
