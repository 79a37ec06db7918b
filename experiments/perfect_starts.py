"""What the models lose by themselves: forecasts from perfect, truncated starts, no observations.

    python experiments/perfect_starts.py            # truths 0 … 9 at the fine level

At every assimilation time from t = 1 on the HR and the LR model start from the truth brought to their grid; the MAER
at leads 0, 0.25, 0.5, 0.75 and 1 bounds what a filter with that model can reach.  Expected, from a prototype: LR 0.19
at the start.  Obtained: results/perfect_starts.json beside this file.
"""

from __future__ import annotations

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxsrda
from jaxsrda.core.files import write_json
from jaxsrda.core.provenance import stamped, this_run


def errors(testbed: jaxsrda.Testbed, level: jaxsrda.Level, truth: jax.Array) -> jax.Array:
    """MAER (starts, leads) of forecasts at `level` from the truth [frames, nx, ny] on the analysis grid."""
    model, every = jaxsrda.spectral(testbed, level), testbed.frames_per_cycle

    def one(start: jax.Array) -> jax.Array:
        window = jax.lax.dynamic_slice_in_dim(truth, start, testbed.window)
        run = model.forecast(model.from_analysis_grid(window[:1]))
        fields = model.to_analysis_grid(jnp.concatenate([run.frames[0], run.ahead]))
        return jax.vmap(jaxsrda.maer)(fields, window)

    return jax.vmap(one)(jnp.arange(every, truth.shape[0] - every, every))


def main(truths: int = 10, out: Path = Path(__file__).parent / "results" / "perfect_starts.json") -> None:
    """Run both models from perfect starts on truth seeds 0 … truths − 1."""
    this_run()  # the code as it is now
    testbed = jaxsrda.jet()
    truth = jnp.asarray(jaxsrda.simulate_truth(testbed, range(truths)))
    record = {}
    for level in (testbed.analysis, testbed.forecast):
        by_truth = np.asarray(jax.lax.map(functools.partial(errors, testbed, level), truth)).mean(1)
        mean, low, high = jaxsrda.bootstrap_interval(by_truth)
        leads = [testbed.frame * i for i in range(testbed.window)]
        record[level.name] = stamped({"lead": leads, "maer": mean, "low": low, "high": high})
        print(level.name, " ".join(f"{m:.3f} [{a:.3f}, {b:.3f}]" for m, a, b in zip(mean, low, high)))
    write_json(out, {"truths": truths, **record})


if __name__ == "__main__":
    tyro.cli(main)
