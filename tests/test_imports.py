"""The import law: each module imports lower levels only, and heavy packages stay where they belong."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxsrda

PACKAGE = Path(jaxsrda.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
)

LEVELS = (
    ("checks", "config"),
    ("grid",),
    ("layouts", "scores", "solver"),
    ("observations", "testbed"),
    ("climatology", "enkf"),
    ("assimilators",),
    ("cycle",),
    ("sweep",),
    ("cache", "io", "plotting"),
    ("runs",),
    ("twin",),
    ("evaluate", "report"),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
SAME_LEVEL = {("config", "checks"), ("plotting", "io"), ("cache", "io")}

HOMES = {
    "matplotlib": {"plotting"},
    "cmocean": {"plotting"},
    "xarray": {"io", "plotting"},
    "zarr": {"io", "plotting"},
    "tyro": {"cli"},
    "rich": {"cli", "report"},
    "flax": set(),
    "experiments": set(),
    "benchmarks": set(),
    "tests": set(),
}
"""Where a package may be imported; networks and training may import flax besides."""

PROBES = {("cli", "matplotlib"), ("cli", "cmocean")}
"""Imports only to learn, before hours of work, whether an optional package is there."""


def imports(source: str) -> tuple[set[str], set[str]]:
    """Modules of the package, and top-level names of others, that a source imports anywhere in it."""
    own, others = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            if node.module == "jaxsrda":  # from jaxsrda import scores
                names = [f"jaxsrda.{alias.name}" for alias in node.names]
            else:
                names = [node.module]
        else:
            continue
        for name in names:
            if name == "jaxsrda" or name.startswith("jaxsrda."):
                own.add(name.removeprefix("jaxsrda").removeprefix("."))
            else:
                others.add(name.split(".")[0])
    return own, others


def violations(module: str, source: str) -> list[str]:
    """What a module imports against the law."""
    if module.split(".")[0] not in LEVEL and module.split(".")[0] not in ("networks", "training"):
        return [f"unknown module {module}: add it to LEVELS in tests/test_imports.py"]
    own, others = imports(source)
    found = []
    for name in sorted(own):
        if name in LEVEL and module in LEVEL:
            lower = LEVEL[name] < LEVEL[module] or (module, name) in SAME_LEVEL
            if not lower:
                found.append(f"{module} (level {LEVEL[module]}) imports {name} (level {LEVEL[name]})")
        elif name != "__version__" and name.split(".")[0] not in ("networks", "training"):
            found.append(f"{module} imports unknown module {name or 'jaxsrda itself'}: import from the module by name")
    for name in sorted(others & set(HOMES)):
        in_networks = name == "flax" and module.split(".")[0] in ("networks", "training")
        if module not in HOMES[name] and (module, name) not in PROBES and not in_networks:
            found.append(f"{module} imports {name}, which belongs in {sorted(HOMES[name]) or 'no module'}")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_import_law(module):
    path = PACKAGE / (module.replace(".", "/") + ".py")
    assert not violations(module, path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "module, source, message",
    [
        ("grid", "from jaxsrda.solver import rk2", r"grid \(level 1\) imports solver \(level 2\)"),
        ("grid", "def f():\n    from jaxsrda import twin", "grid .* imports twin"),
        ("solver", "if True:\n    import jaxsrda.scores", "solver .* imports scores"),  # the same level
        ("checks", "from jaxsrda.config import level", "checks .* imports config"),
        ("enkf", "import jaxsrda", "jaxsrda itself"),
        ("solver", "from jaxsrda import rk2", "unknown module rk2"),
        ("scores", "def f():\n    import matplotlib.pyplot as plt", "scores imports matplotlib"),
        ("twin", "from xarray import Dataset", "twin imports xarray"),
        ("cycle", "import flax.nnx", "cycle imports flax"),
        ("cli", "from experiments.cycle import main", "cli imports experiments"),
        ("novel", "", "unknown module novel: add it to LEVELS"),
    ],
)
def test_the_law_can_be_broken(module, source, message):
    found = violations(module, source)
    assert len(found) == 1 and re.search(message, found[0]), found


def test_the_law_allows_what_it_should():
    assert not violations("config", "from jaxsrda.checks import check_choice")
    assert not violations("plotting", "import matplotlib, xarray\nfrom jaxsrda.io import atomic_path")
    assert not violations("twin", "from jaxsrda import cycle, scores\nimport jax, numpy")
    assert not violations("networks.unet", "import flax.nnx")


def test_every_listed_module_exists():
    listed = {name for name in LEVEL if not (PACKAGE / f"{name}.py").exists()}
    assert not listed, f"{sorted(listed)} are gone: take them out of LEVELS in tests/test_imports.py"


def test_import_loads_no_optional_package():
    heavy = ("matplotlib", "cmocean", "xarray", "zarr", "flax", "tyro", "rich", "optuna", "scipy", "h5netcdf")
    # What jax itself loads (it may come with scipy) is not ours.
    code = (
        "import sys, jax, jax.numpy, jax.scipy.special; before = set(sys.modules); import jaxsrda; "
        f"print(sorted(name for name in set(sys.modules) - before if name.split('.')[0] in {heavy}))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("module", [*MODULES, "__init__"])
def test_modules_are_short(module):
    path = PACKAGE / (module.replace(".", "/") + ".py")
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines < 400, f"{module} has {lines} lines: split it"
