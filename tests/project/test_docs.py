"""README and docs: their Python runs as it stands, their commands parse, their links and numbers hold."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jaxsrda.app.cli import main
from jaxsrda.app.cli.devices import OnDevices

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))] if (ROOT / "docs").is_dir() else [README]
IN_CHECKOUT = pytest.mark.skipif(not (ROOT / "experiments").is_dir(), reason="the checkout is not here")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def python_of(page):
    return "\n".join(blocks(page, "python"))


@pytest.mark.parametrize("page", [page for page in PAGES if python_of(page)], ids=lambda page: page.stem)
def test_python_runs(page, tmp_path):
    """All blocks of a page together, in a process of its own without the tests' flags, as a reader would run them."""
    script = python_of(page)
    if page == README:
        script += "assert result.finite and 0 < result.scores['maer'][0] < 0.25, result.scores\n"
    (tmp_path / "page.py").write_text(script, encoding="utf-8")
    # Small flows compile fast rather than well; larger ones would then run slowly.
    quick = {} if page.stem in ("README", "step-by-step", "your-flow") else {"XLA_FLAGS": os.environ["QUICK_XLA_FLAGS"]}
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ) | quick
    )
    assert done.returncode == 0, done.stderr
    assert page != README or "(1, 96, 128, 65)" in done.stdout


def commands():
    text = "\n".join("\n".join(blocks(page, "bash")) for page in PAGES).replace("\\\n", " ")
    return sorted({line.split("#")[0].strip() for line in text.splitlines() if line.startswith("jaxsrda ")})


@pytest.mark.parametrize("command", commands())
def test_commands_parse(command, monkeypatch):
    """Every `jaxsrda` line is accepted by the command line (its work is replaced)."""
    monkeypatch.setattr(main, "number_of", lambda command: 0)  # there is no other process to meet
    done = []
    kinds = (
        main.Simulate,
        main.Train,
        main.Assimilate,
        main.Evaluate,
        main.Sweep,
        main.Benchmark,
        main.Report,
        main.Info,
    )
    for kind in kinds:
        monkeypatch.setattr(kind, "run", lambda self: done.append(self))
    monkeypatch.setattr(OnDevices, "join", lambda self: None)
    assert main.main(shlex.split(command)[1:]) == 0 and len(done) == 1


def test_a_command_for_everything():
    assert {line.split()[1] for line in commands()} >= {
        "simulate",
        "train",
        "assimilate",
        "evaluate",
        "sweep",
        "benchmark",
        "report",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@IN_CHECKOUT
def test_links_lead_somewhere(page):
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)\)", prose):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_readme_starts_people():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150 and len(text.encode()) <= 10_000


@IN_CHECKOUT
def test_readme_scores_are_those_of_the_record():
    rows = json.loads((ROOT / "experiments" / "results" / "reconstruction.json").read_text())
    table = dict(re.findall(r"^\| `([\w-]+)` \| .* \| (0\.\d+) \|$", README.read_text(encoding="utf-8"), re.MULTILINE))
    from jaxsrda import METHODS

    assert set(table) == set(METHODS)
    for method, score in table.items():
        assert f"{rows[method]['scores']['maer']['mean']:.3f}" == score, method


@IN_CHECKOUT
def test_readme_findings_are_those_of_the_claims():
    claims = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    text = " ".join(README.read_text(encoding="utf-8").split())
    quoted = re.findall(r"\(((?:MAER|time)[^()]*)\)", text)
    numbers = [part for quote in quoted for part in quote.split(", CRPS")[:1]]
    assert len(numbers) >= 4
    for number in numbers:
        assert number in claims, number
    assert "CRPS ratio 0.878 [0.860, 0.896]" in text and "CRPS ratio 0.878 [0.860, 0.896]" in claims


@IN_CHECKOUT
def test_the_picture_of_the_rooms_is_up_to_date():
    done = subprocess.run([sys.executable, str(ROOT / "docs" / "rooms.py"), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
