"""A process with many devices: `python sharded.py COUNT CASES MEMBERS METHOD …` runs methods on one device and on a
mesh of CASES × MEMBERS, and prints a line
of JSON for each: how far apart they are, how the work was divided, and what had to be said."""

import json
import sys
import warnings

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)

from helpers import SENSORS, TESTBED, setup, truth  # noqa: E402

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


def experiment(method, truths=2, cycles=2, members=4):
    """A method with few members over drifting fields."""
    options = {"sensors": SENSORS, "climatology": setup().climatology, "testbed": TESTBED, "keep": "members"}
    if isinstance(METHODS[method].config, FilterConfig):
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
        space = LatentSpace(coder, np.zeros((0, 3), np.float32), np.ones((3, 1), np.float32))
    weights = loud(jax.eval_shape(lambda: network(kind).initial(0)))
    config = DiffSRDAConfig(prior="enkf-sr", members=members, steps=2, sampler=sampler)
    return {"config": config, "model": Model(kind, weights, np.full(kind.frames, 0.3, np.float32), space)}


def compared(method, devices):
    """The largest difference from one device, and each device's part of the operations of a cycle."""
    given = experiment(method)
    work = []
    call = scan.Program.call

    def counted(self, name, *arguments, **options):
        out = call(self, name, *arguments, **options)
        if name[0] == "advance":
            work.append(list(self.compiled.values())[-1].cost_analysis()["flops"])
        return out

    scan.Program.call = counted
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        one, many = run(given), run(given, devices=devices)
    scan.Program.call = call
    leaves = [jax.tree.leaves((r.mean, r.std, r.members, r.series, r.per_truth, r.carry)) for r in (one, many)]
    pairs = ((np.asarray(a, float), np.asarray(b, float)) for a, b in zip(*leaves, strict=True))
    off = max(float(np.max(np.abs(a - b), initial=0)) for a, b in pairs)
    return {"off": off, "work": work[1] / work[0], "said": [str(each.message) for each in said]}


if __name__ == "__main__":
    count, cases, members, *methods = sys.argv[1:]
    assert len(jax.devices()) == int(count)
    axes = jax.sharding.Mesh(np.array(jax.devices()).reshape(int(cases), int(members)), ("case", "member"))
    for method in methods:
        print(json.dumps({"method": method} | compared(method, axes)), flush=True)
