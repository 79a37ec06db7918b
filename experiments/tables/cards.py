"""Model cards of the released weights."""

from __future__ import annotations

import os
from typing import Any

from experiments.tables.card_texts import TEXTS, CardText
from experiments.tables.origin import noted
from experiments.tables.records import RELEASED, Records, truth_level
from experiments.tables.text import CONFIDENCE, SCORES, bullets, fenced, interval, millions, page, prose, scores, table
from experiments.tables.training import SMALL_SCALES

OPTIONS = {
    "network": "small",
    "target": "residual",
    "runs": 160,
    "level": "fine",
    "samples": 60_000,
    "learning_rate": 1e-3,
    "noises": 2,
    "part": "all",
    "init": "",
    "policy": "own",
}
"""Options of `jaxsrda train` with their defaults; a command leaves out what equals its default."""

BEFORE_STREAMS = OPTIONS | {"on_policy": "none", "policy": ""}
"""The same before windows were made on the way (version 0.1.0)."""

EXTRA_LAYOUTS = ("random-moving:128", "lattice:12", "lattice:8+dropout:0.3+silent:0.3", "lattice:6", "lattice:4")
"""Default of the option for further layouts."""


def chain(record: dict[str, Any], name: str) -> list[tuple[str, dict[str, Any]]]:
    """Name and record of every training behind some weights, the first one first."""
    before = record["job"]["init"]
    return [*(chain(record["parent"], before.removesuffix(".npz")) if record["parent"] else []), (name, record)]


def train_command(name: str, record: dict[str, Any]) -> str:
    """The `jaxsrda train` command of a record's job."""
    job = record["job"]
    data, model, training = job["data"][0], job["model"], job["training"]
    options = OPTIONS if "stream" in job else BEFORE_STREAMS
    values = {**data, **model, **training, "init": job["init"], "on_policy": job.get("on_policy")}
    values |= {"policy": job.get("policy", ""), "level": truth_level(data)}
    distilled = model.get("distilled", 0)
    if distilled:
        values["part"] = OPTIONS["part"]
    words = [f"jaxsrda train --out {name}.npz --prior", *(entry["prior"] for entry in job["data"])]
    for option, default in options.items():
        if values.get(option, default) != default:
            named = "policy_weights" if option == "policy" and options is BEFORE_STREAMS else option
            words.append(f"--{named.replace('_', '-')} {values[option]}")
    words += [f"--distill {distilled}"] if distilled else []
    if model.get("latent"):
        words.append(f"--latent {model['latent']} --autoencoder-samples {job['autoencoder']['samples']}")
    if tuple(data["extra_layouts"]) != EXTRA_LAYOUTS:
        words.append(f"--extra-layouts {' '.join(data['extra_layouts'])}")
    words += ["--bf16"] if training["bfloat16"] else []
    words += [] if job.get("open_loop", True) else ["--no-open-loop"]
    return " ".join([*words, f"--cycling {job['cycling']}"])


def data_section(stages: list[tuple[str, dict[str, Any]]]) -> str:
    """What each training learned from."""
    lines, layouts = [], []
    for name, record in stages:
        job, data = record["job"], record["job"]["data"][0]
        priors = ", ".join(f"`{entry['prior']}`" for entry in job["data"])
        source = cycling(job)
        cells = [priors, f"`{truth_level(data)}`", data["runs"], job["held_out"], f"{record['windows']:,}"]
        lines.append([f"`{name}`", *cells, f"{record['samples']:,}", source, data["noise_std"]])
        further = ", ".join(f"`{layout}`" for layout in data["extra_layouts"])
        layouts.append((f"`{name}`", f"layout `{data['layout']}` in every run, and further {further}"))
    grouped: dict[str, list[str]] = {}
    for name, text in layouts:
        grouped.setdefault(text, []).append(name)
    heads = ["training", "priors", "level", "runs", "held out", "windows", "windows used", "windows from"]
    return "\n\n".join(
        [
            "## Data",
            table([*heads, "observation noise"], lines),
            prose(
                "*Windows* counts the different windows, *windows used* counts them as often as training uses them. "
                + " ".join(f"{', '.join(names)}: {text}." for text, names in grouped.items())
            ),
        ]
    )


def cycling(job: dict[str, Any]) -> str:
    """Whose cycling the windows of a job are of."""
    if "stream" in job:
        known = {"own": "its own cycling", "none": "the prior alone"}
        return known.get(job["policy"], f"cycling of `{job['policy']}`")
    visited = job.get("policy") or job["init"]
    return f"cycling of `{visited}`" if job["on_policy"] != "none" else "the prior alone"


def training_section(stages: list[tuple[str, dict[str, Any]]], text: CardText) -> str:
    """Commands, seeds, machine and versions."""
    lines = []
    for name, record in stages:
        seconds = record["seconds"]
        hours = (seconds["training"] if isinstance(seconds, dict) else seconds) / 3600
        versions = ", ".join(f"{key} {value}" for key, value in record["versions"].items())
        training = record["job"]["training"]
        numbers = [training["seed"], training["learning_rate"], training["batch"], f"{hours:.2f}"]
        lines.append([f"`{name}`", *numbers, record["machine"], versions, f"`{record['sha256'][:12]}`"])
    heads = ["training", "seed", "learning rate", "batch", "hours", "machine", "versions", "SHA-256"]
    older = [name for name, record in stages if "stream" not in record["job"]]
    then = (
        "The commands are those of version 0.1.0, which made all windows before a training; today's `jaxsrda train` "
        "makes them on the way and has other options."
    )
    return "\n\n".join(
        [
            "## Training",
            prose(f"{text.made} The JSON file holds the record of each training."),
            *([prose(then)] if older else []),
            fenced(*(train_command(name, record) for name, record in stages)),
            table(heads, lines),
            autoencoder_text(stages[-1][1]),
        ]
    ).strip()


def autoencoder_text(record: dict[str, Any]) -> str:
    """The training of an autoencoder, if there is one."""
    if "autoencoder" not in record:
        return ""
    coder = record["autoencoder"]
    config = coder["config"]
    return prose(
        f"The autoencoder `{coder['preset']}` trained first, on {coder['samples']:,} frames out of {coder['frames']:,} "
        f"different ones, in {coder['seconds'] / 60:.0f} minutes. It keeps {config['channels']} numbers for each "
        f"{config['patch']} × {config['patch']} points. Its relative L1 error on validation frames is "
        f"{coder['validation']['relative_l1']:.4f}."
    )


def losses_section(stages: list[tuple[str, dict[str, Any]]]) -> str:
    """Losses on the windows of the runs that were held out."""
    lines = []
    for name, record in stages:
        (chosen,) = record["validation"]["chosen"]
        for average, row in record["validation"].items():
            if average == "chosen":
                continue
            numbers = [f"{row[key]:.4f}" if key in row else "–" for key in ("regression", "diffusion", "scale", "loss")]
            lines.append([f"`{name}`", average, *numbers, "yes" if average == chosen else ""])
    marks = [
        [row["samples"], *(f"{row[key]:.4f}" if key in row else "–" for key in ("regression", "diffusion"))]
        for row in stages[-1][1]["milestones"]
    ]
    heads = ["training", "average of the weights", "regression (L1)", "diffusion", "scale", "loss", "chosen"]
    return "\n\n".join(
        [
            "## Validation losses",
            table(heads, lines),
            prose(f"The losses of `{stages[-1][0]}` by windows used:"),
            table(["windows used", "regression (L1)", "diffusion"], marks),
        ]
    )


def score_rows(records: Records, sha: str) -> list[list[Any]]:
    """Rows of the comparison of all methods that use some weights."""
    lines = []
    for name, row in records["experiments/reconstruction"].items():
        if row["weights"] == sha:
            settings = row["settings"]
            steps = "–" if settings["sampler"] == "mean" else settings["steps"]
            lines.append([f"`{name}`", f"`{settings['prior']}`", f"`{settings['restart']}`", steps, *scores(row)])
    return lines


def scores_section(records: Records, record: dict[str, Any], text: CardText) -> str:
    """Scores in the cycle."""
    own = records["experiments/reconstruction"]["diffsrda"]
    up = os.path.relpath("experiments", RELEASED)
    parts = [
        "## Scores",
        prose(
            f"Means and {100 * CONFIDENCE:.0f} % intervals over {own['truths']} truths of level "
            f"`{own['truth_level']}`, layout "
            f"`{own['layout']}`. The record is "
            f"[`reconstruction.json`]({up}/results/reconstruction.json), and the comparison with other methods is in "
            f"[`experiments/README.md`]({up}/README.md)."
        ),
        noted(
            table(["method", "prior", "restart", "steps", *SCORES.values()], score_rows(records, record["sha256"])),
            [row for row in records["experiments/reconstruction"].values() if row["weights"] == record["sha256"]],
        ),
    ]
    if text.texture:
        name, row = text.texture, records[f"experiments/{text.texture[0]}"]["rows"][text.texture[1]]
        parts.append(
            prose(
                f"Its fields hold {row['small_scales']:.2f} of the truth's energy at wavenumbers from {SMALL_SCALES} "
                f"on, and their energy spectrum deviates from the truth's by "
                f"{interval(row['scores']['energy_distance_members'], 2)} dB "
                f"([`{name[0]}.json`]({up}/results/{name[0]}.json), row `{name[1]}`)."
            )
        )
    return "\n\n".join([*parts, *(part(records) for part in text.more)])


def card(records: Records, name: str) -> str:
    """The card of some weights."""
    record, text = records[f"released/{name}"], TEXTS[name]
    stages = chain(record, name)
    rows = records["experiments/reconstruction"].values()
    parameters = next(millions(row["parameters"]) for row in rows if row["weights"] == record["sha256"])
    priors = record["job"]["model"]["priors"]
    served = ("prior " if len(priors) == 1 else "priors ") + " and ".join(f"`{prior}`" for prior in priors)
    facts = (
        f"Network preset `{record['job']['model']['network']}`, {parameters} parameters, grid "
        f"{record['job']['model']['nx']} × {record['job']['model']['ny']}, {served}. Weights: "
        f"[`{name}.npz`]({name}.npz), record: [`{name}.json`]({name}.json), SHA-256 of the weights "
        f"`{record['sha256']}`."
    )
    return page(
        f"# `{name}`",
        prose(text.what(records)),
        prose(facts),
        fenced(*text.use),
        data_section(stages),
        training_section(stages, text),
        losses_section(stages),
        scores_section(records, record, text),
        "## Limits",
        bullets(*text.limits(records)),
    )
