"""How what a model draws is correlated in space and between frames: the covariance that guidance by `oi` takes.

    python benchmarks/residual_covariance.py                      # the released model, windows of its own cycling

Residuals r = (truth − guess − mean)/scale of validation windows, in the units that samples are drawn in: variance of
the orthonormal Fourier × sine coefficients by wavenumber, and correlations between frames.  RESIDUAL_SPECTRUM and
RESIDUAL_CORRELATION of jaxsrda/drawing.py are fitted to these by eye.
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
from jaxsrda.diffsrda.model import encode
from jaxsrda.diffsrda.weights import default_weights, load_model
from jaxsrda.flow.grid import mode_weights, shells, to_spectral
from jaxsrda.training.dataset import DataConfig
from jaxsrda.training.job import Job, gather


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


def main(measure: Measure) -> None:
    name = default_weights(measure.prior)
    model = load_model(name)[0]
    setup = jaxsrda.Setup(jaxsrda.default_climatology())
    data = DataConfig(prior=measure.prior, runs=measure.runs, others=())
    job = Job((data,), model.config, init=name, visit="best", open_loop=False)
    _, held_out = gather(job, setup, model, lambda *_: None)
    picked = np.linspace(0, len(held_out) - 1, measure.windows).astype(int)
    grid = setup.grid

    @jax.jit
    def coefficients(condition: jax.Array, correction: jax.Array) -> jax.Array:
        """Orthonormal coefficients (windows, 2K + 1, L, 5) of r."""
        features = encode(model, condition)
        residual = (correction / jnp.asarray(model.scale) - features.mean) / features.scale
        hat = jax.vmap(jax.vmap(lambda a: to_spectral(grid, a), -1, -1))(residual)
        norm = mode_weights(grid, hat.dtype) * grid.nx * (grid.ny - 1)
        return hat * jnp.sqrt(norm)[..., None]

    parts = []
    for i in range(0, measure.windows, 8):
        windows = held_out.take(picked[i : i + 8])
        parts.append(coefficients(*(jnp.asarray(a, jnp.float32) for a in windows)))
    hat = np.concatenate([np.asarray(part, float) for part in parts])
    between = np.einsum("wklf,wklg->fg", hat, hat) / hat[..., 0].size
    deviations = np.sqrt(np.diag(between))
    shell = shells(grid)
    count = np.bincount(shell.ravel())
    spectrum = np.bincount(shell.ravel(), (hat**2).mean((0, 3)).ravel()) / np.maximum(count, 1)
    wavenumber = np.arange(len(spectrum))
    print(dict(zip(wavenumber.tolist(), np.round(spectrum, 3).tolist())))
    print(np.round(between / np.outer(deviations, deviations), 3))
    record = {"settings": {k: v for k, v in dataclasses.asdict(measure).items() if k != "out"}, "weights": name}
    record |= {"machine": machine(), "spectrum": spectrum, "between": between / np.outer(deviations, deviations)}
    record |= {"variance": deviations**2}
    write_json(measure.out, record)
    Console().print(f"{measure.out}")


if __name__ == "__main__":
    main(tyro.cli(Measure))
