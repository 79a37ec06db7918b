"""The README's Python runs as it stands, and its commands and options exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxsrda.app.cli import main as cli

README = Path(__file__).parent.parent / "README.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def test_python_runs(tmp_path):
    """In a process of its own, without the tests' flags, as a reader would."""
    script = "".join(blocks("python")) + "assert result.finite and 0 < result.scores['maer'][0] < 0.25, result.scores\n"
    (tmp_path / "readme.py").write_text(script)
    done = subprocess.run([sys.executable, "readme.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "(1, 96, 128, 65)" in done.stdout


def commands():
    text = "\n".join(blocks("bash")).replace("\\\n", " ")
    return [line.split("#")[0].strip() for line in text.splitlines() if line.startswith("jaxsrda ")]


@pytest.mark.parametrize("command", commands())
def test_commands_parse(command, monkeypatch):
    """Every `jaxsrda` line is accepted by the command line (its work is replaced)."""
    done = []
    for kind in (cli.Simulate, cli.Train, cli.Assimilate, cli.Evaluate, cli.Info):
        monkeypatch.setattr(kind, "run", lambda self: done.append(self))
    assert cli.main(command.split()[1:]) == 0 and len(done) == 1


def test_a_command_for_everything():
    assert {line.split()[1] for line in commands()} == {"simulate", "train", "assimilate", "evaluate", "info"}
