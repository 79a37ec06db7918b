"""The benchmark: protocols that fix flow, truths and sensors, and rows of scores that methods of anyone get under them.

`PROTOCOLS` are frozen values; `run_benchmark(method, protocol)` gives a `Row`.
"""

from jaxsrda.benchmark.analyses import score_analyses
from jaxsrda.benchmark.entrant import Entrant, entrant
from jaxsrda.benchmark.protocol import PROTOCOLS, Protocol, Task, protocol_called
from jaxsrda.benchmark.row import Row, read_row
from jaxsrda.benchmark.run import REFERENCES, Selection, run_benchmark

__all__ = [
    "PROTOCOLS",
    "REFERENCES",
    "Entrant",
    "Protocol",
    "Row",
    "Selection",
    "Task",
    "entrant",
    "protocol_called",
    "read_row",
    "run_benchmark",
    "score_analyses",
]
