"""Claim 3 of arXiv:2604.21180: few sampling steps are enough.

    python experiments/few_steps.py                       # released weights, up to 50 steps, validation truths
    python experiments/few_steps.py --most 1000           # the paper's whole range: hours on a CPU
    python experiments/few_steps.py --test-truths         # the table of what was chosen before

Sampler and number of steps are chosen by this, so the truths are validation truths; test truths choose nothing.
Every row draws from the same conditions: the prior and the model's mean (no sampling) cycle over the truths as the
method does, and at some of their assimilation times the model draws its members with the row's sampler, steps and η.
Scores are of frames t … t + 3, so rows differ by the sampling alone; the mean is the samples' own unless `--centred`.
Expected: 4 steps lose at most 5 % of MAER and CRPS against 50.  Obtained: results/few_steps.json beside this file.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from pathlib import Path

import common
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.typing import ArrayLike
from rich.console import Console
from rich.table import Table

import jaxsrda
from jaxsrda.core.files import write_json
from jaxsrda.core.provenance import stamped
from jaxsrda.diffsrda.prior import make_prior
from jaxsrda.diffsrda.weights import default_weights
from jaxsrda.training.windows import cycle_windows

STEPS = (1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500, 1000)
SAMPLERS = (("dpmpp-2m", 0.0), ("dpmpp-2m-sde", 0.0), ("heun", 0.0), ("ddim", 0.0), ("ddim", 0.5), ("ddim", 1.0))


@dataclasses.dataclass
class Experiment:
    """Which model, on which conditions, with how many steps."""

    prior: str = "dual"
    """The prior that gives the conditions."""
    weights: str = ""
    """Weights, by default the released ones for the prior."""
    truths: int = 10
    """How many truths."""
    test_truths: bool = False
    """Test truths, seeds 0, 1, …, for a table of what was chosen before by validation truths, seeds 1000, 1001, …"""
    times: tuple[int, ...] = (12,)
    """Assimilation times at which members are drawn."""
    members: int = 30
    """Members drawn."""
    most: int = 50
    """Largest number of steps."""
    sigmas: str = "edm"
    """Noise grid: edm, log or vp."""
    centred: bool = False
    """Take the conditioner's mean for the analysis, as the cycle does; then no row's differs."""
    out: Path = Path(__file__).parent / "results"
    """Folder of the results."""
    reuse_any_code: bool = False
    """Keep rows in the record that other code made too; they keep their own provenance."""


def conditions(experiment: Experiment, setup: jaxsrda.Setup, model: jaxsrda.Model) -> tuple[jax.Array, jax.Array]:
    """Conditions (n, nx, ny, C) and true frames (n, 5, nx, ny) at the chosen times of all truths."""
    testbed, layout = setup.testbed, setup.sensors[0].placed(setup.grid)
    seeds = common.truth_seeds(experiment)
    truths = jaxsrda.simulate_truth(testbed, seeds)[:, : 1 - testbed.frames_per_cycle]
    config = jaxsrda.DiffSRDAConfig(prior=experiment.prior, members=experiment.members)
    if config.restart == "each":
        raise ValueError(f"prior: its members restart from samples, which rows would not share; got {experiment.prior}")
    prior, restart = make_prior(setup, config), config.restart
    draw = jaxsrda.mean_draw(model)
    cycle = functools.partial(cycle_windows, setup, prior, layout, draw=draw, restart=restart, dtype=jnp.float32)
    run = jax.jit(lambda key, truth: cycle(key, truth))
    chosen = np.asarray(experiment.times)
    parts = []
    for seed, truth in zip(seeds, truths, strict=True):
        windows = run(jax.random.fold_in(jax.random.key(0x5354), seed), jnp.asarray(truth))
        condition = np.asarray(windows.condition)[chosen, 0]
        correction = np.asarray(windows.correction)[chosen, 0]
        parts.append((condition, guess_of(model, condition) + np.moveaxis(correction, -1, 1)))
    first, second = (np.concatenate([part[i] for part in parts]) for i in range(2))
    return jnp.asarray(first), jnp.asarray(second)


def guess_of(model: jaxsrda.Model, condition: ArrayLike) -> jax.Array:
    """The first guess (…, frames, nx, ny) that a condition (…, nx, ny, C) holds."""
    return jnp.moveaxis(condition[..., : model.config.frames] * model.config.conditioning.field_scale, -1, -3)


def measure(experiment: Experiment, model, given: jax.Array, truth: jax.Array, config: jaxsrda.DiffSRDAConfig) -> dict:
    """Scores and seconds of one sampler over all conditions."""
    draw, frames = jaxsrda.make_draw(model, config), jaxsrda.jet().frames_per_cycle

    def window(key: jax.Array, condition: jax.Array, truth: jax.Array) -> dict[str, jax.Array]:
        guess, drawn = guess_of(model, condition), draw.corrections(key, condition[None])
        ensemble = (guess + drawn.samples)[:, :frames]
        own = None if drawn.mean is None else (guess + drawn.mean)[:frames]
        analyses = [None if own is None else own[i] for i in range(frames)]
        per_frame = [jaxsrda.frame_scores(ensemble[:, i], truth[i], None, analyses[i]) for i in range(frames)]
        mean, variance = ensemble.mean(0) if own is None else own, ensemble.var(0, ddof=1)
        sums = {name: jnp.stack([row[name] for row in per_frame]).mean() for name in ("maer", "crps", "mssim_loss")}
        return sums | {"variance": variance.mean(), "square": ((mean - truth[:frames]) ** 2).mean()}

    run = jax.jit(window)
    keys = jax.random.split(jax.random.key(0), len(given))
    jax.block_until_ready(run(keys[0], given[0], truth[0]))
    began = time.perf_counter()
    rows = [jax.tree.map(float, run(*inputs)) for inputs in zip(keys, given, truth, strict=True)]
    seconds = (time.perf_counter() - began) / len(rows)
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    intervals = {name: jaxsrda.bootstrap_interval(columns[name]) for name in ("maer", "crps", "mssim_loss")}
    record = {
        name: dict(zip(("mean", "low", "high"), map(float, values), strict=True)) for name, values in intervals.items()
    }
    inflate = 1 if config.centred else (config.members + 1) / config.members
    record["spread_skill"] = float(np.sqrt(inflate * columns["variance"].mean() / columns["square"].mean()))
    return record | {"seconds": seconds}


def main(experiment: Experiment) -> None:
    console = Console()
    model, record = jaxsrda.load_model(experiment.weights or default_weights(experiment.prior))
    path = experiment.out / "few_steps.json"
    experiment.out.mkdir(exist_ok=True)
    rows = common.kept(experiment, path, older={"test_truths": True}, weights=record["sha256"])
    settings = common.settings_of(experiment) | {"weights": record["sha256"]}
    setup = jaxsrda.Setup(jaxsrda.jet(), jaxsrda.default_climatology())
    given, truth = conditions(experiment, setup, model)
    for sampler, eta in SAMPLERS:
        for steps in [steps for steps in STEPS if steps <= experiment.most]:
            name = f"{sampler}{f' eta={eta:g}' if sampler == 'ddim' else ''}, {steps}"
            if name in rows:
                continue
            config = jaxsrda.DiffSRDAConfig(
                prior=experiment.prior,
                members=experiment.members,
                steps=steps,
                sampler=sampler,
                eta=eta,
                sigmas=experiment.sigmas,
                centred=experiment.centred,
            )
            row = measure(experiment, model, given, truth, config)
            rows[name] = stamped(row | {"load": os.getloadavg()[0]})
            write_json(path, stamped({"settings": settings, "rows": rows}))
            console.print(
                f"{name:>24}: MAER {row['maer']['mean']:.4f}, CRPS {row['crps']['mean']:.4f}, "
                f"spread–skill {row['spread_skill']:.3f}, {row['seconds']:.2f} s"
            )
    table = Table("sampler, steps", "MAER", "MSSIM loss", "CRPS", "spread–skill", "s a window", title="Few steps")
    for name, row in rows.items():
        numbers = [row[column]["mean"] for column in ("maer", "mssim_loss", "crps")]
        table.add_row(name, *(f"{n:.4f}" for n in numbers), f"{row['spread_skill']:.3f}", f"{row['seconds']:.2f}")
    console.print(table)
    picture(rows, experiment.out / "few_steps.png")


def picture(rows: dict[str, dict], path: Path) -> None:
    """MAER, CRPS and spread–skill against steps, a line a sampler."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    names = dict.fromkeys(name.rpartition(", ")[0] for name in rows)
    for sampler in names:
        mine = {int(name.rpartition(", ")[2]): row for name, row in rows.items() if name.rpartition(", ")[0] == sampler}
        steps = sorted(mine)
        for axis, column in zip(axes, ("maer", "crps", "spread_skill"), strict=True):
            values = [mine[n][column] if column == "spread_skill" else mine[n][column]["mean"] for n in steps]
            axis.semilogx(steps, values, "o-", label=sampler)
    for axis, label in zip(axes, ("MAER", "CRPS", "spread–skill"), strict=True):
        axis.set(xlabel="steps", ylabel=label)
    axes[2].axhline(1, color="grey", linewidth=0.8)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main(tyro.cli(Experiment))
