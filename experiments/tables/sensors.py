"""The sections on sensors outside the conditioning of the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.tables.origin import noted
from experiments.tables.records import Records, experiment
from experiments.tables.text import bullets, interval, mean, paired, percent, prose, scores, table

GUIDES = ("oi", "blend", "mmps", "projected", "pigdm", "diffpir", "lifted", "sda", "dps")
"""Methods of guidance in the order of the tables."""

PLACES = {
    "8-12": "`lattice:12`",
    "random": "`random-fixed:128`",
    "moving": "`random-moving:128`",
    "drop-out": "`lattice:8+dropout:0.5`",
    "noise": "`lattice:8`, larger noise (`--obs-noise 0.3`)",
}
"""Layouts that take the place of the lattice: names of options, as in the script."""

ADDED, MOORINGS = "`lattice:4`", "`random-fixed:64`"
"""Layouts of additional sensors: names of options, as in the script."""

RECORD = "[`results/sensor_shift.json`](results/sensor_shift.json)"


def command(records: Records, *shifts: str) -> str:
    """The command of some shifts."""
    frames = records["experiments/sensor_shift"]["tuning"][f"{shifts[0]}/oi"]["frames"]
    names = " ".join(f'"{name}"' if " " in name else name for name in shifts)
    return experiment("sensor_shift", f"--shifts {names} --validation-frames {frames}")


def rows_of(records: Records, shift: str) -> dict[str, Any]:
    """Rows with scores of one shift, by method."""
    found = records["experiments/sensor_shift"]["rows"]
    order = ("none", *GUIDES, "condition", "enkf-hr")
    return {name: found[f"{shift}/{name}"] for name in order if "scores" in found.get(f"{shift}/{name}", {})}


def validation(records: Records, shift: str, method: str) -> float | None:
    """Lowest CRPS of a method over its strengths on the validation truths; None if it is not on record."""
    tried = records["experiments/sensor_shift"]["tuning"].get(f"{shift}/{method}", {"crps": {}})["crps"]
    return min((value for value in tried.values() if value is not None), default=None)


def diverged(records: Records, shift: str, method: str) -> str:
    """Strengths at which a method diverged on the validation truths."""
    tried = records["experiments/sensor_shift"]["tuning"][f"{shift}/{method}"]["crps"]
    return " and ".join(sorted(strength for strength, value in tried.items() if value is None))


def guided_table(rows: dict[str, Any], sensors: str) -> str:
    """Scores of methods with additional sensors."""
    lines = []
    for name, row in rows.items():
        fits = (f"{mean(row, key):.3f}" for key in ("fit_new", "fit_withheld"))
        ratio = interval(paired(row, rows["none"]))
        cells = [*scores(row, ("maer",)), ratio, *scores(row, ("crps", "spread_skill"))]
        lines.append([f"`{name}`", row["strength"] or "–", *cells, *fits, f"{row['seconds']:.0f}"])
    heads = ["method", "strength", "MAER", "MAER over `none`'s, paired", "CRPS", "spread–skill"]
    return noted(table([*heads, f"RMSE at {sensors}", "at withheld sensors", "s a truth"], lines), rows.values())


def more_sensors(records: Records) -> str:
    """The section on guidance by a denser lattice."""
    tuning = records["experiments/sensor_shift"]["tuning"]
    rows = rows_of(records, "8-4")
    seeds, frames = tuning["8-4/oi"]["truths"], tuning["8-4/oi"]["frames"]
    sda = tuning["8-4/sda"]["crps"]
    lead = {name: rows[name]["by_lead"] for name in ("oi", "condition")}
    members = records["experiments/reconstruction"]["diffsrda"]["settings"]["members"]
    spread = [mean(rows[name], "spread_skill") for name in GUIDES if name in rows]
    width = tuning["8-4/blend"]["blur"][0]
    best = [mean_ratio(rows, name) for name in ("oi", "blend", "mmps")]
    weak, chosen = min(sda, key=float), str(rows["sda"]["strength"])
    return "\n\n".join(
        [
            "## Sensors outside the conditioning",
            prose(
                f"The network is conditioned on layout `lattice:8` as before. Additional sensors on {ADDED} guide its "
                f"samples, in the cycle, on {rows['none']['truths']} truths. The command is "
                f"`{command(records, '8-4')}`, the record is {RECORD}. Each strength has the lowest CRPS on "
                f"validation truths {seeds[0]} and {seeds[1]}, over their first {frames} frames (over "
                f"{tuning['8-4/sda']['frames']} for `sda` and `dps`, which may diverge late). No test truth chooses "
                "anything. The withheld sensors lie at random places, and no method gets their values; the RMSE at "
                "sensors includes the noise. `none` ignores the additional sensors, `condition` conditions the network "
                "on them, and `enkf-hr` assimilates all sensors. Other jobs ran beside these, so the seconds are rough."
            ),
            guided_table(rows, "the additional sensors"),
            bullets(
                f"`oi`, `blend` and `mmps` are best. Their MAER ratios are between {min(best):.3f} and "
                f"{max(best):.3f}, without "
                "training. `oi` uses the covariance of the released model's samples, `mmps` the derivative of the "
                f"network, and `blend` a blur with a width of {width:g} grid point. The CRPS of `oi` over "
                "that of `blend` is "
                f"{interval(paired(rows['oi'], rows['blend'], 'crps'))}: a small lead. The blur was chosen on the "
                "validation truths too; `oi` needs no such choice.",
                f"At the assimilation time `oi` is as good as conditioning (MAER {lead['oi'][0]:.3f} and "
                f"{lead['condition'][0]:.3f}). At the three frames after it conditioning is better: "
                f"{lead['condition'][1]:.3f} to {lead['condition'][3]:.3f}, against {lead['oi'][1]:.3f} to "
                f"{lead['oi'][3]:.3f}.",
                "Conditioning is the better choice wherever the network was trained for it: the MAER of `condition` "
                f"over that of `oi` is {interval(paired(rows['condition'], rows['oi']))}. With all sensors `enkf-hr` "
                f"has a MAER of {interval(paired(rows['enkf-hr'], rows['condition']))} times that of `condition`, and "
                f"a CRPS of {interval(paired(rows['enkf-hr'], rows['condition'], 'crps'))} times.",
                "`lifted` and `diffpir` assume white errors and move little more than the sensors' own points. They "
                f"take {percent(mean_ratio(rows, 'lifted'))} and {percent(mean_ratio(rows, 'diffpir'))} off the MAER. "
                f"`sda` and `dps` gain {percent(mean_ratio(rows, 'sda'))} and "
                f"{percent(mean_ratio(rows, 'dps'))}. `dps` "
                f"diverges at strength {diverged(records, '8-4', 'dps')}. On the validation truths the CRPS of `sda` "
                f"is {sda[weak]:.3f} at strength {weak} and {sda[chosen]:.3f} at strength {chosen}.",
                f"The members of all methods of guidance have too much spread ({min(spread):.2f} to "
                f"{max(spread):.2f}, `none` {mean(rows['none'], 'spread_skill'):.2f}). Pairs of opposite "
                "noise raise the "
                f"ratio by {percent(((members + 1) / (members - 1)) ** 0.5)}: the ratio assumes independent "
                "members, and "
                f"the mean of {members} members whose noise cancels is known better than the ratio assumes.",
                "The chosen strengths of `blend`, `mmps`, `lifted` and `diffpir` are at the end of the tried range.",
            ),
        ]
    )


def mean_ratio(rows: dict[str, Any], method: str, base: str = "none") -> float:
    """The paired MAER ratio without its interval."""
    return paired(rows[method], rows[base])["mean"]


def moorings(records: Records) -> str:
    """The section on moored velocities."""
    rows = rows_of(records, "moorings")
    tuning = records["experiments/sensor_shift"]["tuning"]
    gains = ", ".join(f"`{name}` {percent(mean_ratio(rows, name))}" for name in ("pigdm", "oi", "diffpir", "lifted"))
    sda = validation(records, "moorings", "sda"), validation(records, "moorings", "none")
    return "\n\n".join(
        [
            "### Moored velocities",
            prose(
                f"Besides `lattice:8`, moored sensors at {MOORINGS} measure the velocity u. The command is "
                f"`{command(records, 'moorings')}`, the truths and columns are the same, and "
                "`condition` here means that the EnKF of the prior assimilates the velocities, because the network "
                "takes vorticity alone."
            ),
            guided_table(rows, "the moorings"),
            bullets(
                f"Guidance takes several percent off the MAER of the vorticity ({gains}), from a quantity that the "
                "network does not know. Each velocity depends on the vorticity all around it, which may be why white "
                "errors do as well here as a covariance.",
                f"When the EnKF of the prior assimilates the velocities (`condition`), the MAER ratio is "
                f"{interval(paired(rows['condition'], rows['none']))}.",
                f"`pigdm` diverges at strengths {diverged(records, 'moorings', 'pigdm')}. `pigdm`, `mmps`, `lifted` "
                "and `dps` are best at the end of the tried range. `blend` puts departures back at the place of their "
                "measurement, which has no meaning for a velocity: it diverges at every strength "
                f"({' and '.join(devices(tuning['moorings/blend'], 'cpu'))}). The best CRPS of `sda` on the validation "
                f"truths is {sda[0]:.4f}, that of `none` {sda[1]:.4f}, so `sda` did not run on the test truths.",
                f"`enkf-hr` with both kinds of sensors has a MAER of "
                f"{interval(paired(rows['enkf-hr'], rows['none']))} times that of the network without the moorings, "
                "and too little spread.",
            ),
        ]
    )


def other_places(records: Records) -> str:
    """The section on layouts that take the place of the lattice."""
    record, released = records["experiments/sensor_shift"], records["released/diffsrda-small"]["job"]["data"][0]
    tried, alone = record["tuning"]["8-12/sda"]["crps"], record["rows"]["8-12/sda"]["declined"]["none"]
    weakest = max(tried, key=float)
    lines, ratios, spreads, again, shown = [], {}, [], [], []
    for shift, name in PLACES.items():
        rows = rows_of(records, shift)
        ratios[shift] = paired(rows["enkf-hr"], rows["none"])
        spreads.append(mean(rows["none"], "spread_skill"))
        again.append(mean_ratio(rows, "projected"))
        for method, label in (("none", "network"), ("projected", "network and `projected`"), ("enkf-hr", "`enkf-hr`")):
            row = rows[method]
            shown.append(row)
            ratio = "–" if method == "none" else interval(paired(row, rows["none"]))
            fits = (f"{mean(row, key):.3f}" for key in ("fit_new", "fit_withheld"))
            cells = [*scores(row, ("maer",)), ratio, *scores(row, ("crps", "spread_skill")), *fits]
            lines.append([name if method == "none" else "", label, *cells])
    heads = ["sensors", "method", "MAER", "over the network's, paired", "CRPS", "spread–skill", "RMSE at the sensors"]
    layouts = ", ".join(f"`{layout}`" for layout in (released["layout"], *released["extra_layouts"]))
    open_shifts = [PLACES[shift] for shift, ratio in ratios.items() if ratio["low"] <= 1 <= ratio["high"]]
    low, high = (f(ratio["mean"] for ratio in ratios.values()) for f in (min, max))
    return "\n\n".join(
        [
            "### Other layouts in the place of the lattice",
            prose(
                "Here other sensors replace the lattice, and the network is conditioned on them without adaptation: "
                "its input is the departures after kriging, whatever the layout. Training had the layouts "
                f"{layouts} and noise {released['noise_std']}; it had neither fixed random places nor the larger "
                f"noise. The command is `{command(records, *PLACES)}`, the record is {RECORD}."
            ),
            noted(table([*heads, "at withheld sensors"], lines), shown),
            bullets(
                f"The network stays calibrated with every layout (spread–skill {min(spreads):.2f} to "
                f"{max(spreads):.2f}). The MAER of `enkf-hr` with its HR members is {percent(low)} to {percent(high)} "
                f"larger. With {' and '.join(open_shifts)} the interval of the ratio contains 1, so ten truths do not "
                "settle the order."
                if open_shifts
                else f"The network stays calibrated with every layout (spread–skill {min(spreads):.2f} to "
                f"{max(spreads):.2f}). The MAER of `enkf-hr` is {percent(low)} to {percent(high)} larger.",
                "The same sensors once more, as guides, gain nothing: `projected` costs "
                f"{percent(min(again))} to {percent(max(again))} of the MAER. No method on record that guides at each "
                "step is better on the validation truths than conditioning alone, at any strength, so none "
                "ran on the test "
                "truths. The observations then count twice, and the mean of the members is no longer that of the "
                f"conditioner. The weakest guidance loses too: `sda` with strength {weakest} on {PLACES['8-12']} has a "
                f"CRPS of {tried[weakest]:.4f}, the network alone {alone:.4f}. The next "
                "table has the lowest CRPS over the strengths on the validation truths.",
            ),
            declined_table(records),
        ]
    )


def declined_table(records: Records, methods: Sequence[str] = ("oi", "blend", "lifted", "diffpir", "mmps")) -> str:
    """Lowest CRPS on validation truths by layout and method."""
    methods = (*methods, "pigdm", "sda", "dps")
    tuning = records["experiments/sensor_shift"]["tuning"]
    lines = []
    for shift, name in PLACES.items():
        values = [validation(records, shift, method) for method in ("none", *methods)]
        lines.append([name, *("–" if value is None else f"{value:.3f}" for value in values)])
    others = sorted({device for row in tuning.values() for device in devices(row) if device != "cpu"})
    rows = records["experiments/sensor_shift"]["rows"]
    elsewhere = [
        abs(row["declined"]["none"] - validation(records, shift, "none"))
        for shift in PLACES
        for method in methods
        if "declined" in (row := rows.get(f"{shift}/{method}", {})) and devices(row) not in ([], ["cpu"])
    ]
    note = f"– marks what is not on record. `blend` has a blur of {tuning['8-12/blend']['blur'][0]:g} grid points here."
    if elsewhere:
        note += (
            f" `pigdm`, `sda` and `dps` ran on an {' and an '.join(others)}, where the CRPS of the network alone "
            f"differs by at most {max(elsewhere):.4f} from that in the table."
        )
    shown = table(["sensors", "network", *(f"`{name}`" for name in methods)], lines)
    strengths = [
        {"provenance": by[strength]} if strength in (by := entry.get("by", {})) else {}
        for name, entry in tuning.items()
        if name.partition("/")[0] in PLACES
        for strength in entry["crps"]
    ]
    return noted(shown, strengths) + "\n\n" + prose(note)


def devices(entry: dict[str, Any], default: str = "") -> list[str]:
    """Devices that a row or the strengths of a method ran on; older records name those that are no CPU."""
    if "device" in entry:
        return [entry["device"]]
    runs = [*entry.get("by", {}).values(), *([entry["provenance"]] if "provenance" in entry else [])]
    return sorted({run["device"]["kind"] for run in runs}) or ([default] if default else [])


def silence_in_training(records: Records, name: str = "diffsrda-small") -> str:
    """How much silence training has."""
    layouts = [text for text in records[f"released/{name}"]["job"]["data"][0]["extra_layouts"] if "silent" in text]
    return (
        f"Training lacks all sensors only at random times of the layout `{layouts[0]}`, so long periods "
        "without sensors "
        "are rare in it."
    )


def silence(records: Records) -> str:
    """The section on guidance without conditioning."""
    row = records["experiments/sensor_shift"]["rows"]["8-12 untold/none"]
    best, without = (validation(records, "8-12 untold", method) for method in ("oi", "none"))
    return "\n\n".join(
        [
            "### Guidance without conditioning",
            prose(
                "Guidance does not stand in for conditioning. The shift `8-12 untold` "
                f"(`{command(records, '8-12 untold')}`) "
                f"gives {PLACES['8-12']} to the guidance and no sensors to the network. The forecasts then lose the "
                f"truth (MAER {interval(row['scores']['maer'], 2)}). `oi` does not bring them back: its best "
                "CRPS on the "
                f"validation truths is {best:.2f}, that without guidance {without:.2f}. {silence_in_training(records)}"
            ),
            "![MAER, CRPS and spread–skill with other sensors, by method](results/sensor_shift.png)",
        ]
    )


def sensor_shift(records: Records) -> str:
    """All sections on sensors."""
    return "\n\n".join(part(records) for part in (more_sensors, moorings, other_places, silence))
