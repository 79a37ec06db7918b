"""CPU seconds of every test, and the list of those that the default run leaves to `-m slow`.

    PYTHONPATH=tests TIMING=seconds.txt pytest -p timing -m "slow or not slow" -n 2 --dist loadfile
    python tests/timing.py seconds.txt --budget 800

writes `tests/slow.txt`: node ids whose functions keep cheaper parameters in the default run, dearest first, and, where
that is not enough, of whole tests that are dear, but for those in `KEPT`.  CPU time, children included, does not ask
what else ran.
"""

from __future__ import annotations

import argparse
import collections
import os
import resource
from pathlib import Path

import pytest

SLOW = Path(__file__).with_name("slow.txt")


KEPT = (
    "tests/project/test_docs.py::test_python_runs[quickstart]",
    "tests/app/test_cli.py::test_assimilate_writes_what_evaluate_reads",
    "tests/experiment/test_run.py::test_the_result_is_of_the_run",
    "tests/experiment/test_scan.py::test_equal_experiments_compile_once",
    "tests/training/test_job.py::test_train_writes_weights_record_and_curve",
)
"""One way through each end of the package: always in the default run."""

DEAR = 4.0
"""CPU seconds from which a whole test may move."""


def listed() -> list[str]:
    """Node ids in `slow.txt`."""
    lines = SLOW.read_text(encoding="utf-8").splitlines() if SLOW.exists() else []
    return [line for line in lines if line and not line.startswith("#")]


def spent() -> float:
    """CPU seconds of this process and its children so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """Append what a test took to the file that $TIMING names."""
    before = spent()
    yield
    if path := os.environ.get("TIMING"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{spent() - before:.2f} {item.nodeid}\n")


def family(node: str) -> str:
    """A test without its parameters."""
    return node.partition("[")[0]


def to_move(seconds: dict[str, float], budget: float) -> list[str]:
    """The dearest tests that have cheaper siblings, then the dearest of the others, until the rest fits the budget."""
    left = collections.Counter(family(node) for node in seconds)
    total, moved = sum(seconds.values()), []
    for alone in (False, True):
        for node in sorted(seconds, key=seconds.__getitem__, reverse=True):
            if total <= budget or seconds[node] < (DEAR if alone else 0.3):
                break
            if node not in KEPT and node not in moved and (alone or left[family(node)] > 1):
                left[family(node)] -= 1
                total -= seconds[node]
                moved.append(node)
    return moved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=Path)
    parser.add_argument("--budget", type=float, default=800.0, help="CPU seconds of the default run")
    options = parser.parse_args()
    rows = [line.split(" ", 1) for line in options.seconds.read_text(encoding="utf-8").splitlines()]
    seconds = {node: float(took) for took, node in rows}
    # What was moved once stays, unless it is gone: its cost falls to the test that compiles for it next.
    moved = list(dict.fromkeys([*(node for node in listed() if node in seconds), *to_move(seconds, options.budget)]))
    head = "# Left to `pytest -m slow`.  Written by tests/timing.py.\n"
    SLOW.write_text(head + "".join(f"{node}\n" for node in moved), encoding="utf-8")
    kept = sum(took for node, took in seconds.items() if node not in set(moved))
    print(f"{len(moved)} of {len(seconds)} tests moved; {kept:.0f} of {sum(seconds.values()):.0f} CPU seconds stay")
    files = collections.Counter()
    for node, took in seconds.items():
        files[node.partition("::")[0]] += took if node not in set(moved) else 0
    for name, took in files.most_common(20):
        print(f"{took:7.0f}  {name}")


if __name__ == "__main__":
    main()
