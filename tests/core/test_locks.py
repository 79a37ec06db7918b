"""Locks: one holder at a time, and none left by a process that was killed."""

import subprocess
import sys
import threading
import time

import pytest

from jaxsrda.core import locks
from jaxsrda.core.locks import locked


def test_one_holder_at_a_time(tmp_path):
    path, order = tmp_path / "lock", []

    def hold(name):
        with locked(path):
            order.append(f"{name} in")
            time.sleep(0.05)
            order.append(f"{name} out")

    threads = [threading.Thread(target=hold, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(order[::2]) == ["a in", "b in", "c in"]
    assert all(entered[0] == left[0] for entered, left in zip(order[::2], order[1::2], strict=True))
    assert not path.exists()


def test_without_waiting_it_says_who_has_it(tmp_path):
    with locked(tmp_path / "lock") as mine, locked(tmp_path / "lock", wait=False) as other:
        assert mine and not other
    with pytest.raises(KeyError), locked(tmp_path / "lock"):
        raise KeyError
    with locked(tmp_path / "lock", wait=False) as again:
        assert again


def test_where_no_lock_can_be_made_there_is_nobody_to_share_with(tmp_path):
    with locked(tmp_path / "nowhere" / "lock") as mine:
        assert mine


def test_a_killed_process_leaves_no_lock(tmp_path):
    code = (
        "import runpy, sys, time; locked = runpy.run_path(sys.argv[1])['locked']\n"
        "with locked(sys.argv[2]):\n    print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, locks.__file__, str(tmp_path / "lock")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with locked(tmp_path / "lock", wait=False) as mine:
        assert not mine
    process.kill()
    process.wait()
    process.stdout.close()
    with locked(tmp_path / "lock", wait=False) as mine:
        assert mine
