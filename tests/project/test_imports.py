"""The import law: each room imports only from those below it, and large libraries stay where they belong."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import jaxsrda

PACKAGE = Path(jaxsrda.__file__).parent

FLOW = ("core", "flow")
CYCLING = (*FLOW, "observing", "scoring")
FILTERS = (*CYCLING, "cycling")
DIFFSRDA = (*FILTERS, "filters", "diffusion", "networks")

LAW: dict[str, tuple[str, ...]] = {
    "core": (),
    "flow": ("core",),
    "diffusion": ("core",),
    "networks": ("core",),
    "observing": FLOW,
    "scoring": FLOW,
    "cycling": CYCLING,
    "filters": FILTERS,
    "diffsrda": DIFFSRDA,
    "experiment": (*DIFFSRDA, "diffsrda"),
    "training": (*DIFFSRDA, "diffsrda", "experiment"),
    "benchmark": (*DIFFSRDA, "diffsrda", "experiment"),
    "app": (*DIFFSRDA, "diffsrda", "experiment", "training", "benchmark"),
}
"""Which rooms each room may import."""

HOMES: dict[str, tuple[str, ...]] = {
    "flax": ("networks", "diffsrda", "training"),
    "optax": ("training",),
    "orbax": ("core/checkpoints.py",),
    "matplotlib": ("app",),
    "cmocean": ("app",),
    "xarray": ("app",),
    "zarr": ("app",),
    "rich": ("app",),
    "tyro": ("app/cli",),
    "experiments": (),
    "benchmarks": (),
    "tests": (),
}
"""Where a library may be imported: folders or files."""

MOST_LINES, MOST_PARAMETERS = 350, 8


def sources() -> dict[str, str]:
    """All sources of the package by their path in it."""
    return {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))
    }


SOURCES = sources()
INNER = [path for path in SOURCES if "/" in path]


def imported(source: str) -> set[str]:
    """Full names of the modules that a source imports anywhere in it; `from jaxsrda import x` counts as jaxsrda.x."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            module = node.module or ""
            names |= {f"jaxsrda.{alias.name}" for alias in node.names} if module == "jaxsrda" else {module}
    return names


def violations(path: str, source: str) -> list[str]:
    """What a file of a room imports against the law."""
    room = path.split("/")[0]
    if room not in LAW:
        return [f"unknown room {room}: add it to LAW in tests/project/test_imports.py"]
    found = []
    for name in sorted(imported(source)):
        top, _, rest = name.partition(".")
        if top == "jaxsrda":
            other = rest.split(".")[0]
            if other not in LAW:
                found.append(f"{path} imports {name}: import from the room that has it")
            elif other != room and other not in LAW[room]:
                found.append(f"{path} imports {other}, which is not below {room}")
        elif top in HOMES and not any(path == home or path.startswith(f"{home}/") for home in HOMES[top]):
            found.append(f"{path} imports {top}, which belongs in {', '.join(HOMES[top]) or 'no room'}")
    return found


@pytest.mark.parametrize("path", INNER)
def test_import_law(path):
    assert not violations(path, SOURCES[path])


@pytest.mark.parametrize(
    "path, source, message",
    [
        ("flow/grid.py", "from jaxsrda.observing.layouts import Layout", "imports observing, which is not below flow"),
        ("flow/grid.py", "def f():\n    from jaxsrda import experiment", "imports experiment, which is not below flow"),
        ("scoring/point.py", "if True:\n    import jaxsrda.observing", "imports observing"),
        ("core/checks.py", "from jaxsrda.flow.grid import regrid", "imports flow"),
        ("diffusion/samplers.py", "from jaxsrda.flow.grid import regrid", "imports flow, which is not below diffusion"),
        ("networks/unet.py", "from jaxsrda.diffusion import sample", "imports diffusion"),
        ("filters/dual.py", "from jaxsrda.diffsrda import DiffSRDAConfig", "imports diffsrda"),
        ("experiment/run.py", "from jaxsrda.training.job import train", "imports training"),
        ("cycling/cycle.py", "import jaxsrda", "import from the room that has it"),
        ("cycling/cycle.py", "from jaxsrda import run_cycles", "import from the room that has it"),
        ("cycling/cycle.py", "import flax.nnx", "flax, which belongs in networks, diffsrda, training"),
        ("experiment/run.py", "from xarray import Dataset", "xarray, which belongs in app"),
        ("scoring/tally.py", "def f():\n    import matplotlib.pyplot as plt", "matplotlib"),
        ("app/report.py", "import tyro", "tyro, which belongs in app/cli"),
        ("training/job.py", "import orbax.checkpoint as ocp", "orbax, which belongs in core/checkpoints.py"),
        ("app/cli/main.py", "from experiments.common import trained", "experiments, which belongs in no room"),
        ("novel/thing.py", "", "unknown room novel"),
    ],
)
def test_the_law_can_be_broken(path, source, message):
    found = violations(path, source)
    assert len(found) == 1 and message in found[0], found


def test_the_law_allows_what_it_should():
    assert not violations("experiment/run.py", "from jaxsrda.cycling.cycle import run_cycles\nimport jax, numpy")
    assert not violations("app/plotting.py", "import matplotlib\nfrom jaxsrda.core.files import atomic_path")
    assert not violations("diffsrda/model.py", "from flax import nnx\nfrom jaxsrda.networks import NETWORKS")
    assert not violations("training/loss.py", "import optax\nfrom jaxsrda.training import loop")


def test_the_law_names_every_room():
    assert {path.split("/")[0] for path in INNER} == set(LAW)
    floors = list(LAW)
    assert all(floors.index(other) < floors.index(room) for room, below in LAW.items() for other in below)


def test_few_modules_stand_outside_the_rooms():
    assert {path for path in SOURCES if "/" not in path} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("path", SOURCES)
def test_files_are_short_and_functions_take_few_parameters(path):
    lines = len(SOURCES[path].splitlines())
    assert lines <= MOST_LINES, f"{path} has {lines} lines: split it"
    for node in ast.walk(ast.parse(SOURCES[path])):
        if isinstance(node, ast.FunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = len([a for a in given if a.arg not in ("self", "cls")])
            assert count <= MOST_PARAMETERS, f"{path}: {node.name} takes {count} parameters: group them into a value"


@pytest.mark.parametrize("room", LAW)
def test_rooms_say_what_they_are_for_and_export_public_names(room):
    module = importlib.import_module(f"jaxsrda.{room}")
    assert module.__doc__ and len(inspect.cleandoc(module.__doc__).splitlines()) <= 4
    for name in module.__all__:
        assert not name.startswith("_") and getattr(module, name) is not None
        assert not inspect.ismodule(getattr(module, name)) or room == "networks", f"{room}.{name} is a module"


def test_import_loads_no_large_library():
    heavy = ("matplotlib", "cmocean", "xarray", "zarr", "tyro", "rich", "optuna", "scipy", "h5netcdf")
    heavy += ("flax", "optax", "orbax")
    # What jax itself loads (it may come with scipy) is not ours.
    code = (
        "import sys, jax, jax.numpy, jax.scipy.special; before = set(sys.modules); import jaxsrda; "
        f"print(sorted(name for name in set(sys.modules) - before if name.split('.')[0] in {heavy}))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
