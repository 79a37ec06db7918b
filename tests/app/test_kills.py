"""A few random kills of each job (`tests/kills.py` does hundreds): every one ends as if nobody had disturbed it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "kills.py"
ONE_PROGRAM = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each life is a fork")
@pytest.mark.parametrize("job", ["simulate", "train", "sweep", "assimilate"])
def test_killed_jobs_end_as_undisturbed_ones(tmp_path, job):
    out = tmp_path / "kills.json"
    command = [sys.executable, str(SCRIPT), job, "--kills", "4", "--folder", str(tmp_path / "jobs"), "--out", str(out)]
    env = dict(os.environ, XLA_FLAGS=ONE_PROGRAM)
    run = subprocess.run(command, capture_output=True, text=True, env=env, timeout=1800)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    (row,) = json.loads(out.read_text())["rows"]
    assert row["job"] == job and row["kills"] >= 4 and row["same"] == row["ended"] >= 1
