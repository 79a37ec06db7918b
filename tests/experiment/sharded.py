"""A process with many devices: `python sharded.py TRUTHS DEVICES METHOD …` runs methods on one device and on others, a
number, all, or CASESxMEMBERS, and prints a line of JSON for each: how far apart they are, and how the work was divided.
"""

import dataclasses
import functools
import json
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)

from helpers import SENSORS, TESTBED, setup, truth  # noqa: E402

from jaxsrda.core import draws  # noqa: E402
from jaxsrda.cycling.assimilator import Assimilator  # noqa: E402
from jaxsrda.diffsrda.config import DiffSRDAConfig  # noqa: E402
from jaxsrda.diffsrda.latent import LatentSpace  # noqa: E402
from jaxsrda.diffsrda.model import Model, ModelConfig, network  # noqa: E402
from jaxsrda.experiment import scan  # noqa: E402
from jaxsrda.experiment.experiment import Experiment  # noqa: E402
from jaxsrda.experiment.registry import METHODS  # noqa: E402
from jaxsrda.experiment.run import run  # noqa: E402
from jaxsrda.filters.config import FilterConfig  # noqa: E402
from jaxsrda.networks.autoencoder import PRESETS as AUTOENCODERS  # noqa: E402
from jaxsrda.networks.autoencoder import AutoencoderConfig, functions  # noqa: E402
from jaxsrda.networks.unet import PRESETS as UNETS  # noqa: E402


@functools.cache
def toy():
    """Four members drawn towards the observations' mean, each with noise of its own."""

    here = setup()

    def init(key):
        return draws.normal(key, (4, *here.grid.shape), here.dtype)

    def step(key, state, observations):
        seen = observations.mask.astype(here.dtype)
        mean = (seen * observations.values).sum() / seen.sum()
        state = 0.9 * state + 0.1 * mean + 0.1 * draws.normal(key, state.shape, here.dtype)
        frames = jnp.repeat(state[:, None], here.testbed.frames_per_cycle, axis=1)
        return state, here.window(here.assimilated(observations), frames)

    return Assimilator(init, step, 4)


def experiment(method, truths=2, cycles=2, members=4):
    """A method with few members over drifting fields."""
    options = {"sensors": SENSORS, "climatology": setup().climatology, "testbed": TESTBED, "keep": "members"}
    if method == "toy":
        method = toy()
    elif isinstance(METHODS[method].config, FilterConfig):
        options["config"] = FilterConfig(members=members, localization=1.0, additive=0.1)
    else:
        options |= learned(method, members)
    return Experiment(method, np.stack([np.asarray(truth(cycles, seed=i)) for i in range(truths)]), **options)


def loud(shapes, seed=1):
    """Weights of the size that keeps signals as they are."""
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])) for leaf in leaves]
    return jax.tree.unflatten(tree, [np.asarray(a, np.float32) for a in arrays])


def learned(method, members):
    """Random weights of a very small network, as good as any here."""
    UNETS["tiny"] = {"widths": (32,), "blocks": 1, "denoiser_widths": (16,)}
    AUTOENCODERS["kl"] = AutoencoderConfig(channels=3, hidden=16, blocks=1)
    latent, space = "kl" if method == "latent-diffsrda" else "", None
    target, sampler = ("regression", "mean") if method == "cnn" else ("residual", "dpmpp-2m")
    kind = ModelConfig.of(TESTBED, network="tiny", priors=("enkf-sr",), latent=latent, target=target)
    if latent:
        coder = loud(jax.eval_shape(lambda: functions(AUTOENCODERS["kl"]).initial(0)))
        space = LatentSpace(coder, np.zeros((0, 3), np.float32), np.linspace(0.5, 1.5, 3, dtype=np.float32))
    weights = loud(jax.eval_shape(lambda: network(kind).initial(0)))
    config = DiffSRDAConfig(prior="enkf-sr", members=members, steps=2, sampler=sampler)
    return {"config": config, "model": Model(kind, weights, np.full(kind.frames, 0.3, np.float32), space)}


def apart(one, other):
    """The largest difference between two results, by the largest number of the kind, of all that they hold."""
    leaves = [jax.tree.leaves((r.mean, r.std, r.members, r.series, r.per_truth, r.carry)) for r in (one, other)]
    pairs = ((np.asarray(a, float), np.asarray(b, float)) for a, b in zip(*leaves, strict=True))
    return max(float(np.max(np.abs(a - b), initial=0) / max(1.0, np.max(np.abs(a), initial=0))) for a, b in pairs)


def compared(method, truths, devices):
    """The difference from one device, the operations of one device by those of one alone, and what was warned of.

    Each goes on from its first cycle, in a program of its own.
    """
    given, work, call = experiment(method, truths), [], scan.Program.call

    def counted(self, name, *arguments, **options):
        out = call(self, name, *arguments, **options)
        if name[0] == "advance":
            work.append(list(self.compiled.values())[-1].cost_analysis()["flops"])
        return out

    def told(*_):
        """Progress is wanted: each cycle is a call."""

    scan.Program.call = counted
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        one, many = run(given, told), run(given, told, devices)
    scan.Program.call = call
    return {"off": apart(one, many), "work": work[-1] / work[0], "said": [str(each.message) for each in said]}


def gone_on(method, truths, devices):
    """The difference between a run on one device and one whose second cycle has others."""
    given = experiment(method, truths)
    parts = [given.truth.values[:, 4 * i : 4 * i + 4] for i in range(2)]
    first = run(dataclasses.replace(given, truth=parts[0], unscored=True))
    second = dataclasses.replace(given, truth=parts[1], carry=first.carry, start=None)
    rest = [run(second, devices=where) for where in (None, devices)]
    return apart(*rest)


def mesh(text):
    """Devices as the command line of this file has them."""
    if "x" not in text:
        return text if text == "all" else int(text)
    shape = [int(n) for n in text.split("x")]
    return jax.sharding.Mesh(np.array(jax.devices()[: np.prod(shape)]).reshape(shape), ("case", "member"))


if __name__ == "__main__":
    truths, where, *methods = sys.argv[1:]
    for method in methods:
        row = {"method": method} | compared(method, int(truths), mesh(where))
        if method == "toy":
            row["gone_on"] = gone_on(method, int(truths), mesh(where))
        print(json.dumps(row), flush=True)
