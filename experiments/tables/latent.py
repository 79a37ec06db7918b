"""The section on diffusion in the latent space of an autoencoder."""

from __future__ import annotations

from typing import Any

from experiments.tables.origin import no_choice, noted
from experiments.tables.records import Records, experiment
from experiments.tables.text import bootstrap, bullets, interval, mean, millions, paired, prose, scores, table
from experiments.tables.training import SMALL_SCALES

COMMAND = experiment("latent")

SAMPLES = {
    "diffsrda": "`diffsrda`, on the grid",
    "kl": "`kl` (`latent-diffsrda`)",
    "kl/uncentred": "`kl`, uncentred",
    "kl/lifted": "`kl`, uncentred, guided by `lifted`",
    "kl/projected": "`kl`, uncentred, `projected`",
    "vq": "`vq`",
    "vq/uncentred": "`vq`, uncentred",
}
"""Ways to sample."""


def described(name: str, row: dict[str, Any]) -> str:
    """What an autoencoder keeps of a frame."""
    config = row["training"]["config"]
    patch = f"{config['patch']} × {config['patch']} points"
    if config["codes"]:
        return f"`{name}`, the paper's sizes: one of {config['codes']} codes for each {patch}"
    return f"`{name}`, {config['channels']} numbers for each {patch}"


def autoencoder_table(rows: dict[str, Any]) -> str:
    """What autoencoders return."""
    lines = []
    for name, row in rows.items():
        lost = interval(bootstrap(row["per_truth"]["relative_l1"]), 4)
        parameters = millions(row["parameters"], 2)
        lines.append([described(name, row), parameters, row["numbers"], lost, f"{row['small_scales']:.2f}"])
    heads = ["autoencoder", "parameters", "numbers a frame", "relative L1 error of its output"]
    return noted(table([*heads, f"energy at wavenumbers ≥ {SMALL_SCALES}"], lines), rows.values())


def sample_table(rows: dict[str, Any]) -> str:
    """Scores by the way to sample."""
    lines = []
    for name, row in rows.items():
        cells = scores(row, ("maer", "crps", "spread_skill"))
        sensors = f"{mean(row, 'observation_rmse_analysis'):.3f}"
        lines.append([SAMPLES[name], millions(row["parameters"]), *cells, sensors, f"{row['small_scales']:.2f}"])
    heads = ["samples", "parameters", "MAER", "CRPS", "spread–skill", "RMSE at the sensors"]
    return noted(table([*heads, f"energy at wavenumbers ≥ {SMALL_SCALES}"], lines), rows.values())


def latent(records: Records) -> str:
    """The section."""
    record = records["experiments/latent"]
    settings, rows, coded = record["settings"], record["rows"], record["autoencoders"]
    vq, released = coded["vq"], records["released/diffsrda-small"]
    on_grid = released["samples"] + released["parent"]["samples"]
    deviation = {name: mean(rows[name], "energy_distance_members") for name in ("diffsrda", "kl")}
    used = vq["used"] * vq["training"]["config"]["codes"]
    return "\n\n".join(
        [
            "## Diffusion in a latent space",
            prose(
                "What does an autoencoder lose, and what does the loss cost? Two autoencoders train on "
                f"{settings['frames']:,} frames of the same runs. A denoiser then trains in the latent space of each "
                f"on {settings['samples']:,} windows, around the conditioner of the released model. All run on the "
                f"same {settings['truths']} truths, with one seed of training. The command is `{COMMAND}`, the record "
                "is [`results/latent.json`](results/latent.json)."
            ),
            autoencoder_table(coded),
            prose(f"The `vq` autoencoder uses {used:.0f} codes, with a perplexity of {vq['perplexity']:.0f}."),
            sample_table(rows),
            bullets(
                "Samples that are centred on the mean of the conditioner have its MAER. The members of `kl` hold more "
                "of the energy of small scales than those on the grid: their spectrum deviates from the truth's by "
                f"{deviation['kl']:.1f} dB, that of the others by {deviation['diffsrda']:.1f} dB. The paired CRPS "
                f"ratio is {interval(paired(rows['kl'], rows['diffsrda'], 'crps'))}, and the spread is too large. The "
                f"denoiser of `kl` was trained on {rows['kl']['samples']:,} windows, that on the grid on {on_grid:,}.",
                f"The members of `vq` have too little spread ({interval(rows['vq']['scores']['spread_skill'])}) and "
                "smooth fields.",
                "Uncentred samples, as in the paper, lose at every time what the autoencoder loses: the paired MAER "
                f"ratio is {interval(paired(rows['kl/uncentred'], rows['diffsrda']))} with `kl` and "
                f"{interval(paired(rows['vq/uncentred'], rows['diffsrda']))} with `vq`.",
                "The latent space saves no time: the denoiser on the grid works on patches too, and the decoder adds "
                "to the cost. The spread of `kl` shows the patches "
                "([fields](results/latent-diffsrda/fields.png)).",
                "`kl/lifted` moves each step towards the observations, through the decoder. The members then fit the "
                "observations better and lose nothing. `kl/projected` corrects the members after the last step and "
                "pays for the fit with error. Both use the observations twice, because the network is already "
                "conditioned on them. `lifted` ran here before its conjugate gradients were preconditioned.",
                *filter(None, [no_choice(settings, "Preset `kl` with centred samples")]),
            ),
            "![Spectra of truth, of the autoencoders' output, and of members](results/latent_spectra.png)",
        ]
    )
