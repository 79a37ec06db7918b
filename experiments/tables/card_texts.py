"""What the model cards say in words: purpose, origin and limits of each file of weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from experiments.tables.records import RELEASED, Records, experiment, truth_level
from experiments.tables.sensors import PLACES, rows_of, silence_in_training
from experiments.tables.text import interval, paired, prose, scores, small_energy, table
from experiments.tables.training import SMALL_SCALES

UP = os.path.relpath("experiments", RELEASED)
"""From the folder of the weights to that of the experiments."""


class CardText(NamedTuple):
    """The words of one card; functions take the records."""

    what: Callable[[Records], str]
    use: tuple[str, ...]
    made: str
    limits: Callable[[Records], list[str]]
    texture: tuple[str, str] | None = None
    more: tuple[Callable[[Records], str], ...] = ()


def noise_limit(records: Records, name: str) -> str:
    """The observation noise in training."""
    data = records[f"released/{name}"]["job"]["data"][0]
    return (
        f"All training had observation noise {data['noise_std']}. With a larger noise the scores of "
        f"`diffsrda-small` stay calibrated in one test (`sensor_shift` in [`experiments/README.md`]({UP}/README.md)); "
        "a smaller noise has no test."
    )


def layout_limit(records: Records, name: str) -> str:
    """The layouts in training."""
    data = records[f"released/{name}"]["job"]["data"][0]
    layouts = ", ".join(f"`{layout}`" for layout in (data["layout"], *data["extra_layouts"]))
    return f"The layouts in training were {layouts}. Operators other than vorticity were not in training."


def silence_limit(records: Records, name: str) -> str:
    """What happens without sensors for long."""
    row = records["experiments/sensor_shift"]["rows"]["8-12 untold/none"]
    return (
        f"{silence_in_training(records, name)} Without any sensor the cycle of `diffsrda-small` loses the truth: MAER "
        f"{interval(row['scores']['maer'], 2)} (row `8-12 untold/none` of "
        f"[`sensor_shift.json`]({UP}/results/sensor_shift.json))."
    )


def texture_limit(records: Records) -> str:
    """Energy of the members at small scales."""
    share = small_energy(records["experiments/reconstruction"]["diffsrda"]["statistics"], SMALL_SCALES)
    return (
        f"Single members have a wrong texture: they hold {share:.2f} of the truth's energy at wavenumbers from "
        f"{SMALL_SCALES} on, too little at the lower ones of these and white noise at the highest."
    )


def common_limits(records: Records, name: str) -> list[str]:
    """Limits of every file."""
    data = records[f"released/{name}"]["job"]["data"][0]
    return [
        f"The weights belong to one flow, one grid and one time between assimilations, with training runs of level "
        f"`{truth_level(data)}`. Other truth levels, jets and grids have no test.",
        layout_limit(records, name),
        noise_limit(records, name),
        "There is one seed of training; the spread between seeds is not known.",
    ]


def served_limit(records: Records, name: str) -> str:
    """Priors that the weights serve."""
    priors = " and ".join(f"`{prior}`" for prior in records[f"released/{name}"]["job"]["model"]["priors"])
    return f"The weights serve prior {priors} and no other. For prior `lr` there are no released weights."


def shift_table(records: Records) -> str:
    """Scores of the released model on other layouts."""
    lines = []
    for shift, name in PLACES.items():
        rows = rows_of(records, shift)
        ratio = interval(paired(rows["none"], rows["enkf-hr"]))
        lines.append([name, *scores(rows["none"], ("maer", "crps", "spread_skill")), ratio])
    return "\n\n".join(
        [
            prose(
                "Scores with the network conditioned on other layouts in the place of the lattice "
                f"([`sensor_shift.json`]({UP}/results/sensor_shift.json)):"
            ),
            table(["sensors", "MAER", "CRPS", "spread–skill", "MAER over `enkf-hr`'s, paired"], lines),
        ]
    )


def grid_limits(records: Records) -> list[str]:
    """Limits of the released model."""
    row = records["experiments/reconstruction"]
    each = interval(paired(row["diffsrda/each"], row["diffsrda"]))
    first, *_, last = records["released/diffsrda-small"]["milestones"]
    return [
        served_limit(records, "diffsrda-small"),
        *common_limits(records, "diffsrda-small"),
        silence_limit(records, "diffsrda-small"),
        texture_limit(records),
        f"The weights were trained for restart `mean` with prior `dual`; restart `each` has a MAER of {each} times "
        "that of `mean`.",
        "Over the last training the diffusion loss on validation windows rose from "
        f" {first['diffusion']:.4f} to {last['diffusion']:.4f}, while the regression loss fell "
        f"from {first['regression']:.4f} to {last['regression']:.4f}.",
    ]


def student_limits(records: Records) -> list[str]:
    """Limits of the student."""
    rows = records["experiments/reconstruction"]
    student, teacher = rows["diffsrda/one-step"], rows["diffsrda"]
    return [
        f"The student loses spread: spread–skill is {interval(student['scores']['spread_skill'])}, that of the "
        f"teacher {interval(teacher['scores']['spread_skill'])}. The CRPS is "
        f"{interval(paired(student, teacher, 'crps'))} times that of the teacher.",
        "The student works only with the number of steps that it was distilled to, and with sampler `dpmpp-2m`.",
        served_limit(records, "diffsrda-small-student"),
        *common_limits(records, "diffsrda-small-student"),
        silence_limit(records, "diffsrda-small-student"),
    ]


def latent_limits(records: Records) -> list[str]:
    """Limits of the latent model."""
    rows = records["experiments/reconstruction"]
    lower = interval(paired(rows["latent-diffsrda/uncentred"], rows["latent-diffsrda"]))
    return [
        f"The spread is too large: spread–skill is {interval(rows['latent-diffsrda']['scores']['spread_skill'])}.",
        f"Uncentred samples have a MAER of {lower} times that of centred ones.",
        f"The spread shows the patches of the autoencoder ([fields]({UP}/results/latent-diffsrda/fields.png)).",
        served_limit(records, "latent-kl-small"),
        *common_limits(records, "latent-kl-small"),
        silence_limit(records, "latent-kl-small"),
    ]


def cnn_limits(records: Records) -> list[str]:
    """Limits of the deterministic network."""
    rows = records["experiments/reconstruction"]
    windows = rows["diffsrda"]["training_windows"] / rows["cnn"]["training_windows"]
    return [
        "The network returns one field and no spread.",
        f"It has not converged: `diffsrda-small` was trained on {windows:.0f} times as many windows.",
        served_limit(records, "4dsrda-small"),
        *common_limits(records, "4dsrda-small")[:2],
        f"All training had observation noise {records['released/4dsrda-small']['job']['data'][0]['noise_std']}; "
        "other noise has no test with this network.",
        "There is one seed of training; the spread between seeds is not known.",
    ]


TEXTS = {
    "diffsrda-small": CardText(
        what=lambda records: (
            "The conditional diffusion model behind method `diffsrda`. A conditioner takes the first guess of a prior, "
            "its spread, the departures of the observations after kriging, and the model's own forecast; it returns "
            "the mean of five frames and the scale of the error at each point. A denoiser samples what is left, in "
            "units of that scale. The file is the default of `jaxsrda assimilate`."
        ),
        use=("jaxsrda assimilate", "jaxsrda assimilate --prior enkf-sr"),
        made="These commands made the weights, each on windows that the cycling of the weights before it visits.",
        limits=grid_limits,
        texture=("latent", "diffsrda"),
        more=(shift_table,),
    ),
    "diffsrda-small-student": CardText(
        what=lambda records: (
            "A student of `diffsrda-small` that samples in one step what its teacher samples in "
            f"{records['experiments/reconstruction']['diffsrda']['settings']['steps']}. Only the denoiser was trained "
            "and stored; all else is that of `diffsrda-small`."
        ),
        use=("jaxsrda assimilate --weights diffsrda-small-student --steps 1",),
        made="These commands made the weights; the last one trains the student.",
        limits=student_limits,
    ),
    "latent-kl-small": CardText(
        what=lambda records: (
            "The model behind method `latent-diffsrda`: an autoencoder of frames, and a denoiser that samples in its "
            "latent space around the conditioner's mean. Only the denoiser and the autoencoder were trained and "
            "stored; all else is that of `diffsrda-small`."
        ),
        use=("jaxsrda assimilate --method latent-diffsrda",),
        made=f"`{experiment('latent')}` made the weights (its `kl`); these commands do the same.",
        limits=latent_limits,
        texture=("latent", "kl"),
    ),
    "4dsrda-small": CardText(
        what=lambda records: (
            "The deterministic network 4D-SRDA (convolutions and a transformer) behind method `cnn`, trained for the "
            "mean with an L1 loss, on the windows that the cycling of `diffsrda-small` visits."
        ),
        use=("jaxsrda assimilate --method cnn",),
        made=f"`{experiment('deterministic')}` made the weights (its `4dsrda`); this command does the same.",
        limits=cnn_limits,
        texture=("deterministic", "4dsrda"),
    ),
}
"""The words by name."""
