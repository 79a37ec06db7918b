"""Sections on what networks learn from: equal training, forecasts, number and length of runs, level of the truth."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.tables.origin import no_choice, noted
from experiments.tables.records import Records, experiment, total_windows, training_options
from experiments.tables.text import bullets, interval, millions, paired, percent, prose, scores, small_energy, table

SMALL_SCALES = 20
"""Wavenumber from which on scales count as small."""

NETWORKS = {
    "4dsrda": "4D-SRDA, L1",
    "residual": "`residual`: regression, and diffusion around it, in one network",
    "direct": "`direct`: diffusion around the first guess",
    "regression": "`regression`: the same U-Net, its mean alone, L1",
}
"""Networks of the experiment on equal training."""

FORECASTS = {
    "clean": "`clean`: from the truth",
    "mixup": "`mixup`: SR-mixup of these (Yasuda & Onishi 2023, [arXiv:2212.03656](https://arxiv.org/abs/2212.03656))",
    "perturbed": "`perturbed`: from the truth with climatological anomalies",
    "own cycle": "`own cycle`: as the model that was trained on `perturbed` restarts them",
}
"""Forecasts to train on."""


def deterministic(records: Records) -> str:
    """The section on networks with equal training."""
    record = records["experiments/deterministic"]
    settings, rows = record["settings"], record["rows"]
    windows = total_windows(records["released/diffsrda-small"])
    lines = []
    for name, row in sorted(rows.items(), key=lambda item: item[1]["scores"]["maer"]["mean"]):
        energy = small_energy(row["statistics"], SMALL_SCALES)
        cells = scores(row, ("maer", "crps", "spread_skill"))
        minutes = f"{row['training_seconds'] / 60:.0f} min"
        lines.append([NETWORKS[name], millions(row["parameters"]), minutes, *cells, f"{energy:.2f}"])
    ratio = {key: paired(rows["residual"], rows["regression"], key) for key in ("maer", "crps")}
    heads = ["network", "parameters", "training", "MAER", "CRPS", "spread–skill"]
    return "\n\n".join(
        [
            "## Networks with equal training",
            prose(
                f"Does diffusion add to deterministic super-resolution? Each network trains from scratch on the same "
                f"{settings['samples']:,} windows (prior `dual`, the windows that the cycling of "
                f"`{settings['policy']}` visits), in the same order, with the same seed and learning rate. "
                f"Each then runs in its own cycle on the same {settings['truths']} truths. The command is "
                f"`{experiment('deterministic')}`, the record is "
                "[`results/deterministic.json`](results/deterministic.json). There is one seed of training, and "
                "other jobs ran beside the training."
            ),
            noted(table([*heads, f"energy at wavenumbers ≥ {SMALL_SCALES}, over the truth's"], lines), rows.values()),
            bullets(
                "The network that learns to diffuse also learns a better mean: the MAER of `residual` over that of "
                f"`regression` is {interval(ratio['maer'])}, and its CRPS ratio is {interval(ratio['crps'])}.",
                "The mean of 4D-SRDA is as good as that of `residual` (MAER ratio "
                f"{interval(paired(rows['4dsrda'], rows['residual']))}). It has fewer weights, "
                f"{rows['4dsrda']['training_seconds'] / rows['residual']['training_seconds']:.1f} times the training "
                "time, no spread and smoother fields.",
                "No network here has converged. The released model was trained on "
                f"{windows / settings['samples']:.0f} times as many windows.",
                *filter(None, [no_choice(settings, "Target `residual`")]),
            ),
            "![MAER, CRPS, spread–skill and MSSIM loss against time, by network](results/deterministic.png)",
        ]
    )


def mixup_command(record: dict[str, Any], out: str = "") -> str:
    """The command behind a record of forecasts to train on."""
    settings = record["settings"]
    if not out:
        return experiment("mixup", training_options(settings))
    forecasts = " ".join(settings["forecasts"])
    options = f"{training_options(settings)} --forecasts {forecasts} --out experiments/results/{out}.json"
    return experiment("mixup", f"--network {settings['network']}", options)


def forecast_table(rows: dict[str, Any]) -> str:
    """Held-out loss and scores by the forecasts in training."""
    lines = []
    for name in (name for name in FORECASTS if name in rows):
        row = rows[name]
        held_out = f"{row['held_out']['regression']:.3f}"
        ratio = "–" if name == "clean" else interval(paired(row, rows["clean"]))
        lines.append([FORECASTS[name], held_out, *scores(row, ("maer",)), ratio])
    heads = ["forecasts", "held-out L1, own windows", "MAER in the cycle", "MAER over `clean`'s, paired"]
    return noted(table(heads, lines), rows.values())


def mixup(records: Records) -> str:
    """The section on forecasts to train on."""
    record, other = records["experiments/mixup"], records["experiments/mixup_4dsrda-small"]
    settings = record["settings"]
    name = "mixup_4dsrda-small"
    held = {key: value["rows"]["clean"]["held_out"]["regression"] for key, value in (("a", record), ("b", other))}
    return "\n\n".join(
        [
            "## Which forecasts to train on",
            prose(
                f"With prior `lr` the network gets one bare LR forecast. The `{settings['network']}` network trains "
                f"on {settings['samples']:,} windows of {settings['runs']} runs (validation runs included), once for "
                f"each kind of forecast, with one seed. It then runs in its own cycle on the same "
                f"{settings['truths']} truths. The command is `{mixup_command(record)}`, the record is "
                "[`results/mixup.json`](results/mixup.json)."
            ),
            forecast_table(record["rows"]),
            prose(
                "The cycle never starts a forecast from an exact state, and the network that knows only such "
                "forecasts does worst. SR-mixup helps much, starts that resemble analyses help a little more, and "
                "forecasts from the model's own cycle help most. " + no_choice(settings, "`perturbed`")
            ),
            "![MAER and MSSIM loss against time, by the forecasts in training](results/mixup.png)",
            prose(
                f"SR-mixup was proposed with 4D-SRDA. This is that network (`{other['settings']['network']}`, "
                f"{millions(other['rows']['clean']['parameters'])} parameters) on the same windows. The command is "
                f"`{mixup_command(other, name)}`, the record is [`results/{name}.json`](results/{name}.json)."
            ),
            forecast_table(other["rows"]),
            prose(
                "Without SR-mixup the cycle of 4D-SRDA loses the truth, although its held-out loss on `clean` "
                f"windows ({held['b']:.3f}) is lower than that of the other network ({held['a']:.3f}). Both networks "
                "have too little training for a comparison with the other sections."
            ),
        ]
    )


def training_length(records: Records) -> str:
    """The section on number and length of training runs."""
    record = records["experiments/training_length"]
    settings, rows = record["settings"], record["rows"]
    lines = [[row["runs"], row["times"] or "all", *scores(row, ("maer", "mssim_loss"))] for row in rows.values()]
    full = {row["runs"]: row for row in rows.values() if not row["times"]}
    few, many = full[min(full)], full[max(full)]
    cut = next(row for row in rows.values() if row["times"])
    ratio = {name: np.divide(*(row["per_truth"]["maer"] for row in pair)) for name, pair in pairs(few, many, cut)}
    options = training_options(settings) + f" --times {' '.join(map(str, settings['times']))}"
    return "\n\n".join(
        [
            "## How many training runs, and how long",
            prose(
                f"The `{settings['network']}` network learns the mean on windows of prior `dual` that "
                f"`{settings['policy']}` visits, {settings['samples']:,} of them each time, with one seed. "
                f"It then runs in its own cycle on the same {settings['truths']} truths. The command is "
                f"`{experiment('training_length', options)}`, the record is "
                "[`results/training_length.json`](results/training_length.json)."
            ),
            noted(table(["training runs", "assimilation times of each", "MAER", "MSSIM loss"], lines), rows.values()),
            bullets(
                f"The number of runs matters little at this size. {many['runs'] / few['runs']:.0f} times as many runs "
                f"change the MAER by a factor of {interval(paired(many, few))}; the factor is between "
                f"{ratio['more'].min():.2f} and {ratio['more'].max():.2f} on single truths. {settings['samples']:,} "
                "windows may be too few to show a larger effect.",
                f"Runs that end after {cut['times']} times change the MAER by a factor of "
                f"{interval(paired(cut, many))}, and by up to {ratio['cut'].max():.2f} on one truth.",
            ),
            "![MAER and MSSIM loss against time, by number and length of training runs](results/training_length.png)",
        ]
    )


def pairs(few: dict, many: dict, cut: dict) -> list[tuple[str, tuple[dict, dict]]]:
    """Rows to compare truth by truth: more runs with fewer, short runs with whole ones."""
    return [("more", (many, few)), ("cut", (cut, many))]


def target_level(records: Records) -> str:
    """The section on the level of the training runs."""
    record = records["experiments/target_level"]
    settings = record["settings"]
    lines = [[f"`{row['trained']}`", f"`{row['truth']}`", interval(row["maer"])] for row in record["rows"]]
    maer = {(row["trained"], row["truth"]): row["maer"]["mean"] for row in record["rows"]}
    return "\n\n".join(
        [
            "## Level of the training runs",
            prose(
                f"The `{settings['network']}` network learns the mean around prior `enkf-sr` on "
                f"{settings['samples']:,} windows of {settings['runs']} runs, once with HR runs and once with fine "
                f"ones. It then runs on {settings['truths']} truths of each level. The command is "
                f"`{target_level_command(records)}`, the record is "
                "[`results/target_level.json`](results/target_level.json)."
            ),
            noted(table(["level of the training runs", "level of the truths", "MAER"], lines), record["rows"]),
            prose(
                "On fine truths the level of the training runs makes no difference at this size; on HR truths the "
                f"network from HR runs has {percent(maer['hr', 'hr'] / maer['fine', 'hr'])} less error. The released "
                "weights come from fine runs. The question is open for larger networks."
            ),
        ]
    )


def target_level_command(records: Records) -> str:
    """The command behind the record of levels."""
    settings = records["experiments/target_level"]["settings"]
    return experiment("target_level", f"--network {settings['network']}", training_options(settings))
