"""How what a model draws is correlated in space and between frames: the covariance that guidance by `oi` takes.

    python -m benchmarks.studies.residual_covariance  # the released model, windows of its own cycling

Residuals r = (truth − guess − mean)/scale of validation windows, in the units that samples are drawn in: variance of
the orthonormal Fourier × sine coefficients by wavenumber, and correlations between frames, as training estimates them
for the weights file; and the variance of each frame's coefficients.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

import jaxsrda
from benchmarks.machine import machine
from jaxsrda.core.files import write_json
from jaxsrda.core.provenance import stamped, this_run
from jaxsrda.diffsrda.covariance import estimate_residual_covariance
from jaxsrda.diffsrda.model import encode
from jaxsrda.diffsrda.weights import default_weights
from jaxsrda.flow.grid import shells
from jaxsrda.training.job import residual_covariance
from jaxsrda.training.programs import makers
from jaxsrda.training.sources import Policy
from jaxsrda.training.stream import StreamConfig, host
from jaxsrda.training.truths import BLOCK, training_runs
from jaxsrda.training.windows import Windows


@dataclasses.dataclass
class Measure:
    """Which model, on how many windows."""

    prior: str = "dual"
    """The prior whose windows are taken."""
    runs: int = 16
    """Training runs; the last 8 are used."""
    windows: int = 64
    """Windows, evenly through them."""
    out: Path = Path(__file__).parents[1] / "results" / "residual_covariance.json"
    """JSON record."""


def variances(model: jaxsrda.Model, windows: Windows) -> list[float]:
    """Variance of each frame's coefficients, which `residual_covariance` takes for equal."""
    grid = jaxsrda.ChannelGrid(model.config.nx, model.config.ny)

    @jax.jit
    def residuals(condition: jax.Array, correction: jax.Array) -> jax.Array:
        features = encode(model, condition)
        return (correction / jnp.asarray(model.scale) - features.mean) / features.scale

    batches = (jax.tree.map(lambda a, i=i: a[i : i + 8], windows) for i in range(0, len(windows.condition), 8))
    r = jnp.concatenate([residuals(*(jnp.asarray(a, jnp.float32) for a in batch)) for batch in batches])
    spectra = [estimate_residual_covariance(grid, r[..., i : i + 1]).spectrum for i in range(model.config.frames)]
    return [float(spectrum[shells(grid)].mean()) for spectrum in spectra]


def main(measure: Measure) -> None:
    this_run()  # the code as it is now
    name, testbed = default_weights(measure.prior), jaxsrda.jet()
    model = jaxsrda.load_model(name)[0]
    setup = jaxsrda.Setup(testbed, jaxsrda.default_climatology())
    data = jaxsrda.DataConfig(prior=measure.prior, runs=measure.runs, extra_layouts=())
    maker = makers(setup, model.config, (data,), StreamConfig(side_by_side=BLOCK))[measure.prior]
    truths = jnp.asarray(training_runs(testbed, data.truth_level, BLOCK, first=measure.runs - BLOCK))
    made = jax.jit(maker.make)(jax.random.key(0), truths, Policy(model.params, jnp.asarray(model.scale)))
    held_out = host(made, measure.windows)
    covariance = residual_covariance(model, held_out)
    print(dict(enumerate(np.round(covariance.spectrum, 3).tolist())))
    print(np.round(covariance.between, 3))
    record = {"settings": {k: v for k, v in dataclasses.asdict(measure).items() if k != "out"}, "weights": name}
    record |= {"machine": machine(), **covariance._asdict(), "variance": variances(model, held_out)}
    write_json(measure.out, stamped(record))
    Console().print(f"{measure.out}")


if __name__ == "__main__":
    main(tyro.cli(Measure))
