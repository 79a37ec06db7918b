"""The command line."""

from __future__ import annotations

import argparse

from experiments.tables import ROOT, load, pages


def main() -> int:
    """Write the generated files, or check them."""
    parser = argparse.ArgumentParser(prog="python -m experiments.tables", description="Generate the result tables.")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a file is out of step; write nothing")
    check = parser.parse_args().check
    stale = 0
    for name, text in pages(load()).items():
        path = ROOT / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        print(f"{name}: {'out of step' if check else 'written'}")
        if not check:
            path.write_text(text, encoding="utf-8")
    return int(check and stale > 0)


if __name__ == "__main__":
    raise SystemExit(main())
