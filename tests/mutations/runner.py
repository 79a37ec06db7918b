"""Runs the tests of this checkout on a mutated copy of the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from mutations.mutation import Mutation

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "jaxsrda"

REPORTER = '''
"""Writes down which package the tests ran."""


def pytest_sessionfinish():
    import jaxsrda

    print(f"\\nran {jaxsrda.__file__}")
'''


def copy_package(folder: Path) -> Path:
    """A copy of the package in a folder; the released weights, which are large, are links."""
    copy = folder / "jaxsrda"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "released"))
    (copy / "diffsrda" / "released").symlink_to(PACKAGE / "diffsrda" / "released", target_is_directory=True)
    (folder / "reporter.py").write_text(REPORTER, encoding="utf-8")
    return copy


def mutate(copy: Path, mutation: Mutation) -> None:
    """Apply a mutation to a copy."""
    path = copy / mutation.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.name}: {mutation.old!r} stands {text.count(mutation.old)} times in {path}")
    path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")


def run_tests(folder: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """Exit status and output of the tests of this checkout on the package in a folder, up to the first that fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    # What a wrong package computes must not be kept for others.
    environment = kept | {"PYTHONPATH": str(folder), "JAXSRDA_CACHE": str(folder / "cache")}
    environment["COLUMNS"] = "500"  # pytest's summary says why a test failed, as far as the line has room
    options = ["-q", "-x", "-rfE", "-p", "reporter", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    options += ["-m", "not gpu"]  # also those in slow.txt
    options += ["--rootdir", str(ROOT), "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    command = [sys.executable, "-m", "pytest", *options, *(str(ROOT / "tests" / test) for test in tests)]
    # In the folder, because `python -m` puts the working directory first on the path.
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    output = done.stdout + done.stderr
    if f"ran {folder / 'jaxsrda' / '__init__.py'}" not in output:
        raise RuntimeError(f"the tests did not run the package in {folder}:\n{output}")
    return done.returncode, output


def failed(output: str) -> list[str]:
    """The tests that failed because a number was wrong, not because the mutation is no program that runs."""
    lines = re.findall(r"^FAILED (.+)$", output, re.MULTILINE)
    return [line for line in lines if not re.search(r" - (Type|Name|Attribute|Import|Syntax|Key)Error", line)]
