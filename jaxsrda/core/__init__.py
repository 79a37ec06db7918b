"""What every room uses: checks of input, linear algebra, parameter trees, files and caches that survive a kill.

Nothing here knows of the ocean, of data assimilation or of networks.
"""

from jaxsrda.core.cache import cache_dir, cached_npz, content_hash, scratch_dir
from jaxsrda.core.checkpoints import Checkpoint, Checkpoints
from jaxsrda.core.checks import check_choice, check_finite, check_fraction, check_positive, check_shape
from jaxsrda.core.files import atomic_path, check_writable, write_json, write_npz
from jaxsrda.core.linalg import cholesky, matmul, solve
from jaxsrda.core.progress import Progress, duration
from jaxsrda.core.provenance import same_code, source_hash, stamped, this_run
from jaxsrda.core.records import described, from_json, key_of, renamed, to_json
from jaxsrda.core.trees import digest, flatten, half, unflatten

__all__ = [
    "Checkpoint",
    "Checkpoints",
    "Progress",
    "atomic_path",
    "cache_dir",
    "cached_npz",
    "check_choice",
    "check_finite",
    "check_fraction",
    "check_positive",
    "check_shape",
    "check_writable",
    "cholesky",
    "content_hash",
    "described",
    "digest",
    "duration",
    "flatten",
    "from_json",
    "half",
    "key_of",
    "matmul",
    "renamed",
    "same_code",
    "scratch_dir",
    "solve",
    "source_hash",
    "stamped",
    "this_run",
    "to_json",
    "unflatten",
    "write_json",
    "write_npz",
]
