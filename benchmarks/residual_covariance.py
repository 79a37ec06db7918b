"""How what a model draws is correlated in space and between frames: the covariance that guidance by `oi` takes.

    python benchmarks/residual_covariance.py                      # the released model, windows of its own cycling

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
from machine import machine
from rich.console import Console

import jaxsrda
from jaxsrda.core.files import write_json
from jaxsrda.core.provenance import stamped, this_run
from jaxsrda.diffsrda.covariance import estimate_residual_covariance
from jaxsrda.diffsrda.model import encode
from jaxsrda.diffsrda.weights import default_weights
from jaxsrda.flow.grid import shells
from jaxsrda.training.dataset import WindowSet
from jaxsrda.training.job import gather, residual_covariance


@dataclasses.dataclass
class Measure:
    """Which model, on how many windows."""

    prior: str = "dual"
    """The prior whose windows are taken."""
    runs: int = 16
    """Training runs; the last 8 are used."""
    windows: int = 64
    """Windows, evenly through them."""
    out: Path = Path(__file__).parent / "results" / "residual_covariance.json"
    """JSON record."""


def variances(model: jaxsrda.Model, windows: WindowSet, count: int) -> list[float]:
    """Variance of each frame's coefficients, which `residual_covariance` takes for equal."""
    grid = jaxsrda.ChannelGrid(model.config.nx, model.config.ny)

    @jax.jit
    def residuals(condition: jax.Array, correction: jax.Array) -> jax.Array:
        features = encode(model, condition)
        return (correction / jnp.asarray(model.scale) - features.mean) / features.scale

    picked = np.array_split(np.linspace(0, len(windows) - 1, count).astype(int), max(1, count // 8))
    batches = (windows.take(some) for some in picked)
    r = jnp.concatenate([residuals(*(jnp.asarray(a, jnp.float32) for a in batch)) for batch in batches])
    spectra = [estimate_residual_covariance(grid, r[..., i : i + 1]).spectrum for i in range(model.config.frames)]
    return [float(spectrum[shells(grid)].mean()) for spectrum in spectra]


def main(measure: Measure) -> None:
    this_run()  # the code as it is now
    name, testbed = default_weights(measure.prior), jaxsrda.jet()
    model = jaxsrda.load_model(name)[0]
    setup = jaxsrda.Setup(testbed, jaxsrda.default_climatology())
    data = jaxsrda.DataConfig(prior=measure.prior, runs=measure.runs, extra_layouts=())
    job = jaxsrda.Job((data,), model.config, init=name, on_policy="best", open_loop=False)
    _, held_out = gather(job, setup, model, lambda *_: None)
    covariance = residual_covariance(model, held_out, measure.windows)
    print(dict(enumerate(np.round(covariance.spectrum, 3).tolist())))
    print(np.round(covariance.between, 3))
    record = {"settings": {k: v for k, v in dataclasses.asdict(measure).items() if k != "out"}, "weights": name}
    record |= {"machine": machine(), **covariance._asdict(), "variance": variances(model, held_out, measure.windows)}
    write_json(measure.out, stamped(record))
    Console().print(f"{measure.out}")


if __name__ == "__main__":
    main(tyro.cli(Measure))
