"""The scripts show their help, use public names alone, keep the right rows of records; the queue is understood."""

import ast
import dataclasses
import functools
import importlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

import jaxsrda
from jaxsrda.diffsrda.weights import load_model

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [ROOT / "experiments", ROOT / "benchmarks"]
if not all(folder.is_dir() for folder in FOLDERS):
    pytest.skip("the checkout is not here", allow_module_level=True)

OF_EXPERIMENTS = sorted((ROOT / "experiments").glob("*.py"))
STUDIES = [path for path in sorted((ROOT / "benchmarks" / "studies").glob("*.py")) if path.name != "__init__.py"]
SCRIPTS = [*OF_EXPERIMENTS, *STUDIES, ROOT / "benchmarks" / "tune_filters.py"]
HELPERS = {"common.py", "three_d_var.py"}
"""Imported by scripts, or a method that `jaxsrda benchmark` loads; run by nobody."""

MODULES = sorted(path for folder in FOLDERS for path in folder.rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in SCRIPTS]

HELP = """
import contextlib, io, json, runpy, sys, traceback
found = {}
for name in sys.argv[1:]:
    folder, _, file = name.rpartition("/")
    helper, text, before = file in HELPERS, io.StringIO(), set(sys.modules)
    sys.path.insert(0, folder)
    sys.argv = [name, "--help"]
    try:
        with contextlib.redirect_stdout(text):
            runpy.run_path(name, run_name=file if helper else "__main__")
        code = 0 if helper else "no help"
    except SystemExit as end:
        code = end.code
    except Exception:
        code = traceback.format_exc()
    sys.path.remove(folder)
    found[name] = [code or 0, text.getvalue()]
print(json.dumps(found))
"""


@functools.cache
def helps() -> dict[str, tuple[int | str, str]]:
    """Script → exit status and help, from one process for all, because each would import JAX."""
    source = f"HELPERS = {HELPERS!r}\n{HELP}"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "JAX_PLATFORMS": "cpu", "NO_COLOR": "1"}
    command = [sys.executable, "-c", source, *NAMES]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", NAMES)
def test_imports_and_shows_help(name):
    code, text = helps()[name]
    assert code == 0, code
    if Path(name).name not in HELPERS:
        assert "--out" in text or name == "benchmarks/tune_filters.py"


# Names ----------------------------------------------------------------------------------------


def attributes(tree: ast.AST, aliases: dict[str, str]) -> list[tuple[str, str]]:
    """(module or object, attribute) of every attribute that is taken of an imported name."""
    found = []
    for node in ast.walk(tree):
        parts = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if parts and isinstance(node, ast.Name) and node.id in aliases:
            found.append((aliases[node.id], ".".join(reversed(parts))))
    return found


def home(dotted: str) -> tuple[object, list[str]]:
    """The innermost module of a dotted path, and the names below it."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            return importlib.import_module(".".join(parts[:count])), parts[count:]
        except ImportError:
            continue
    raise ImportError(dotted)


def offences(source: str) -> list[str]:
    """Private names of the package, names that are not there, and long ways to public names, in a source."""
    tree, aliases, used = ast.parse(source), {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "jaxsrda":
                    aliases[alias.asname or "jaxsrda"] = alias.name if alias.asname else "jaxsrda"
                    used.add(alias.name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jaxsrda":
            for alias in node.names:
                aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                used.add(f"{node.module}.{alias.name}")
    used |= {f"{start}.{rest}" for start, rest in attributes(tree, aliases)}
    found = []
    for dotted in sorted(used):
        module, below = home(dotted)
        if any(part.startswith("_") and not part.startswith("__") for part in dotted.split(".")):
            found.append(f"{dotted} is private")
        elif below and not hasattr(module, below[0]):
            found.append(f"{dotted} is not there")
        elif below and module is not jaxsrda and below[0] in jaxsrda.__all__:
            if getattr(module, below[0]) is getattr(jaxsrda, below[0]):
                found.append(f"{dotted} is jaxsrda.{below[0]}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(ROOT)) for path in MODULES])
def test_public_names_alone(path):
    assert not offences(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "source, message",
    [
        ("from jaxsrda.flow.simulate import _trajectory", "jaxsrda.flow.simulate._trajectory is private"),
        ("import jaxsrda\njaxsrda._LATER", "jaxsrda._LATER is private"),
        ("from jaxsrda.scoring import point\npoint._windows(8)", "jaxsrda.scoring.point._windows is private"),
        ("from jaxsrda.flow.grid import regrid", "jaxsrda.flow.grid.regrid is jaxsrda.regrid"),
        ("from jaxsrda.training.job import Job as Work", "jaxsrda.training.job.Job is jaxsrda.Job"),
        ("from jaxsrda.scoring import point as scores\nscores.crps", "jaxsrda.scoring.point.crps is jaxsrda.crps"),
        ("import jaxsrda\njaxsrda.LEVELS", "jaxsrda.LEVELS is not there"),
        ("from jaxsrda.flow.testbed import level_grid", "jaxsrda.flow.testbed.level_grid is not there"),
    ],
)
def test_offences_are_found(source, message):
    assert offences(source) == [message]


def test_public_names_pass():
    source = "import jaxsrda\nfrom jaxsrda.app import report\nfrom jaxsrda.flow.grid import spectra\n"
    assert not offences(source + "jaxsrda.jet().levels, jaxsrda.Sensors.layout, report.scores_record, spectra.__doc__")


# Records --------------------------------------------------------------------------------------


def script(name, monkeypatch):
    """A script of the experiments as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    return importlib.import_module(name)


WRITERS = [
    path for path in SCRIPTS if re.search(r"write_json\(|json\.dumps\(|common\.write\(", path.read_text("utf-8"))
]


@pytest.mark.parametrize("path", WRITERS, ids=[path.stem for path in WRITERS])
def test_records_say_what_made_them(path):
    source = path.read_text(encoding="utf-8")
    stamps = ("stamped(", "common.scored(", "reconstruction.run(")
    assert any(call in source for call in stamps), "rows need provenance"
    if "common.kept(" in source or ("json.loads(" in source and path.name not in HELPERS):
        assert "reuse_any_code" in source, "who keeps rows must say whose"
        assert "common.kept(" in source or "same_code(" in source, "rows of other code must not be kept"


def test_every_experiment_and_benchmark_that_writes_is_among_them():
    silent = {path.name for path in SCRIPTS} - {path.name for path in WRITERS}
    assert silent <= HELPERS


@dataclasses.dataclass
class Settings:
    """An experiment's options, as the scripts have them."""

    out: Path
    truths: int = 2
    test_truths: bool = True
    policy: str = "some"
    reuse_any_code: bool = False

    def __init__(self, out=Path("none"), **changes):
        for field in dataclasses.fields(self)[1:]:
            setattr(self, field.name, changes.get(field.name, field.default))
        self.out = out


def test_rows_are_kept_by_settings_and_source(tmp_path, monkeypatch):
    from jaxsrda.core.provenance import stamped

    common, path = script("common", monkeypatch), tmp_path / "record.json"
    other = {"maer": 2, "provenance": {"source": "of other code"}}
    rows = {"mine": stamped({"maer": 1}), "other": other, "old": {"maer": 3}}

    def kept(record, **changes):
        path.write_text(json.dumps(record))
        return common.kept(Settings(path, **changes))

    assert common.kept(Settings(path)) == {}
    record = {"settings": common.settings_of(Settings(path)), "rows": rows}
    assert set(record["settings"]) == {"truths", "test_truths", "policy"}
    assert kept(record) == {"mine": rows["mine"]}
    assert kept(record, reuse_any_code=True) == rows  # with the provenance that they have
    assert kept(record, truths=3) == kept(record, truths=3, reuse_any_code=True) == {}
    assert kept(record, test_truths=False, reuse_any_code=True) == {}
    older = {"settings": {"truths": 2, "visitor": "some"}, "rows": {"old": {"maer": 3}}}
    assert kept(older) == {} and kept(older, reuse_any_code=True) == older["rows"]
    path.write_text(json.dumps(older))
    asked = Settings(path, reuse_any_code=True)
    assert common.kept(asked, older={"test_truths": False}) == {} and common.kept(asked, weights="abc") == {}


def test_weights_are_kept_by_job_and_source(tmp_path, monkeypatch):
    common = script("common", monkeypatch)
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path))
    monkeypatch.setattr(jaxsrda, "train", lambda job, out, report: out.write_text("weights"))
    job = jaxsrda.Job((jaxsrda.DataConfig(runs=16),))
    weights = common.trained("family", "name", job, None)
    assert weights.exists() and common.trained("family", "name", job, None) == weights
    before = weights.with_name(re.sub(r"-[0-9a-f]{12}\.npz$", "-of_before.npz", weights.name))
    weights.rename(before)
    assert common.trained("family", "name", job, None, any_code=True) == before
    assert common.trained("family", "name", job, None) == weights


def test_choices_have_validation_truths(monkeypatch):
    common = script("common", monkeypatch)
    assert common.truth_seeds(script("few_steps", monkeypatch).Experiment()) == range(1000, 1010)
    for name in ("deterministic", "latent", "mixup", "reconstruction", "target_level", "training_length"):
        experiment = script(name, monkeypatch).Experiment
        assert common.truth_seeds(experiment()) == range(10), name
        assert common.truth_seeds(experiment(test_truths=False)) == range(1000, 1010), name


def test_strengths_and_rows_of_guidance_are_kept_by_source(monkeypatch):
    from jaxsrda.core.provenance import this_run

    shift = script("sensor_shift", monkeypatch)
    judged, run = {"truths": [1000], "frames": 8}, this_run()
    entry = judged | {"crps": {"1.0": 0.1, "2.0": 0.2}, "by": {"2.0": run}, "device": "cpu"}
    assert shift.tried(entry, judged, False)["crps"] == {"2.0": 0.2}
    assert shift.tried(entry, judged, True) == entry
    assert shift.tried(entry, judged | {"frames": 9}, True) == judged | {"frames": 9, "crps": {}, "by": {}}
    experiment = shift.Experiment()
    settings = shift.settings_of(experiment, shift.SHIFTS["8-4"], shift.configured(shift.SHIFTS["8-4"], "oi", (1, 1)))
    row = {"truths": 10, "settings": settings, "provenance": run}
    assert shift.reusable(row, experiment, settings) and not shift.reusable({}, experiment, settings)
    assert not shift.reusable(row | {"provenance": {}}, experiment, settings)
    assert not shift.reusable(row | {"truths": 9}, experiment, settings)
    assert not shift.reusable(row, experiment, settings | {"validation": {}})
    any_code = dataclasses.replace(experiment, reuse_any_code=True)
    assert shift.reusable({"truths": 10}, any_code, settings) and not shift.reusable({}, any_code, settings)


# The accelerator queue --------------------------------------------------------------------------

ABSENT = ("tyro", "zarr", "cmocean", "matplotlib", "optuna", "scipy")
"""What a bare image of JAX for an accelerator may lack."""

HIDE = f"""
import sys
for name in {ABSENT}:
    sys.modules[name] = None  # an import of it raises ImportError
"""


def queue_program(*options: str) -> subprocess.CompletedProcess:
    """The queue in a process without what a bare image lacks."""
    start = "import runpy; runpy.run_module('benchmarks.accelerator', run_name='__main__', alter_sys=True)"
    code = f"{HIDE}\nsys.argv = {['queue', *options]}\n{start}"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_the_queue_starts_on_a_bare_image():
    done = queue_program("--help")
    assert done.returncode == 0 and "minutes" in done.stdout, done.stderr


def test_the_queue_refuses_a_job_that_it_does_not_have(tmp_path):
    done = queue_program(str(tmp_path), "1", "--tiny", "--jobs", "smal")
    assert done.returncode != 0 and "did you mean 'small'?" in done.stderr


@pytest.mark.slow
def test_the_queue_in_its_tiny_form(tmp_path):
    """Every job of the queue leaves weights that load, a record, and scores; all packed in one archive."""
    done = queue_program(str(tmp_path), "2", "--tiny", "--pack")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    data = b"".join(path.read_bytes() for path in sorted(tmp_path.glob("results-*.tar")))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    assert {path.suffix for path in tmp_path.iterdir() if path.is_file()} == {".tar"}
    for name in ("small", "one-pass", "paper-narrow", "base"):
        record = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert record["samples"] >= 0 and record["flops_per_window"] > 0
        # Barely trained, the paper's sampler may diverge from its largest noise level.
        scores = [row["per_truth"]["rmse"] for row in record["scores"].values()]
        assert scores and (np.isfinite(scores).all() or name == "paper-narrow")
    for name in ("small", "one-pass", "base"):
        assert load_model(tmp_path / "out" / f"{name}.npz")[0].config.network == "tiny"
