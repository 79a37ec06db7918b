"""The networks' convolutions on this machine: forward and with both gradients, own product against XLA's convolution.

    python -m benchmarks.studies.convolution --out benchmarks/results/convolution.json

Sizes are those of the preset small at a batch of 16; a training step of that preset comes last.  GFLOP/s count the
products of the convolution alone, three times over where gradients are taken.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxsrda
from benchmarks.machine import machine
from jaxsrda.core.files import write_json
from jaxsrda.core.provenance import stamped, this_run
from jaxsrda.networks.layers import DIMENSIONS, convolve
from jaxsrda.training.stream import Fixed, first_state, make_steps
from jaxsrda.training.windows import Windows

SIZES = ((16, 32, 17, 64), (32, 32, 17, 48), (16, 16, 9, 128), (16, 8, 5, 192))
"""Batch, nodes and channels."""


@dataclasses.dataclass
class Benchmark:
    """What to time."""

    repeats: int = 10
    """Calls timed; the median counts."""
    network: str = "small"
    """Preset of the training step."""
    out: Path = Path(__file__).parents[1] / "results" / "convolution.json"
    """JSON record."""


def plain(padded: jax.Array, kernel: jax.Array) -> jax.Array:
    """XLA's convolution, with its own gradients."""
    return jax.lax.conv_general_dilated(padded, kernel, (1, 1), "VALID", dimension_numbers=DIMENSIONS)


def median_seconds(function: Callable, arguments: tuple, repeats: int) -> float:
    jax.block_until_ready(function(*arguments))
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def convolutions(repeats: int) -> list[dict]:
    rng, rows = np.random.default_rng(0), []
    for batch, nx, ny, channels in SIZES:
        products = 2 * batch * nx * ny * 9 * channels**2 / 1e9
        for dtype in (jnp.float32, jnp.bfloat16):
            padded = jnp.asarray(rng.normal(size=(batch, nx + 2, ny + 2, channels)), dtype)
            kernel = jnp.asarray(rng.normal(size=(3, 3, channels, channels)), dtype)
            for name, function in (("xla", plain), ("own", convolve)):

                def pulled(padded, kernel, function=function):
                    out, pull = jax.vjp(function, padded, kernel)
                    return out, *pull(out)

                forward = median_seconds(jax.jit(function), (padded, kernel), repeats)
                both = median_seconds(jax.jit(pulled), (padded, kernel), repeats)
                row = {
                    "size": [batch, nx, ny, channels],
                    "dtype": jnp.dtype(dtype).name,
                    "by": name,
                    "forward_ms": 1e3 * forward,
                    "with_gradients_ms": 1e3 * both,
                    "forward_gflops": products / forward,
                    "with_gradients_gflops": 3 * products / both,
                }
                rows.append(stamped(row))
                print(
                    "{size} {dtype:8} {by}: {forward_gflops:6.0f}, {with_gradients_gflops:6.0f} GFLOP/s".format(
                        **rows[-1]
                    )
                )
    return rows


def training_steps(network: str, repeats: int) -> list[dict]:
    rng, rows = np.random.default_rng(0), []
    for half in (False, True):
        model, config = jaxsrda.ModelConfig(network=network), jaxsrda.TrainConfig(bfloat16=half)
        both = (rng.normal(size=(config.batch, model.nx, model.ny, n)) for n in (model.channels, model.frames))
        windows = Windows(*(jnp.asarray(a, jnp.float16) for a in both))
        state, step = first_state(model, config), jax.jit(make_steps(model, config, 1), donate_argnums=0)
        numbers = jnp.int32(config.batch), jnp.float32(config.learning_rate), jnp.ones(model.frames, jnp.float32)
        seconds = []
        for _ in range(repeats + 1):  # the first compiles
            began = time.perf_counter()
            state, _ = jax.block_until_ready(step(state, Fixed(), windows, *numbers, jax.random.key(0)))
            seconds.append(time.perf_counter() - began)
        rate = config.batch / statistics.median(seconds[1:])
        row = {"network": network, "bfloat16": half, "compile_seconds": seconds[0], "samples_per_s": rate}
        rows.append(stamped(row))
        print(f"training step, {network}, {'bfloat16' if half else 'float32'}: {rate:.1f} samples/s")
    return rows


def main(benchmark: Benchmark) -> None:
    this_run()  # the code as it is now
    record = stamped({"machine": machine(), "convolutions": convolutions(benchmark.repeats)})
    record["training"] = training_steps(benchmark.network, benchmark.repeats)
    write_json(benchmark.out, record)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
