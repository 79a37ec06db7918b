"""Diffusion in a latent (LatDiffSRDA): what autoencoders of frames lose, and what that costs the analyses.

    python experiments/latent.py            # hours on 2 cores; resumes

Autoencoders of single frames, trained alike on frames of training runs and judged on frames of the truths:

    vq      the sizes of arXiv:2604.21180: 2000 codes that are single numbers, one for each 4 × 4 points
    vq-ema  the same, its codes following by running averages (--autoencoders kl vq vq-ema)
    kl      continuous, four numbers for each 4 × 4 points

In their latents a denoiser each, trained alike on the windows that `diffsrda-small`'s own cycling visits, around its
conditioner's mean, which stays as it is.  Rows of the second table differ in how samples are drawn, not in that mean:

    NAME            samples centred on the conditioner's mean, as diffsrda does by default
    NAME/uncentred  as the decoder gives them: what the autoencoder loses is lost
    NAME/lifted     uncentred, each step moved towards the observations through the decoder
    NAME/projected  uncentred, each member's misfit kriged onto frame t after decoding
    diffsrda        the released denoiser on the grid, trained on many more windows

Expected: vq loses several times what kl loses, and both lose calibration to the denoiser on the grid.
Obtained: results/latent.json, latent.png (scores against time) and latent_spectra.png beside this file.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path

import common
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import jaxsrda
from jaxsrda.app import plotting
from jaxsrda.core.provenance import stamped, this_run
from jaxsrda.diffsrda.latent import LatentSpace, latent_nodes
from jaxsrda.flow.grid import spectra
from jaxsrda.networks.autoencoder import PRESETS
from jaxsrda.networks.codebook import tallied, usage
from jaxsrda.training.autoencoder import autoencoder_training, reconstruct, trained_space
from jaxsrda.training.truths import BLOCK

ROWS: dict[str, dict] = {
    "": {},
    "uncentred": {"centred": False},
    "lifted": {"centred": False, "guidance": "lifted", "guide_on": "all"},
    "projected": {"centred": False, "guidance": "projected", "guide_on": "all"},
}

SCORES = ("maer", "crps", "spread_skill", "mssim_loss")
"""Drawn against time."""


@dataclasses.dataclass
class Experiment:
    """How much training, and on how many truths it is judged."""

    runs: int = 64
    """Training runs."""
    frames: int = 24_000
    """Frames that each autoencoder's training sees."""
    samples: int = 8_000
    """Windows that each denoiser's training sees."""
    autoencoders: tuple[str, ...] = ("kl", "vq")
    """Which to train and compare."""
    denoisers: tuple[str, ...] = ("kl", "vq")
    """In which latents to diffuse."""
    guided: tuple[str, ...] = ("kl",)
    """In which of them to guide."""
    truths: int = 10
    """How many truths."""
    test_truths: bool = True
    """Test truths, seeds 0, 1, …, for tables; to choose something take validation truths, seeds 1000, 1001, …"""
    out: Path = Path(__file__).parent / "results" / "latent.json"
    """JSON record; the pictures lie beside it."""
    reuse_any_code: bool = False
    """Keep rows in the record that other code made too; they keep their own provenance."""


def job(experiment: Experiment, preset: str) -> jaxsrda.Job:
    """The training of a denoiser, and of its autoencoder before."""
    return jaxsrda.Job(
        (jaxsrda.DataConfig(prior="dual", runs=experiment.runs),),
        jaxsrda.ModelConfig(network="small", latent=preset),
        jaxsrda.TrainConfig(samples=experiment.samples, part="denoiser"),
        init="diffsrda-small",
        cycling=0,
        autoencoder=autoencoder_training(experiment.frames),
    )


@functools.partial(jax.jit, static_argnums=0)
def returned(preset: str, space: LatentSpace, omega: jax.Array) -> tuple[jax.Array, ...]:
    """Of frames (n, nx, ny): Σ |ω̂ − ω| and Σ |ω|, mean energy spectra, and how often each code was chosen."""
    grid, config = jaxsrda.jet().grid, PRESETS[preset]
    back, numbers = reconstruct(config, space.params, space.codes, omega)
    energy = [
        jax.vmap(lambda a: spectra(grid, jaxsrda.to_spectral(grid, a))[0])(frames).mean(0) for frames in (omega, back)
    ]
    return jnp.abs(back - omega).sum(), jnp.abs(omega).sum(), *energy, tallied(numbers, max(config.codes, 1))


def loss_of(preset: str, experiment: Experiment, truth: np.ndarray, console: Console) -> dict:
    """What an autoencoder loses of each truth's frames from t = 1 on."""
    testbed, training = jaxsrda.jet(), autoencoder_training(experiment.frames)
    console.print(f"autoencoder {preset}")
    space, record = trained_space(preset, testbed, testbed.truth, experiment.runs, BLOCK, training)
    parts = [returned(preset, space, jnp.asarray(run[testbed.frames_per_cycle :], jnp.float32)) for run in truth]
    off, size, energy, back, counts = (np.array([part[i] for part in parts], float) for i in range(5))
    shell = np.arange(energy.shape[1])
    config = PRESETS[preset]
    used, perplexity = map(float, usage(jnp.asarray(counts.sum(0), jnp.float32)))
    statistics = {"shell": shell, "energy_truth": energy.sum(0), "energy_members": back.sum(0)}
    row = {
        "per_truth": {"relative_l1": (off / size).tolist()},
        "numbers": config.channels * math.prod(latent_nodes(config, *testbed.grid.shape)),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(space.params)) + space.codes.size,
        "used": used if config.codes else None,
        "perplexity": perplexity if config.codes else None,
        "small_scales": common.small_scales(statistics),
        "spectra": {"truth": energy.mean(0), "returned": back.mean(0)},
        "training": record,
    }
    return stamped(row)


def main(experiment: Experiment) -> None:
    this_run()  # the code as it is now
    console = Console(width=160)
    seeds = common.truth_seeds(experiment)
    truth = jaxsrda.simulate_truth(jaxsrda.jet(), seeds)
    coded = {preset: loss_of(preset, experiment, truth, console) for preset in experiment.autoencoders}
    columns = ("parameters", "numbers a frame", "relative L1", "codes used", "perplexity")
    energy = f"energy at k ≥ {common.SMALL_SCALES}"
    table = Table("autoencoder", *columns, energy, title="What comes back")
    for preset, row in coded.items():
        lost = "{:.4f} [{:.4f}, {:.4f}]".format(*jaxsrda.bootstrap_interval(np.array(row["per_truth"]["relative_l1"])))
        codes = ("–", "–") if row["used"] is None else (f"{row['used']:.2f}", f"{row['perplexity']:.0f}")
        table.add_row(preset, f"{row['parameters']:,}", str(row["numbers"]), lost, *codes, f"{row['small_scales']:.2f}")
    console.print(table)

    jobs = {preset: job(experiment, preset) for preset in experiment.denoisers}
    any_code = experiment.reuse_any_code
    weights = {preset: common.trained("latent", preset, jobs[preset], console, any_code) for preset in jobs}
    plan = {"diffsrda": ("diffsrda-small", {})}
    for preset, path in weights.items():
        rows = ROWS if preset in experiment.guided else {name: ROWS[name] for name in ("", "uncentred")}
        plan |= {f"{preset}/{row}".removesuffix("/"): (path, changes) for row, changes in rows.items()}
    scores = ("maer", "mssim_loss", "crps", "spread_skill", "observation_rmse_analysis")
    table = Table("samples", "parameters", *scores, energy, title="Drawn in a latent")
    done, rows = common.kept(experiment), {}
    for name, (path, changes) in plan.items():
        rows[name] = row = done.get(name) or common.scored(path, jaxsrda.DiffSRDAConfig(**changes), truth, seeds)
        row["small_scales"] = common.small_scales(row["statistics"])
        common.write(experiment, rows, SCORES, autoencoders=coded)
        cells = [common.interval(row, score) for score in scores]
        table.add_row(name, f"{row['parameters'] / 1e6:.1f} M", *cells, f"{row['small_scales']:.2f}")
        console.print(f"{name}: {', '.join(cells)}")
    console.print(table)
    for name in (name for name in rows if name != "diffsrda"):
        console.print(f"{name} over diffsrda: CRPS {common.over(rows[name], rows['diffsrda'], 'crps')}")
    spectra_of = {"truth": next(iter(coded.values()))["spectra"]["truth"]}
    spectra_of |= {f"{preset}, returned": row["spectra"]["returned"] for preset, row in coded.items()}
    spectra_of |= {f"{name}, members": rows[name]["statistics"]["energy_members"] for name in ("diffsrda", *weights)}
    plotting.plot_spectra(experiment.out.with_name("latent_spectra.png"), spectra_of)


if __name__ == "__main__":
    main(tyro.cli(Experiment))
