"""Both precisions in one process: x64 is on, types never promote silently, and tests name their dtype.

Workers of one run, and the processes that tests start, share one cache of compiled programs, and each worker has a core
of its own where there are enough.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile

CACHE = os.environ.get("JAXSRDA_CACHE")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", os.path.join(CACHE, "xla") if CACHE else tempfile.mkdtemp(prefix="jaxsrda-xla-")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
WORKER = re.fullmatch(r"gw(\d+)", os.environ.get("PYTEST_XDIST_WORKER", ""))
if WORKER and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) >= int(os.environ["PYTEST_XDIST_WORKER_COUNT"]):
        # XLA takes as many threads as it may use cores; more would only get in one another's way.
        os.sched_setaffinity(0, {cores[int(WORKER[1])]})

import jax  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from timing import listed  # noqa: E402

# Small arrays: the time goes into compiling, so compile fast rather than well.  Processes that tests start do not.
flags = os.environ.get("XLA_FLAGS", "")
quick = f"{flags} --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true".strip()
os.environ["XLA_FLAGS"] = os.environ["QUICK_XLA_FLAGS"] = quick
jax.devices()  # reads the flags
os.environ["XLA_FLAGS"] = flags

# The same examples in every run; `--hypothesis-profile=default` tries new ones.
settings.register_profile("fixed", deadline=None, max_examples=20, derandomize=True, database=None)
settings.load_profile("fixed")

# Where tests run in the background of a script, interrupts are ignored; those of tests are not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """What `slow.txt` lists is slow; a name there that no test has any more is an error."""
    slow, found = set(listed()), {item.nodeid for item in items}
    for item in items:
        if item.nodeid in slow:
            item.add_marker(pytest.mark.slow)
    if not any("::" in argument for argument in config.args):
        whole = {node.partition("::")[0] for node in found}
        gone = sorted(node for node in slow - found if node.partition("::")[0] in whole)
        if gone:
            raise pytest.UsageError(f"tests/slow.txt names tests that are gone: {', '.join(gone)}; mend it")


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def smallest(monkeypatch):
    """The network preset tiny, smaller still."""
    from jaxsrda.diffsrda.model import network
    from jaxsrda.networks.unet import PRESETS

    monkeypatch.setitem(PRESETS, "tiny", {"widths": (32,), "blocks": 1, "denoiser_widths": (16,)})
    network.cache_clear()
    yield
    network.cache_clear()


@pytest.fixture
def disk(tmp_path):
    """A small file system, where one may be mounted; `helpers.fill` leaves little of it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
