"""The table of claims: each with its command, number, rule, verdict and record."""

from __future__ import annotations

from typing import Any, NamedTuple

from experiments.tables import latent as latent_section
from experiments.tables.reconstruction import (
    STEPS_AS_GOOD,
    STEPS_REFERENCE,
    STEPS_TOO_FEW,
    few_steps_command,
    step_row,
)
from experiments.tables.records import Records, benchmark, experiment, training_options
from experiments.tables.sensors import PLACES, command, rows_of, validation
from experiments.tables.speed import CYCLES
from experiments.tables.text import Interval, interval, mean, paired, prose, table
from experiments.tables.training import mixup_command, target_level_command

CLOSE = (0.95, 1.05)
"""Bounds within which two scores count as equal."""

CALIBRATED = (0.85, 1.15)
"""Bounds within which a spread–skill ratio counts as calibrated."""

CARRIED = ("diffsrda/carried", "diffsrda/carried/gaussian", "diffsrda/carried/white")
"""Rows of a network that corrects one carried forecast."""

HOLDS, FAILS, OPEN = "holds", "fails", "open"


class Claim(NamedTuple):
    """One row."""

    text: str
    command: str
    number: str
    rule: str
    verdict: str
    record: str


def below(value: Interval, bound: float = 1.0) -> tuple[str, str]:
    """Rule and verdict: the whole interval is below a bound."""
    verdict = HOLDS if value["high"] < bound else FAILS if value["low"] >= bound else OPEN
    return f"< {bound:g}", verdict


def above(value: Interval, bound: float = 1.0) -> tuple[str, str]:
    """Rule and verdict: the whole interval is above a bound."""
    verdict = HOLDS if value["low"] > bound else FAILS if value["high"] <= bound else OPEN
    return f"> {bound:g}", verdict


def within(value: Interval, bounds: tuple[float, float] = CLOSE) -> tuple[str, str]:
    """Rule and verdict: the whole interval is inside two bounds."""
    low, high = bounds
    outside = value["high"] < low or value["low"] > high
    verdict = HOLDS if low <= value["low"] and value["high"] <= high else FAILS if outside else OPEN
    return f"in [{low:g}, {high:g}]", verdict


def apart(lower: Interval, higher: Interval) -> tuple[str, str]:
    """Rule and verdict: two intervals do not overlap, and the first is the lower one."""
    verdict = HOLDS if lower["high"] < higher["low"] else FAILS if lower["low"] > higher["high"] else OPEN
    return "first below second, no overlap", verdict


def point(value: float) -> Interval:
    """A number without an interval."""
    return {"mean": value, "low": value, "high": value}


def link(name: str, folder: str = "results") -> str:
    """A link to a record."""
    return f"[`{name}`]({folder}/{name}.json)"


def ratio_claim(text: str, run: str, value: Interval, judged: tuple[str, str], record: str, score: str) -> Claim:
    """A claim on a paired ratio."""
    return Claim(text, run, f"{score} ratio {interval(value)}", *judged, record)


def of_methods(records: Records) -> list[Claim]:
    """Claims from the comparison of all methods."""
    rows, run, record = records["experiments/reconstruction"], experiment("reconstruction"), link("reconstruction")
    own, hr, low, student = (rows[name] for name in ("diffsrda", "enkf-hr", "diffsrda/enkf-sr", "diffsrda/one-step"))

    def claim(text: str, row: dict[str, Any], base: dict[str, Any], rule: Any, score: str = "maer") -> Claim:
        value = paired(row, base, score)
        return ratio_claim(text, run, value, rule(value), record, score.upper())

    def spread(text: str, row: dict[str, Any], rule: Any, *bounds: Any) -> Claim:
        value = row["scores"]["spread_skill"]
        return Claim(text, run, f"spread–skill {interval(value)}", *rule(value, *bounds), record)

    sr, lead = rows["enkf-sr"]["scores"]["maer"], records["experiments/perfect_starts"]["lr"]
    start = {"mean": lead["maer"][0], "low": lead["low"][0], "high": lead["high"][0]}
    cost = records["benchmarks/cycle_diffsrda"]["enkf_hr_over"]["diffsrda"]
    cycle = "--methods enkf-hr enkf-dual diffsrda --cycles 4 --out benchmarks/results/cycle_diffsrda.json"
    nu = rows["enkf-hr/tuned-nu"]
    carried, carry = rows["enkf-lagrange"], "--methods enkf-hr enkf-lagrange letkf-lagrange --cycles 4"
    carry += " --out benchmarks/results/cycle_lagrange.json"
    cheap = records["benchmarks/cycle_lagrange"]["enkf_hr_over"]["enkf-lagrange"]
    return [
        claim(
            "`enkf-lagrange`, HR fields carried by LR forecasts, has little more than half the MAER of `enkf-hr`",
            carried,
            hr,
            lambda value: below(value, 0.55),
        ),
        claim("The same of the CRPS", carried, hr, lambda value: below(value, 0.55), "crps"),
        claim("With ν among its tuned parameters (`enkf-hr/tuned-nu`) `enkf-hr` has a lower MAER", nu, hr, below),
        claim(
            "`enkf-lagrange` does not reach that filter, whose HR model has nearly the truths' ν", carried, nu, above
        ),
        Claim(
            "A cycle of `enkf-hr` takes longer than one of `enkf-lagrange`",
            benchmark("cycle", carry),
            f"time ratio {cheap:.1f} (one timing)",
            *above(point(cheap), 8),
            link("cycle_lagrange", "../benchmarks/results"),
        ),
        spread("The spread of `enkf-lagrange` is calibrated", carried, within, CALIBRATED),
        *of_one_forecast(records),
        claim("`diffsrda` has a lower MAER than `enkf-hr`", own, hr, below),
        claim("`diffsrda` has a lower CRPS than `enkf-hr`", own, hr, below, "crps"),
        Claim(
            "A cycle of `enkf-hr` takes longer than one of `diffsrda`",
            benchmark("cycle", cycle),
            f"time ratio {cost:.1f} (one timing)",
            *above(point(cost)),
            link("cycle_diffsrda", "../benchmarks/results"),
        ),
        spread("The spread of `diffsrda` is calibrated", own, within, CALIBRATED),
        claim(
            "Samples have a lower CRPS than the conditioner's mean alone",
            own,
            rows["diffsrda/regression"],
            below,
            "crps",
        ),
        claim("Restart `mean` has a lower MAER than restart `each`", own, rows["diffsrda/each"], below),
        claim("Restart `mean` has a lower MAER than restart `open`", own, rows["diffsrda/open"], below),
        Claim(
            "With LR forecasts alone `diffsrda` has a lower MAER than `enkf-sr`",
            run,
            f"MAER {interval(low['scores']['maer'])} and {interval(sr)}",
            *apart(low["scores"]["maer"], sr),
            record,
        ),
        claim("With LR forecasts alone `diffsrda` does not reach `enkf-hr`", low, hr, above),
        Claim(
            "The LR model loses more from a perfect start than `enkf-hr` errs",
            experiment("perfect_starts"),
            f"MAER {interval(hr['scores']['maer'])} and {interval(start)}",
            *apart(hr["scores"]["maer"], start),
            link("perfect_starts"),
        ),
        spread("The student of one step loses spread", student, below, CALIBRATED[0]),
        claim("The student of one step keeps the MAER of its teacher", student, own, within),
        claim("The student of one step has a lower CRPS than `enkf-hr`", student, hr, below, "crps"),
        claim("Samples in the latent space are as good in CRPS", rows["latent-diffsrda"], own, within, "crps"),
    ]


def of_one_forecast(records: Records) -> list[Claim]:
    """Claims on a network that corrects one carried forecast, without any ensemble."""
    rows, record = records["experiments/reconstruction"], link("reconstruction")
    field, samples, hr = (rows[name] for name in ("diffsrda/carried/gaussian", "diffsrda/carried", "enkf-hr"))
    run = experiment("reconstruction", "--methods", *CARRIED, "--joint")
    cost = records["benchmarks/cycle_carried"]["enkf_hr_over"]["diffsrda"]
    claims = []
    for score in ("maer", "crps"):
        value = paired(field, hr, score)
        words = (
            f"A network on one carried LR forecast, `diffsrda/carried/gaussian`, has at most 0.7 of the {score.upper()}"
        )
        claims.append(ratio_claim(f"{words} of `enkf-hr`", run, value, below(value, 0.7), record, score.upper()))
    spread = field["scores"]["spread_skill"]
    claims += [
        Claim(
            "Its spread is calibrated",
            run,
            f"spread–skill {interval(spread)}",
            *within(spread, CALIBRATED),
            record,
        ),
        Claim(
            "A cycle of `enkf-hr` takes at least 15 times as long",
            CYCLES["cycle_carried"],
            f"time ratio {cost:.1f} (one timing)",
            *above(point(cost), 15),
            link("cycle_carried", "../benchmarks/results"),
        ),
    ]
    for score, name in (
        ("energy", "energy score"),
        ("crps_block8", "CRPS of 8² means"),
        ("crps_gradient", "CRPS of gradients"),
    ):
        value = paired(samples, field, score)
        words = f"There, samples of the diffusion have a lower {name} than a Gaussian field around the same mean"
        claims.append(Claim(words, run, f"ratio {interval(value)}", *below(value), record))
    return claims


def of_steps(records: Records) -> list[Claim]:
    """Claims on the number of steps; the record has no single truths, so the ratios have no interval."""
    many, run, claims = step_row(records, STEPS_REFERENCE), few_steps_command(records), []
    for steps, score, text, rule, bound in (
        (STEPS_AS_GOOD, "maer", "as good as", below, CLOSE[1]),
        (STEPS_AS_GOOD, "crps", "as good as", below, CLOSE[1]),
        (STEPS_TOO_FEW, "crps", "worse than", above, CLOSE[1]),
    ):
        value = step_row(records, steps)[score]["mean"] / many[score]["mean"]
        words = f"{steps} steps of DPM-Solver++ 2M are {text} {STEPS_REFERENCE} in {score.upper()}"
        number = f"{score.upper()} ratio {value:.3f} (of means)"
        claims.append(Claim(words, run, number, *rule(point(value), bound), link("few_steps")))
    return claims


def of_training(records: Records) -> list[Claim]:
    """Claims on networks, autoencoders and training data."""
    networks, coded = records["experiments/deterministic"]["rows"], records["experiments/latent"]["rows"]
    mixed, other = records["experiments/mixup"], records["experiments/mixup_4dsrda-small"]
    forecasts, length = mixed["rows"], records["experiments/training_length"]
    full = {row["runs"]: row for row in length["rows"].values() if not row["times"]}
    cut = next(row for row in length["rows"].values() if row["times"])
    options = f"{training_options(length['settings'])} --times {' '.join(map(str, length['settings']['times']))}"
    levels = {(row["trained"], row["truth"]): row["maer"] for row in records["experiments/target_level"]["rows"]}

    def claim(text, run, pair, rule, record, score="maer") -> Claim:
        value = paired(*pair, score)
        return ratio_claim(text, run, value, rule(value), link(record), score.upper())

    train, mix, longer = experiment("deterministic"), mixup_command(mixed), experiment("training_length", options)
    mix_4d, name_4d = mixup_command(other, "mixup_4dsrda-small"), "mixup_4dsrda-small"
    more = (full[max(full)], full[min(full)])
    residual, regression = networks["residual"], networks["regression"]
    level = [levels[name, "fine"] for name in ("fine", "hr")]
    value = {
        key: level[0][key] / level[1][other] for key, other in (("mean", "mean"), ("low", "high"), ("high", "low"))
    }
    return [
        claim("Diffusion improves the mean that it surrounds", train, (residual, regression), below, "deterministic"),
        claim("Diffusion lowers the CRPS", train, (residual, regression), below, "deterministic", "crps"),
        claim("4D-SRDA has as good a mean", train, (networks["4dsrda"], residual), within, "deterministic"),
        claim(
            "`vq` without centring loses accuracy",
            latent_section.COMMAND,
            (coded["vq/uncentred"], coded["diffsrda"]),
            above,
            "latent",
        ),
        claim("SR-mixup helps (prior `lr`)", mix, (forecasts["mixup"], forecasts["clean"]), below, "mixup"),
        claim("Starts like analyses help more", mix, (forecasts["perturbed"], forecasts["mixup"]), below, "mixup"),
        claim("The own cycle helps most", mix, (forecasts["own cycle"], forecasts["perturbed"]), below, "mixup"),
        claim("SR-mixup helps 4D-SRDA", mix_4d, (other["rows"]["mixup"], other["rows"]["clean"]), below, name_4d),
        claim("More training runs lower the MAER", longer, more, below, "training_length"),
        claim("Short training runs raise the MAER", longer, (cut, full[max(full)]), above, "training_length"),
        ratio_claim(
            "HR runs train as well as fine runs for fine truths",
            target_level_command(records),
            value,
            within(value),
            link("target_level"),
            "Unpaired MAER",
        ),
    ]


def of_sensors(records: Records) -> list[Claim]:
    """Claims on guidance and other layouts."""
    dense, moored, record = rows_of(records, "8-4"), rows_of(records, "moorings"), link("sensor_shift")

    def claim(text: str, shift: str, pair: tuple, rule: Any, score: str = "maer") -> Claim:
        value = paired(*pair, score)
        return ratio_claim(text, command(records, shift), value, rule(value), record, score.upper())

    claims = [
        claim("Guidance by `oi` with more sensors lowers the MAER", "8-4", (dense["oi"], dense["none"]), below),
        claim("`oi` has a lower CRPS than `blend`", "8-4", (dense["oi"], dense["blend"]), below, "crps"),
        claim("Conditioning is better than guidance by `oi`", "8-4", (dense["condition"], dense["oi"]), below),
        claim("Guidance by moored velocities lowers the MAER", "moorings", (moored["oi"], moored["none"]), below),
    ]
    for shift, name in PLACES.items():
        rows = rows_of(records, shift)
        text = f"The network has a lower MAER than `enkf-hr` on {name}"
        claims.append(claim(text, shift, (rows["none"], rows["enkf-hr"]), below))
    for shift, name in PLACES.items():
        rows = rows_of(records, shift)
        text = f"The same sensors as guides (`projected`) raise the MAER on {name}"
        claims.append(claim(text, shift, (rows["projected"], rows["none"]), above))
    best, without = (validation(records, "8-12 untold", method) for method in ("oi", "none"))
    row = records["experiments/sensor_shift"]["rows"]["8-12 untold/none"]
    conditioned = rows_of(records, "8-12")["none"]
    run = command(records, "8-12 untold")
    number = f"CRPS ratio {best / without:.3f} (validation truths)"
    lost = f"MAER {mean(row, 'maer'):.2f}, ratio {interval(paired(row, conditioned), 1)}"
    return [
        *claims,
        Claim("Without sensors the network loses the truth", run, lost, *above(paired(row, conditioned)), record),
        Claim("Guidance does not stand in for conditioning", run, number, *above(point(best / without)), record),
    ]


def claims(records: Records) -> list[Claim]:
    """Every claim."""
    return [claim for part in (of_methods, of_steps, of_training, of_sensors) for claim in part(records)]


def claims_section(records: Records) -> str:
    """The section with the table and its rules."""
    lines = [
        [
            row.text,
            row.number,
            row.rule.replace("<", "&lt;").replace(">", "&gt;"),
            row.verdict,
            f"`{row.command}`",
            row.record,
        ]
        for row in claims(records)
    ]
    truths = records["experiments/reconstruction"]["diffsrda"]["truths"]
    return "\n\n".join(
        [
            "## Claims",
            prose(
                f"Intervals are bootstrap intervals over the {truths} truths, and a ratio is paired: it is taken truth "
                "by truth. A claim **holds** if its whole interval obeys the rule, it **fails** if the whole interval "
                "breaks it, and otherwise it is **open**. A number without an interval is judged by itself. Two scores "
                f"count as equal if their ratio lies within {CLOSE[0]:g} and {CLOSE[1]:g}, and a spread–skill ratio "
                f"counts as calibrated within {CALIBRATED[0]:g} and {CALIBRATED[1]:g}."
            ),
            table(["claim", "number", "rule", "verdict", "command", "record"], lines),
        ]
    )
