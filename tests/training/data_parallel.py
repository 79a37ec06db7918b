"""A process with 8 devices: `python data_parallel.py buffer|steps FOLDER` prints, as JSON, what a training on several
devices is beside the same on one; `python data_parallel.py process FOLDER PORT I` is one of two processes that share
a training, and another time goes on with it.
"""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_disable_most_optimizations", True)

from helpers import TESTBED  # noqa: E402

from jaxsrda.core.devices import gathered, mesh_of, placed  # noqa: E402
from jaxsrda.diffsrda.model import ModelConfig  # noqa: E402
from jaxsrda.networks.unet import PRESETS  # noqa: E402
from jaxsrda.training import stream_run  # noqa: E402
from jaxsrda.training.buffer import empty_buffer, write  # noqa: E402
from jaxsrda.training.loss import TrainConfig  # noqa: E402
from jaxsrda.training.programs import programs  # noqa: E402
from jaxsrda.training.stream import Fixed, StreamConfig, first_state  # noqa: E402
from jaxsrda.training.windows import Windows  # noqa: E402

PRESETS["tiny"] = {"widths": (32,), "blocks": 1, "denoiser_widths": (16,)}
MODEL = ModelConfig.of(TESTBED, network="tiny")
TRAINING = TrainConfig(samples=24, batch=8, learning_rate=1e-3, warmup=2, cooling=0.25, noises=1)
STREAM = StreamConfig(capacity=16, dispatch=1, data_share=0.5)


def windows(count, seed=0):
    """Windows whose corrections are a part of their conditions."""
    rng = np.random.default_rng(seed)
    condition = rng.normal(size=(count, MODEL.nx, MODEL.ny, MODEL.channels)).astype(np.float16)
    return Windows(jnp.asarray(condition), jnp.asarray(condition[..., : MODEL.frames]))


def buffers():
    """Lots written into a buffer on 8 devices, at places that cross from one to the next, and into one on one."""
    mesh, rows = mesh_of("all", data=16), []
    one, many = (empty_buffer(16, MODEL, where) for where in (None, mesh))
    for seed, count in enumerate((5, 8, 6, 1)):
        one = write(one, windows(count, seed))
        many = write(many, placed(windows(count, seed), mesh))
        same = all(np.array_equal(a, b) for a, b in zip(gathered(one.windows), gathered(many.windows)))
        rows.append([same, one.fills == many.fills])
    shards = [shard.data.shape[0] for shard in many.windows.condition.addressable_shards]
    picked = jax.jit(lambda windows, at: jax.tree.map(lambda a: a[at], windows))
    text = picked.lower(many.windows, placed(jnp.arange(4), mesh)).compile().as_text()
    return {"rows": rows, "shards": shards, "gathers_all": " all-gather(" in text}


def made(mesh):
    """The programs of a training whose windows are made of nothing but their key."""
    own = programs(MODEL, TRAINING, STREAM, {}, mesh=mesh)

    def make(key, truths, policy):
        return placed(windows(4, seed=int(jax.random.bits(key)) % 2**31), mesh)

    return own._replace(makers={"a": (make, 2)})


def one_step(own):
    """The loss, the gradient's size and the optimizer's state after a step."""
    buffer = write(empty_buffer(16, MODEL, own.mesh), placed(windows(12), own.mesh))
    state = placed(first_state(MODEL, TRAINING), own.mesh)
    numbers = jnp.int32(12), jnp.float32(1e-3), jnp.full(MODEL.frames, 0.7, jnp.float32), jax.random.key(3)
    numbers = placed(numbers, own.mesh)
    state, metrics = own.steps(state, placed(Fixed(), own.mesh), buffer.windows, *numbers)
    leaves = [np.asarray(a, float).ravel() for a in jax.tree.leaves(gathered(state.optimizer)) if a.ndim]
    return {name: float(value) for name, value in metrics.items()}, np.concatenate(leaves)


def steps(folder):
    """A step on 1, 2 and 8 devices; and trainings that go on where others ended, on other devices."""
    own = {n: made(mesh_of(n, data=8)) for n in (1, 2, 8)}
    found = {n: one_step(each) for n, each in own.items()}
    size = np.abs(found[1][1]).max()
    rows = {n: [metrics, float(np.abs(moments - found[1][1]).max() / size)] for n, (metrics, moments) in found.items()}
    truths = stream_run.Truths(jnp.zeros((6, 2, 3, 3)), jnp.zeros((1, 2, 3, 3)))

    def run(devices, samples, where=None):
        training = dataclasses.replace(TRAINING, samples=samples)
        done = stream_run.run(MODEL, training, STREAM, own[devices], truths, folder=where)
        return [[row["samples"], row["loss"]] for row in done.curve]

    curves = {"1": run(1, 24)}
    for first, then in ((8, 1), (1, 8)):
        where = folder / f"{first}-{then}"
        run(first, 16, where)
        curves[f"{first}, {then}"] = run(then, 24, where)
    return {"steps": rows, "curves": curves}


def process(folder, port, number):
    """A training of two processes, with a checkpoint on the way: the curve that each of them has."""
    jax.distributed.initialize(f"localhost:{port}", 2, number, cluster_detection_method="deactivate")
    try:
        mesh_of("all", data=3)
        refused = ""
    except ValueError as error:
        refused = str(error)
    mesh = mesh_of("all", data=8)
    own, truths = made(mesh), stream_run.Truths(jnp.zeros((6, 2, 3, 3)), jnp.zeros((1, 2, 3, 3)))
    for samples in (16, 24):
        training = dataclasses.replace(TRAINING, samples=samples)
        done = stream_run.run(MODEL, training, STREAM, own, truths, folder=folder)
    return {"curve": [[row["samples"], row["loss"]] for row in done.curve], "devices": mesh.size, "refused": refused}


if __name__ == "__main__":
    what, folder, *more = sys.argv[1:]
    if what == "process":
        print(json.dumps(process(Path(folder), *map(int, more))))
    else:
        assert len(jax.devices()) == 8
        print(json.dumps(buffers() if what == "buffer" else steps(Path(folder))))
