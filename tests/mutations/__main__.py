"""python tests/mutations [NAME …], or python -m mutations in tests/: apply mutations and say which tests noticed."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).parents[1])  # run as a folder: its parent is where `mutations` is found

from mutations import MUTATIONS, copy_package, failed, mutate, run_tests


def main(*names: str) -> None:
    """Apply the mutations named, by default all, and say which tests noticed them."""
    for mutation in MUTATIONS:
        if names and not any(name in mutation.name for name in names):
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            mutate(copy_package(Path(folder)), mutation)
            status, output = run_tests(Path(folder), mutation.tests)
        noticed = failed(output)
        verdict = (
            f"killed by {noticed[0].split(' - ')[0]}"
            if status == 1 and noticed
            else "SURVIVED"
            if status == 0
            else output
        )
        print(f"{mutation.name}: {verdict} ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
