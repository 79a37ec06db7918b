"""The import law: each module imports lower levels only, and heavy packages stay where they belong."""

import ast
import itertools
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
PACKAGES = ("jaxsrda", "jaxsrda.diffusion", "jaxsrda.networks")

DIFFUSION = ("diffusion.schedules", "diffusion.denoiser", "diffusion.samplers", "diffusion.guidance")
NETWORKS = (
    "networks.layers",
    "networks.unet",
    "networks.paper",
    "networks.srda",
    "networks.codebook",
    "networks.autoencoder",
)

LEVELS = (
    ("checks", "config"),
    ("grid",),
    ("io", "layouts", "linalg", "scores", "solver"),
    ("cache", "observations", "plotting", "testbed"),
    ("climatology", "enkf", "loop", *DIFFUSION, *NETWORKS, "runs"),
    ("assimilators", "training_runs"),
    ("conditioning", "latent"),
    ("diffsrda",),
    ("data", "model"),
    ("distillation", "drawing"),
    ("datasets", "training", "weights"),
    ("autoencoding", "methods"),
    ("cycle",),
    ("sensing", "sweep"),
    ("twin",),
    ("evaluate", "fit", "report"),
    ("train",),
    ("cli_train",),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
SAME_LEVEL = {
    ("config", "checks"),
    *((later, earlier) for family in (DIFFUSION, NETWORKS) for earlier, later in itertools.combinations(family, 2)),
}
"""Pairs (who imports, whom) that share a level."""

APART = (("enkf",), DIFFUSION, NETWORKS)
"""Families that know nothing of one another: what joins them lies above."""

HOMES = {
    "matplotlib": {"plotting"},
    "cmocean": {"plotting"},
    "xarray": {"io", "plotting"},
    "zarr": {"io", "plotting"},
    "tyro": {"cli"},
    "rich": {"cli", "cli_train", "report"},
    "flax": {"model", *NETWORKS},
    "optax": {"training", "autoencoding"},
    "orbax": {"loop"},
    "experiments": set(),
    "benchmarks": set(),
    "tests": set(),
}
"""Where a package may be imported: flax where networks are written and where they become pure functions."""

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
            if node.module in PACKAGES:  # from jaxsrda import scores
                names = [f"{node.module}.{alias.name}" for alias in node.names]
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


def family(module: str) -> tuple[str, ...]:
    """The family of APART that a module belongs to; empty if none."""
    return next((names for names in APART if module in names), ())


def violations(module: str, source: str) -> list[str]:
    """What a module imports against the law."""
    if module not in LEVEL:
        return [f"unknown module {module}: add it to LEVELS in tests/test_imports.py"]
    own, others = imports(source)
    found = []
    for name in sorted(own):
        if name in LEVEL:
            lower = LEVEL[name] < LEVEL[module] or (module, name) in SAME_LEVEL
            if family(name) and family(module) and family(name) != family(module):
                found.append(f"{module} imports {name}: enkf, diffusion and networks stay apart")
            elif not lower:
                found.append(f"{module} (level {LEVEL[module]}) imports {name} (level {LEVEL[name]})")
        elif name != "__version__":
            found.append(f"{module} imports unknown module {name or 'jaxsrda itself'}: import from the module by name")
    for name in sorted(others & set(HOMES)):
        if module not in HOMES[name] and (module, name) not in PROBES:
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
        ("networks.novel", "", "unknown module networks.novel: add it to LEVELS"),
        ("model", "from jaxsrda.networks.novel import Net", "unknown module networks.novel"),
        ("model", "from jaxsrda.networks import unet, novel", "unknown module networks.novel"),
        ("diffusion.schedules", "from jaxsrda.diffusion import denoiser", r"schedules .* imports diffusion.denoiser"),
        ("networks.unet", "from jaxsrda.networks.paper import PaperUNet", r"unet .* imports networks.paper"),
        ("networks.layers", "import jaxsrda.diffsrda", r"networks.layers .* imports diffsrda"),
        ("conditioning", "from jaxsrda.diffsrda import Prior", "conditioning .* imports diffsrda"),
        ("diffsrda", "def f():\n    from jaxsrda.model import Model", "diffsrda .* imports model"),
        ("cycle", "from jaxsrda import sweep", "cycle .* imports sweep"),
        ("datasets", "from jaxsrda import twin", "datasets .* imports twin"),
        ("diffusion.samplers", "from flax import nnx", "diffusion.samplers imports flax"),
        ("training", "from flax import nnx", "training imports flax"),
        ("model", "import optax", "model imports optax"),
        ("train", "import orbax.checkpoint as ocp", "train imports orbax"),
        ("train", "from rich.console import Console", "train imports rich"),
    ],
)
def test_the_law_can_be_broken(module, source, message):
    found = violations(module, source)
    assert len(found) == 1 and re.search(message, found[0]), found


def test_the_law_allows_what_it_should():
    assert not violations("config", "from jaxsrda.checks import check_choice")
    assert not violations("plotting", "import matplotlib, xarray\nfrom jaxsrda.io import atomic_path")
    assert not violations("twin", "from jaxsrda import cycle, scores\nimport jax, numpy")
    assert not violations("networks.paper", "import flax.nnx\nfrom jaxsrda.networks import layers, unet")
    assert not violations("diffusion.samplers", "from jaxsrda.diffusion.schedules import sigma_grid")
    assert not violations("model", "from flax import nnx\nfrom jaxsrda.networks.unet import UNet")
    assert not violations("training", "import optax") and not violations("loop", "import orbax.checkpoint")


@pytest.mark.parametrize("module, name", [*itertools.permutations(["enkf", DIFFUSION[-1], NETWORKS[-1]], 2)])
def test_filters_diffusion_and_networks_stay_apart(module, name):
    found = violations(module, f"def f():\n    import jaxsrda.{name}")
    assert found == [f"{module} imports {name}: enkf, diffusion and networks stay apart"]


def test_families_are_whole():
    """A module added to diffusion or networks belongs to its family, and their packages import nothing."""
    for folder, names in (("diffusion", DIFFUSION), ("networks", NETWORKS)):
        assert {m for m in MODULES if m.startswith(f"{folder}.")} == set(names)
        assert imports((PACKAGE / folder / "__init__.py").read_text(encoding="utf-8")) == (set(), set())


def test_every_listed_module_exists():
    listed = {name for name in LEVEL if name not in MODULES}
    assert not listed, f"{sorted(listed)} are gone: take them out of LEVELS in tests/test_imports.py"


def test_import_loads_no_optional_package():
    heavy = ("matplotlib", "cmocean", "xarray", "zarr", "tyro", "rich", "optuna", "scipy", "h5netcdf")
    heavy += ("flax", "optax", "orbax")
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
