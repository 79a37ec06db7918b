"""Full disks, damaged files, numbers that are none: one line that says what to do, and what was there stays."""

import errno
import itertools
import os
import random
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import fill

from jaxsrda.app import datasets, report
from jaxsrda.app.cli import main as cli
from jaxsrda.app.cli.assimilate import Assimilate
from jaxsrda.app.datasets import fields_dataset, write_dataset
from jaxsrda.app.fields import read_fields
from jaxsrda.core.checkpoints import Checkpoints
from jaxsrda.core.files import read_npz, write_npz
from jaxsrda.experiment import carry_files
from jaxsrda.experiment import parts as parts_module
from jaxsrda.experiment import run as run_module
from jaxsrda.flow import climatology
from jaxsrda.flow import simulate as simulations
from jaxsrda.flow.grid import to_physical
from jaxsrda.flow.jet import truth_key
from jaxsrda.flow.testbed import jet_small

SMALL = jet_small()
ON_SMALL = ["--testbed", "jet-small"]


def fails(capsys, arguments, message):
    """The command ends with 2 and one line that holds `message`."""
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error, error


# Full disks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [8_000, 300_000], ids=["at once", "on the way"])
def test_a_simulation_on_a_full_disk(disk, tmp_path, monkeypatch, capsys, left):
    """The file of an earlier run stays as it was, the parts stay, and with space it goes on to the same numbers."""
    monkeypatch.setattr(simulations, "SAVE_EVERY", 0.0)
    out, parts = disk / "run.npz", disk / ".run.npz.parts"
    arguments = ["simulate", *ON_SMALL, "--level", "lr", "--frames", "40", "--out"]
    write_npz(out, omega=np.ones(3))
    earlier, ballast = out.read_bytes(), fill(disk, left)
    fails(capsys, [*arguments, str(out)], "no space left on the disk")
    assert out.read_bytes() == earlier
    # A part that was not finished is removed by who goes on; nothing else is left behind.
    beside = [each for each in disk.rglob("*") if parts not in each.parents]
    assert not [each for each in beside if "tmp" in each.name or each.name.startswith(".run-")]
    kept = Checkpoints(parts, "", keep=None).steps()
    assert bool(kept) == (left > 100_000)
    ballast.unlink()
    monkeypatch.setattr(simulations, "SAVE_EVERY", 1e9)
    assert cli.main([*arguments, str(out)]) == 0 and not parts.exists()
    assert cli.main([*arguments, str(tmp_path / "other.npz")]) == 0
    np.testing.assert_array_equal(read_npz(out)["omega"], read_npz(tmp_path / "other.npz")["omega"])


def truths():
    """Two truths of eight frames that drift from one state of the jet to another: something to follow."""
    states = [to_physical(SMALL.grid, SMALL.start(truth_key(seed), SMALL.grid)) for seed in range(3)]
    part = np.linspace(0, 1, 8)[:, None, None]
    return np.stack([(1 - part) * np.asarray(a) + part * np.asarray(b) for a, b in itertools.pairwise(states)])


@pytest.fixture
def following(tmp_path, monkeypatch):
    """A command that follows two truths by interpolation alone, which takes little."""
    grid, starts = SMALL.grid, [SMALL.start(climatology.training_key(i), SMALL.grid) for i in range(3)]
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path / "cache"))
    small = climatology.from_runs(grid, jnp.stack(starts)[:, None])
    monkeypatch.setattr(run_module, "default_climatology", lambda testbed: small)
    np.save(tmp_path / "truth.npy", truths())
    return ["assimilate", *ON_SMALL, "--method", "persistence", "--truth", str(tmp_path / "truth.npy")]


def test_an_assimilation_whose_result_does_not_fit_the_disk(tmp_path, monkeypatch, capsys, following):
    """What was computed is kept beside the output; the same command writes it without computing it again."""
    monkeypatch.setattr(parts_module, "SAVE_EVERY", 0.0)
    out, kept = tmp_path / "a.nc", tmp_path / ".a.nc.parts"
    out.write_text("an earlier result")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", str(out))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "write_dataset", full)
        fails(capsys, [*following, "--out", str(out)], f"no space left on the disk for {out}; free some")
    assert out.read_text() == "an earlier result" and kept.is_dir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts_module, "run_scan", lambda *_: pytest.fail("worked again"))
        fails(capsys, [*following, "--out", str(out), "--seed", "1"], "other work (its seed is 0, this one's is 1)")
        fails(capsys, [*following, "--out", str(out), "--at-once", "2"], "its number of truths at once is 1")
        assert cli.main([*following, "--out", str(out)]) == 0
    assert not kept.exists() and read_fields(out, "omega_mean").values.shape == (2, 8, 64, 33)


def test_what_is_kept_stays_until_the_carry_is_saved(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(report, "record", lambda result: {})
    monkeypatch.setattr(carry_files, "save_carry", full)
    command = Assimilate(json=tmp_path / "a.json", carry=tmp_path / "carry")
    command.parts.mkdir()
    with pytest.raises(OSError, match="No space left"):
        command.write(None, SimpleNamespace(carry=None))
    assert (tmp_path / "a.json").exists() and command.parts.exists()


def test_an_interrupted_assimilation_says_how_to_go_on(tmp_path, monkeypatch, capsys, following):
    scan, out = parts_module.run_scan, tmp_path / "a.nc"

    def second(*arguments):
        monkeypatch.setattr(parts_module, "run_scan", interrupted)
        return scan(*arguments)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(parts_module, "run_scan", second)
    assert cli.main([*following, "--out", str(out)]) == 130
    kept = tmp_path / ".a.nc.parts"
    told = f"jaxsrda: interrupted; what is done is kept in {kept}, and the same command goes on from there\n"
    assert capsys.readouterr().err == told and Checkpoints(kept, "", keep=None).steps() == [1]


# Damaged files --------------------------------------------------------------------------------


def flips(path, count, seed=0):
    """Flip bits of a file, or of the files in a folder, one at a time; each is put back."""
    dice, files = random.Random(seed), sorted(each for each in [path, *path.rglob("*")] if each.is_file())
    sizes = [each.stat().st_size for each in files]
    for _ in range(count):
        file = dice.choices(files, sizes)[0]
        whole = file.read_bytes()
        damaged = bytearray(whole)
        damaged[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        file.write_bytes(damaged)
        yield file
        file.write_bytes(whole)


def fields_file(path):
    """A file of fields, and what it holds."""
    omega, times = np.random.default_rng(0).normal(size=(4, 64, 33)), 0.25 * np.arange(4)
    if path.suffix == ".npz":
        write_npz(path, omega=omega, time=times, x=SMALL.grid.x, y=SMALL.grid.y)
    else:
        write_dataset(path, fields_dataset(omega, times, SMALL.grid, {}))
    return {"omega": omega, "time": times, "x": np.asarray(SMALL.grid.x), "y": np.asarray(SMALL.grid.y)}


@pytest.mark.parametrize("suffix", [".nc", ".zarr", ".npz"])
def test_a_flipped_bit_in_fields_is_noticed(tmp_path, suffix):
    """Or it changes nothing that is read: checksums stand for every number."""
    path, found = tmp_path / f"a{suffix}", {"refused": 0, "same": 0}
    held = fields_file(path)
    for file in flips(path, 60):
        try:
            got = read_fields(path)
        except ValueError as error:
            assert "could not read it" in str(error) or "expected a variable" in str(error)
            found["refused"] += 1
            continue
        found["same"] += 1
        np.testing.assert_array_equal(got.values, held["omega"], err_msg=str(file))
        for name, points in got.coords.items():
            np.testing.assert_array_equal(points.values, held[name], err_msg=str(file))
    assert found["refused"] > 20


@pytest.mark.parametrize("suffix", [".nc", ".zarr", ".npz", ".npy"])
@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_truncated_fields_are_refused(tmp_path, capsys, suffix, part):
    path = tmp_path / f"a{suffix}"
    np.save(path, truths()) if suffix == ".npy" else fields_file(path)
    files = [path] if path.is_file() else [each for each in path.rglob("omega/*.*.*") if each.is_file()]
    for file in files:
        file.write_bytes(file.read_bytes()[: int(part * file.stat().st_size)])
    fails(capsys, ["assimilate", *ON_SMALL, "--method", "persistence", "--truth", str(path)], f"a{suffix}: expected")


def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path):
    store = Checkpoints(tmp_path / "work", {"seed": "0"})
    arrays = {"omega": np.random.default_rng(0).normal(size=(20, 20)), "count": np.asarray(7)}
    store.save(3, arrays, {"curve": [0.5, 0.25]})
    store.close()
    refused = 0
    for file in flips(tmp_path / "work" / "3", 30):
        again = Checkpoints(tmp_path / "work", {"seed": "0"})
        try:
            kept = again.restore(3)
        except ValueError as error:
            assert "cannot be read" in str(error), error
            refused += 1
            continue
        finally:
            again.close()
        assert kept.notes == {"curve": [0.5, 0.25]}
        for name, array in arrays.items():
            np.testing.assert_array_equal(kept.arrays[name], array, err_msg=str(file))
    assert refused > 5


# Numbers that are none ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *((f"--{name}", value) for name in ("obs-noise", "reject") for value in ("nan", "inf", "-1", "0")),
        *((f"--{name}", "nan") for name in ("additive", "inflation", "localization", "rtps", "rtpp", "viscosity")),
        *((f"--{name}", "inf") for name in ("additive", "inflation", "localization", "viscosity", "start")),
        *((f"--{name}", "1e999") for name in ("representativeness", "withhold")),
        ("--seed", str(2**40)),
    ],
)
def test_options_that_are_no_numbers_are_refused_at_once(monkeypatch, capsys, tmp_path, option, value):
    monkeypatch.setattr(run_module, "prepare", lambda *_: pytest.fail("worked"))
    np.save(tmp_path / "truth.npy", np.zeros(0))
    name = option.removeprefix("--").replace("-", "_")
    arguments = ["assimilate", *ON_SMALL, "--method", "enkf-sr", "--truth", str(tmp_path / "truth.npy")]
    fails(capsys, [*arguments, f"{option}={value}"], name.split("_")[-1])


@pytest.mark.slow
def test_a_run_that_does_not_fit_the_memory(tmp_path):
    """In a process of its own, whose memory is limited."""
    resource = pytest.importorskip("resource")
    arguments = ["assimilate", *ON_SMALL, "--method", "enkf-sr", "--members", "400000", "--cycles", "2"]

    def limited():
        resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))

    run = subprocess.run(
        [sys.executable, "-m", "jaxsrda", *arguments, "--truth-level", "hr", "--json", str(tmp_path / "a.json")],
        preexec_fn=limited,
        capture_output=True,
        text=True,
        env=dict(os.environ, JAXSRDA_CACHE=str(tmp_path / "cache")),
    )
    assert run.returncode == 2, run.stderr[-2000:]
    assert run.stderr.splitlines()[-1].startswith("jaxsrda: out of memory; take fewer --members")
    assert jax.default_backend() == "cpu"
