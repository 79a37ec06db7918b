"""What the models lose by themselves: forecasts from perfect, truncated starts, no observations.

    python experiments/perfect_starts.py            # truths 0 … 9 at the fine level

At every assimilation time from t = 1 on the HR and the LR model start from the truth brought to their grid; the MAER
at leads 0, 0.25, 0.5, 0.75 and 1 bounds what a filter with that model can reach.  Expected, from a prototype: LR 0.19
at the start.  Obtained: results/perfect_starts.json beside this file.
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxsrda
from jaxsrda.core.files import write_json
from jaxsrda.flow.grid import regrid, regrid_hat, to_physical, to_spectral
from jaxsrda.flow.simulate import integrate
from jaxsrda.flow.testbed import FRAMES_PER_CYCLE, LEVELS, Level, level_grid
from jaxsrda.scoring.point import maer


def errors(level: Level, truth: jax.Array) -> jax.Array:
    """MAER (starts, 5) by lead of forecasts at `level` from the truth [frames, nx, ny] on the HR grid."""
    hr, grid = level_grid(LEVELS["hr"]), level_grid(level)
    leads = FRAMES_PER_CYCLE + 1

    def one(start: jax.Array) -> jax.Array:
        window = jax.lax.dynamic_slice_in_dim(truth, start, leads)
        run = integrate(level, to_spectral(grid, regrid(hr, grid, window[0])), leads)
        fields = jax.vmap(lambda state: to_physical(hr, regrid_hat(grid, hr, state)))(run.omega_hat)
        return jax.vmap(maer)(fields, window)

    return jax.vmap(one)(jnp.arange(FRAMES_PER_CYCLE, truth.shape[0] - leads + 1, FRAMES_PER_CYCLE))


def main(truths: int = 10, out: Path = Path(__file__).parent / "results" / "perfect_starts.json") -> None:
    """Run both models from perfect starts on truth seeds 0 … truths − 1."""
    truth = jnp.asarray(jaxsrda.simulate_truth(LEVELS["fine"], list(range(truths))))
    record = {}
    for name in ("hr", "lr"):
        level = LEVELS[name]
        by_truth = np.asarray(jax.lax.map(lambda frames, level=level: errors(level, frames), truth)).mean(1)
        mean, low, high = jaxsrda.bootstrap_interval(by_truth)
        record[name] = {"lead": [0.25 * i for i in range(5)], "maer": mean, "low": low, "high": high}
        print(name, " ".join(f"{m:.3f} [{a:.3f}, {b:.3f}]" for m, a, b in zip(mean, low, high)))
    write_json(out, {"truths": truths, **record})


if __name__ == "__main__":
    tyro.cli(main)
