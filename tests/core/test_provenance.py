"""Provenance: hash of the source, commit, versions and device, and which rows may be kept."""

import json
import subprocess

import jax
import pytest

import jaxsrda
from jaxsrda.core import provenance
from jaxsrda.core.provenance import UNKNOWN, commit, same_code, source_hash, stamped, this_run


@pytest.fixture
def package(tmp_path):
    """A small package in a git repository."""
    folder = tmp_path / "project" / "package"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("a = 1\n")
    (folder / "inner" / "b.py").write_text("b = 2\n")
    (tmp_path / "project" / ".gitignore").write_text("/ignored\n")
    git(folder.parent, "init", "-q")
    git(folder.parent, "add", ".")
    git(folder.parent, "commit", "-qm", "first")
    return folder


def git(folder, *arguments):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_hash_follows_contents_and_paths(package):
    first = source_hash(package)
    assert len(first) == 12 and source_hash(package) == first
    (package / "notes.txt").write_text("no code")
    assert source_hash(package) == first
    (package / "inner" / "b.py").write_text("b = 3\n")
    assert source_hash(package) != first
    (package / "inner" / "b.py").rename(package / "b.py")
    moved = source_hash(package)
    (package / "b.py").write_text("b = 2\n")
    assert len({first, moved, source_hash(package)}) == 3


def test_hash_does_not_depend_on_where_the_package_lies(package, tmp_path):
    package_elsewhere = tmp_path / "elsewhere"
    package.rename(package_elsewhere)
    before = source_hash(package_elsewhere)
    package_elsewhere.rename(package)
    assert source_hash(package) == before


def test_commit_and_changes(package):
    head = git(package, "rev-parse", "HEAD")
    assert commit(package) == {"commit": head, "dirty": False}
    (package.parent / "record.json").write_text("{}")  # a run writes its record
    assert commit(package)["dirty"] is False
    (package / "new.py").write_text("")
    assert commit(package) == {"commit": head, "dirty": True}
    (package / "new.py").unlink()
    (package / "__init__.py").write_text("a = 2\n")
    assert commit(package) == {"commit": head, "dirty": True}


def test_no_commit_outside_of_git_or_in_the_repository_of_another_project(package, tmp_path, monkeypatch):
    unknown = {"commit": UNKNOWN, "dirty": UNKNOWN}
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "__init__.py").write_text("")
    assert commit(outside) == unknown
    installed = package.parent / "ignored"
    installed.mkdir()
    (installed / "__init__.py").write_text("")
    assert commit(installed) == unknown
    monkeypatch.setenv("PATH", str(tmp_path))  # no git at all
    assert commit(package) == unknown


def test_this_run_is_complete_and_json():
    run = this_run()
    assert json.loads(json.dumps(run)) == run
    assert set(run) == {"commit", "dirty", "source", "versions", "device", "date"}
    assert run["source"] == source_hash()
    assert set(run["versions"]) == {"python", "jaxsrda", "jax", "jaxlib", "numpy", "flax"}
    assert run["versions"]["jax"] == jax.__version__ and run["versions"]["jaxsrda"] == jaxsrda.__version__
    assert run["device"]["platform"] == jax.devices()[0].platform and run["date"].endswith("+00:00")


def test_the_code_is_that_at_the_start_of_the_process(monkeypatch):
    before = this_run()
    monkeypatch.setattr(provenance, "source_hash", lambda: "changed since")
    assert this_run()["source"] == before["source"]


def test_rows_are_stamped_and_kept_by_their_source():
    row = {"maer": 0.1, "provenance": {"source": "of before"}}
    mine = stamped(row)
    assert mine["maer"] == 0.1 and mine["provenance"]["source"] == this_run()["source"]
    assert row["provenance"] == {"source": "of before"}
    assert same_code(mine) and not same_code(row) and same_code(row, any_code=True)
    assert not same_code({"maer": 0.1}) and same_code({"maer": 0.1}, any_code=True)
