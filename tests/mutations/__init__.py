"""Mutations: one wrong factor, sign or index each, and the tests that have to notice it; a table a room of the package.

    python tests/mutations [NAME …]      apply each to a copy of the package, run its tests, say what they did

tests/project/test_mutations.py does the same under pytest.  A mutation that no test notices is a formula without one.
"""

from __future__ import annotations

from mutations.benchmark import BENCHMARK
from mutations.core import CORE
from mutations.cycling import CYCLING
from mutations.diffsrda import DIFFSRDA
from mutations.diffusion import DIFFUSION
from mutations.experiment import EXPERIMENT
from mutations.filters import FILTERS
from mutations.flow import FLOW
from mutations.guidance import GUIDANCE
from mutations.mutation import Mutation
from mutations.observing import OBSERVING
from mutations.runner import PACKAGE, ROOT, copy_package, failed, mutate, run_tests
from mutations.scoring import SCORING
from mutations.training import TRAINING

MUTATIONS = (
    *CORE,
    *FLOW,
    *OBSERVING,
    *FILTERS,
    *SCORING,
    *CYCLING,
    *DIFFUSION,
    *GUIDANCE,
    *DIFFSRDA,
    *EXPERIMENT,
    *TRAINING,
    *BENCHMARK,
)

__all__ = ["MUTATIONS", "PACKAGE", "ROOT", "Mutation", "copy_package", "failed", "mutate", "run_tests"]
