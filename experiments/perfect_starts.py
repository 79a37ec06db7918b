"""What the models lose by themselves: forecasts from perfect, truncated starts, no observations.

    python experiments/perfect_starts.py            # truths 0 … 9 at the fine level

At every assimilation time from t = 1 on a model starts from the truth brought to its grid; the MAER at leads 0, 0.25,
0.5, 0.75 and 1 bounds what a filter with that model can reach.  Models: HR and LR; HR with the truth's ν; Lagrangian
with 1, 2 and 5 substeps, and with its corrector.  Expected at leads 0.25 … 1, from one truth: LR 0.19 at the start; HR
0.044 … 0.080, with the truth's ν 0.010 … 0.012; Lagrangian with 2 substeps 0.014, 0.019, 0.023, 0.027, with the
corrector 0.011 … 0.018.  Obtained: results/perfect_starts.json beside this file.
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


def models(testbed: jaxsrda.Testbed) -> dict[str, jaxsrda.ForecastModel]:
    """The models by the name of their row."""
    tuned = testbed.vary(viscosity={testbed.analysis.name: testbed.truth.viscosity})
    rows = {level.name: jaxsrda.spectral(testbed, level) for level in (testbed.analysis, testbed.forecast)}
    rows[f"{tuned.analysis.name}, nu of the truth"] = jaxsrda.spectral(tuned, tuned.analysis)
    rows |= {f"lagrangian, {n} substeps": jaxsrda.lagrangian(testbed, substeps=n) for n in (1, 2, 5)}
    rows["lagrangian, 2 substeps, corrector"] = jaxsrda.lagrangian(testbed, substeps=2, corrector=True)
    return rows


def errors(testbed: jaxsrda.Testbed, model: jaxsrda.ForecastModel, truth: jax.Array) -> jax.Array:
    """MAER (starts, leads) of a model's forecasts from the truth [frames, nx, ny] on the analysis grid."""
    every = testbed.frames_per_cycle

    def one(start: jax.Array) -> jax.Array:
        window = jax.lax.dynamic_slice_in_dim(truth, start, testbed.window)
        run = model.forecast(model.from_analysis_grid(window[:1]))
        fields = model.to_analysis_grid(jnp.concatenate([run.frames[0], run.ahead]))
        return jax.vmap(jaxsrda.maer)(fields, window)

    return jax.vmap(one)(jnp.arange(every, truth.shape[0] - every, every))


def main(truths: int = 10, out: Path = Path(__file__).parent / "results" / "perfect_starts.json") -> None:
    """Run all models from perfect starts on truth seeds 0 … truths − 1."""
    this_run()  # the code as it is now
    testbed = jaxsrda.jet()
    truth = jnp.asarray(jaxsrda.simulate_truth(testbed, range(truths)))
    record = {}
    for name, model in models(testbed).items():
        by_truth = np.asarray(jax.lax.map(functools.partial(errors, testbed, model), truth)).mean(1)
        mean, low, high = jaxsrda.bootstrap_interval(by_truth)
        leads = [testbed.frame * i for i in range(testbed.window)]
        record[name] = stamped({"lead": leads, "maer": mean, "low": low, "high": high})
        print(name, " ".join(f"{m:.3f} [{a:.3f}, {b:.3f}]" for m, a, b in zip(mean, low, high)))
    write_json(out, {"truths": truths, **record})


if __name__ == "__main__":
    tyro.cli(main)
