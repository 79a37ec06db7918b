"""Sections on the methods, on few steps of the sampler, and on forecasts from perfect starts."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from experiments.tables.origin import no_choice, noted, on_test_truths, truths
from experiments.tables.records import Records, experiment
from experiments.tables.text import (
    SCORES,
    bullets,
    interval,
    mean,
    millions,
    paired,
    percent,
    prose,
    scores,
    small_energy,
    table,
)

FRAME, FIRST = 0.25, 1.0
"""Time between two frames, and the time of the first one in a record's series; definitions of the testbed."""

PERIODS = (1, 5, 9, 17, 24)
"""Bounds in time of the rows of the table by time; the roll-up is the second period."""

BANDS = (20, 36)
"""Wavenumbers at which the band of small scales and the band beyond it begin."""

STEPS_AS_GOOD, STEPS_REFERENCE, STEPS_TOO_FEW = 4, 50, 2
STEPS_DDIM = 10, 20
"""Numbers of steps that the text compares."""


def reconstruction(records: Records) -> str:
    """The section on all methods."""
    rows = records["experiments/reconstruction"]
    own = rows["diffsrda"]
    return "\n\n".join(
        [
            "## All methods on the same truths",
            prose(
                f"All methods meet the same {truths(own)} of level `{own['truth_level']}`, the same observations of "
                f"layout `{own['layout']}` and the same seeds. Scores are means over all frames and truths. The column "
                "*trained on* counts the windows of all trainings "
                f"behind the weights. The command is `{experiment('reconstruction')}`, the record is "
                f"[`results/reconstruction.json`](results/reconstruction.json). {tuned(records)} The other filters "
                "keep untuned settings. The record also holds wall times, but the machine was busy; the costs are in "
                "[`benchmarks/README.md`](../benchmarks/README.md)."
            ),
            noted(method_table(rows), rows.values()),
            findings(records),
            "![MAER, CRPS, spread–skill and MSSIM loss against time](results/reconstruction_series.png)",
            "### The same comparison by time",
            by_time(rows),
        ]
    )


TUNED = ("enkf-hr", "enkf-sr", "enkf-dual", "enkf-lagrange", "oi-lagrange")


def tuned(records: Records) -> str:
    """On which truths the filters were tuned."""
    parts = []
    for method in TUNED:
        label = records[f"benchmarks/tune_{method}"]["runs"][0]["label"]
        seeds = label["truth_seeds"]
        parts.append(f"`{method}` ({label['config']['members']} members) on seeds {seeds[0]} to {seeds[-1]}")
    return f"These filters were tuned on other truths: {', '.join(parts[:-1])} and {parts[-1]}."


def method_table(rows: dict[str, Any]) -> str:
    """Scores of every method, the lowest MAER first."""
    lines = []
    for name, row in sorted(rows.items(), key=lambda item: mean(item[1], "maer")):
        members = 1 if row["settings"].get("sampler") == "mean" else row["settings"]["members"]
        trained = ["–", "–"]
        if row["parameters"]:
            trained = [millions(row["parameters"]), f"{row['training_windows']:,}"]
        lines.append([f"`{name}`", members, *trained, *scores(row)])
    return table(["method", "members", "weights", "trained on", *SCORES.values()], lines)


def findings(records: Records) -> str:
    """What the table shows."""
    rows = records["experiments/reconstruction"]
    own, hr, dual = rows["diffsrda"], rows["enkf-hr"], rows["enkf-dual"]
    low, student, alone = rows["diffsrda/enkf-sr"], rows["diffsrda/one-step"], rows["diffsrda/regression"]
    lead = records["experiments/perfect_starts"]["lr"]["maer"]
    cost = records["benchmarks/cycle_diffsrda"]["enkf_hr_over"]["diffsrda"]
    small = small_energy(own["statistics"], *BANDS), small_energy(own["statistics"], BANDS[1])
    peaks = {name: peak(rows[name]) for name in ("enkf-hr", "letkf-hr")}
    late = {name: np.mean(of_period(rows[name]["series"]["spread_skill"], *PERIODS[2:4])) for name in peaks}
    deviation = {name: mean(rows[name], "energy_distance_members") for name in ("diffsrda", "enkf-hr")}
    carried, walls, field = (rows[name] for name in ("enkf-lagrange", "letkf-lagrange", "diffsrda/carried/gaussian"))
    nu = rows["enkf-hr/tuned-nu"]
    return bullets(
        f"`enkf-lagrange` integrates nothing on the HR grid: LR forecasts carry the HR fields of "
        f"{carried['settings']['members']} members. Its paired ratio to `enkf-hr` is "
        f"{interval(paired(carried, hr))} in MAER and {interval(paired(carried, hr, 'crps'))} in CRPS, with a "
        f"spread–skill of {interval(carried['scores']['spread_skill'])}; `letkf-lagrange` is as good "
        f"({interval(paired(walls, hr))} in MAER). It was tuned on validation truths by a search, and its model has "
        f"four fifths of the truths' ν, `enkf-hr` the paper's, five times the truths'. With ν among its tuned "
        f"parameters (`enkf-hr/tuned-nu`, ν = {nu['settings']['viscosity']:.3g}, nearly the truths') `enkf-hr` errs "
        f"less than every other method: its paired ratio to the paper's is {interval(paired(nu, hr))} in MAER, that of "
        f"`enkf-lagrange` "
        f"to it {interval(paired(carried, nu))}; its spread is too small "
        f"({interval(nu['scores']['spread_skill'])}), and each of its {nu['settings']['members']} members is an HR "
        "forecast. One carried forecast with optimal interpolation (`oi-lagrange`) does "
        "better than `enkf-sr` without any ensemble, and carried controls among LR perturbations "
        "(`enkf-dual-lagrange`) about as well as `enkf-hr`.",
        f"`diffsrda/carried/gaussian` has one carried LR forecast for all members and no ensemble: a network, trained "
        f"for a minute on an accelerator, supplies the rest. Its paired ratio to `enkf-hr` is "
        f"{interval(paired(field, hr))} in MAER and {interval(paired(field, hr, 'crps'))} in CRPS; to the same "
        f"forecast with optimal interpolation alone (`oi-lagrange`) "
        f"{interval(paired(field, rows['oi-lagrange']))} in MAER.",
        f"`diffsrda` with its default prior `dual` has a lower error than `enkf-hr` with "
        f"{hr['settings']['members']} members. The paired ratio is {interval(paired(own, hr))} in MAER and "
        f"{interval(paired(own, hr, 'crps'))} in CRPS. A cycle of `enkf-hr` takes {cost:.1f} times as long, because "
        f"`diffsrda` integrates one HR control and {own['settings']['members']} LR members.",
        f"With prior `enkf-sr` nothing is integrated on the HR grid. `diffsrda/enkf-sr` then takes "
        f"{percent(mean(low, 'maer') / mean(rows['enkf-sr'], 'maer'))} off the MAER of `enkf-sr` and does not reach "
        f"`enkf-hr`: the paired MAER ratio is {interval(paired(low, hr))}. An LR forecast from a perfect start "
        f"already has a MAER of {lead[0]:.2f} at its start and {lead[-1]:.2f} one time unit later (see below), and "
        "the samples must replace what it loses.",
        f"The mean size of the spread is right: spread–skill is {interval(own['scores']['spread_skill'])} with "
        f"restart `mean` and {interval(rows['diffsrda/each']['scores']['spread_skill'])} with restart `each`.",
        f"The texture of single members is not right. They hold {small[0]:.2f} of the truth's energy at wavenumbers "
        f"{BANDS[0]} to {BANDS[1] - 1} and {small[1]:.2f} of it from {BANDS[1]} on, which is white noise. The "
        f"members' energy spectrum deviates from the truth's by {deviation['diffsrda']:.1f} dB, that of `enkf-hr` by "
        f"{deviation['enkf-hr']:.1f} dB ([spectra](results/diffsrda/spectra.png)).",
        f"`diffsrda/regression` is the mean of the conditioner alone. It has the same MAER, because the samples are "
        f"centred on it, and a CRPS {percent(mean(alone, 'crps') / mean(own, 'crps'))} larger.",
        "`cnn` is the deterministic 4D-SRDA in the same cycle. `diffsrda` was trained on "
        f"{own['training_windows'] / rows['cnn']['training_windows']:.0f} times as many windows. The section on equal "
        "training compares networks with the same windows.",
        "`latent-diffsrda` samples in the latent space of an autoencoder. Its paired CRPS ratio to `diffsrda` is "
        f"{interval(paired(rows['latent-diffsrda'], own, 'crps'))}, and its spread is too large: spread–skill is "
        f"{interval(rows['latent-diffsrda']['scores']['spread_skill'])}.",
        "`diffsrda/one-step` is a student that samples in one step. It keeps the mean, which is the conditioner's, "
        f"and loses spread: spread–skill is {interval(student['scores']['spread_skill'])}. Its paired CRPS ratio to "
        f"the teacher is {interval(paired(student, own, 'crps'))} and to `enkf-hr` "
        f"{interval(paired(student, hr, 'crps'))}.",
        "With restart `each` every member goes on from its own sample. That is worse than one control from the mean "
        f"(paired MAER ratio {interval(paired(rows['diffsrda/each'], own))}); the weights were trained for the mean. "
        + no_choice(own, "Restart `mean`"),
        "`enkf-hr` and `letkf-hr` have too much spread before the roll-up, while errors are small: spread–skill "
        f"reaches {peaks['enkf-hr'][1]:.1f} at t = {peaks['enkf-hr'][0]:g} and {peaks['letkf-hr'][1]:.1f} at "
        f"t = {peaks['letkf-hr'][0]:g}. From t = {PERIODS[2]} to {PERIODS[3]} they have too little "
        f"({late['enkf-hr']:.2f} and {late['letkf-hr']:.2f}).",
        f"`enkf-dual` has {mean(dual, 'maer') / mean(hr, 'maer'):.2f} times the MAER of `enkf-hr`, and a cycle of "
        f"`enkf-hr` takes {records['benchmarks/cycle']['enkf_hr_over_dual']:.0f} times as long.",
        "The model error contributes to every score, because the truth is less viscous than the HR level. `etkf-hr` "
        "has no localization, and `ensf-sr` cannot spread the information of sparse sensors; both are controls.",
    )


def of_period(series: list[float], first: float, last: float) -> np.ndarray:
    """The part of a series in a period."""
    times = FIRST + FRAME * np.arange(len(series))
    return np.asarray(series)[(times >= first) & (times < last)]


def peak(row: dict[str, Any]) -> tuple[float, float]:
    """Time and value of the largest spread–skill."""
    series = row["series"]["spread_skill"]
    at = int(np.argmax(series))
    return FIRST + FRAME * at, series[at]


def by_time(rows: dict[str, Any]) -> str:
    """MAER of three methods by period."""
    names = ("diffsrda", "diffsrda/enkf-sr", "enkf-hr")
    lines, gains = [], []
    for first, last in itertools.pairwise(PERIODS):
        values = [of_period(rows[name]["series"]["maer"], first, last).mean() for name in names]
        gains.append((values[2] - values[0]) * len(of_period(rows[names[0]]["series"]["maer"], first, last)))
        lines.append([f"{first} to {last}", *(f"{value:.3f}" for value in values), f"{values[0] / values[2]:.2f}"])
    text = (
        f"Of the MAER that `diffsrda` saves, summed over the frames, {100 * gains[1] / sum(gains):.0f} % falls into "
        f"the roll-up from t = {PERIODS[1]} to {PERIODS[2]}. From t = {PERIODS[2]} to {PERIODS[3]} the two methods "
        "are close."
    )
    heads = ["t", *(f"`{name}`" for name in names), f"`{names[0]}` over `{names[2]}`"]
    return table(heads, lines) + "\n\n" + prose(text)


def step_row(records: Records, steps: int, sampler: str = "dpmpp-2m") -> dict[str, Any]:
    """The row of a sampler and its number of steps."""
    return records["experiments/few_steps"]["rows"][f"{sampler}, {steps}"]


def few_steps_command(records: Records) -> str:
    """The command behind the record of few steps."""
    settings = records["experiments/few_steps"]["settings"]
    return experiment(
        "few_steps", f"--truths {settings['truths']}", "--test-truths" if on_test_truths(settings) else ""
    )


def steps_chosen(records: Records) -> str:
    """What truths the sampler and its number of steps were chosen on."""
    settings, own = records["experiments/few_steps"]["settings"], records["experiments/reconstruction"]["diffsrda"]
    default = f"`{own['settings']['sampler']}` with {own['settings']['steps']} steps"
    if "test_truths" in settings:
        return f"The default is {default}."
    return (
        f"The default, {default}, was chosen by this record, although its truths are test truths: the scores of the "
        "default are not independent of the choice. The script now takes validation truths unless it gets "
        "`--test-truths`; a record of these does not exist yet."
    )


def few_steps(records: Records) -> str:
    """The section on the number of steps."""
    record = records["experiments/few_steps"]
    settings, rows = record["settings"], record["rows"]
    names = list(dict.fromkeys(name.rpartition(", ")[0] for name in rows))
    counts = sorted({int(name.rpartition(", ")[2]) for name in rows})
    lines = [[f"`{name}`", *(f"{rows[f'{name}, {n}']['crps']['mean']:.4f}" for n in counts)] for name in names]
    spread = [[f"`{name}`", *(f"{rows[f'{name}, {n}']['spread_skill']:.2f}" for n in counts)] for name in names]
    few, many, two = (step_row(records, n) for n in (STEPS_AS_GOOD, STEPS_REFERENCE, STEPS_TOO_FEW))
    ddim = [step_row(records, n, "ddim eta=0") for n in STEPS_DDIM]
    heads = ["sampler", *(f"{n} steps" if n > 1 else f"{n} step" for n in counts)]
    return "\n\n".join(
        [
            "## Few steps of the sampler",
            prose(
                f"All rows draw {settings['members']} members from the same conditions, at t = "
                f"{', '.join(map(str, settings['times']))} of {truths(settings)}, with prior "
                f"`{settings['prior']}`. The mean is that of the samples themselves. The command is "
                f"`{few_steps_command(records)}`, the record is [`results/few_steps.json`](results/few_steps.json), "
                "and the curves are in [`results/few_steps.png`](results/few_steps.png). The first table has the "
                "CRPS, the second the spread–skill ratio."
            ),
            prose(steps_chosen(records)),
            table(heads, lines),
            noted(table(heads, spread), rows.values()),
            prose(
                f"DPM-Solver++ 2M (`dpmpp-2m`) with {STEPS_AS_GOOD} steps has a MAER of {few['maer']['mean']:.4f} and "
                f"a CRPS of {few['crps']['mean']:.4f}; with {STEPS_REFERENCE} steps it has "
                f"{many['maer']['mean']:.4f} and {many['crps']['mean']:.4f}. With {STEPS_TOO_FEW} steps the CRPS is "
                f"{two['crps']['mean']:.4f}, which is worse. DDIM needs more steps: with η = 0 its CRPS is "
                f"{ddim[0]['crps']['mean']:.4f} with {STEPS_DDIM[0]} steps and {ddim[1]['crps']['mean']:.4f} with "
                f"{STEPS_DDIM[1]}."
            ),
        ]
    )


def perfect_starts(records: Records) -> str:
    """The section on forecasts from perfect starts."""
    record = records["experiments/perfect_starts"]
    names = [name for name, row in record.items() if isinstance(row, dict) and "maer" in row]
    lines = [
        [
            f"`{name}`",
            *(
                interval({"mean": m, "low": a, "high": b})
                for m, a, b in zip(record[name]["maer"], record[name]["low"], record[name]["high"])
            ),
        ]
        for name in names
    ]
    return "\n\n".join(
        [
            "## Forecasts from perfect starts",
            prose(
                f"Each model starts from the truth on its own grid and sees no observations. The table has the MAER "
                f"by lead time over {record['truths']} truths. It bounds what a filter with that model can reach. "
                "`lagrangian` carries an HR field along LR forecasts. The "
                f"command is `{experiment('perfect_starts')}`, the record is "
                "[`results/perfect_starts.json`](results/perfect_starts.json)."
            ),
            noted(
                table(["level", *(f"lead {lead:g}" for lead in record["lr"]["lead"])], lines),
                [record[name] for name in names],
            ),
        ]
    )
