"""The `assimilate` command."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from pathlib import Path
from typing import Any, Literal

from jaxsrda.app.cli.common import check_outputs, console, layout, origin, parts_of, progress_bar, say
from jaxsrda.app.cli.devices import OnDevices
from jaxsrda.app.cli.effects import refuse_idle
from jaxsrda.app.cli.following import earlier, followed

TUNING = ("members", "controls", "localization", "inflation", "adaptive", "additive", "rtps", "rtpp")
TUNING += ("representativeness",)
TUNING += ("substeps", "viscosity", "corrector")
SAMPLING = ("prior", "restart", "steps", "sampler", "eta", "centred", "weights", "guide_on")
GUIDE = ("strength", "iterations", "blur", "hard_steps")
LAYOUT = "lattice:8"
"""Sensors unless others are chosen."""


@dataclasses.dataclass
class Assimilate(OnDevices):
    """Run the twin experiment with one method: truth, observations, cycles, scores, pictures."""

    method: str = "diffsrda"
    """One of the methods that `jaxsrda info` lists."""
    testbed: str = "jet"
    """The flow: jet, jet-small, or your own as module:name."""
    truth: Path | None = None
    """Your truth: HR, fine or UHR vorticity frames (.npy, .npz, .nc, .zarr), brought to the package's order by the
    names of dimensions and by coordinates; several along an axis truth. By default one is simulated."""
    truth_level: str = ""
    """Level of a simulated truth, of jet hr, fine or uhr, by default fine (kept in the cache and used again)."""
    truths: int | None = None
    """How many truths to simulate, from seeds seed, seed + 1, …; by default 1."""
    observations: Path | None = None
    """Your observations, instead of simulated ones: .csv with columns time, x, y, value, std (or variance) and perhaps
    operator, or .nc or .zarr, such as --out writes.  Without --truth, nothing is scored but the fit to them."""
    cycle_at: Literal["testbed", "observations"] = "testbed"
    """When cycles are: as often as the testbed has them, or as often as the times of --observations need them."""
    layout: str | None = None
    """Sensors: lattice:8 (default), lattice-fixed:8, random-fixed:128, random-moving:128, track:4, cluster:4, with
    +dropout:0.5 behind it; or a .csv or .npy file of positions x, y and, if wanted, the std of each sensor's noise."""
    operator: str | None = None
    """What the sensors measure, by default vorticity."""
    obs_noise: float | None = None
    """Standard deviation of the observation noise, by default 0.1."""
    reject: float | None = None
    """Observations that depart from the background by more standard deviations than this are not assimilated."""
    withhold: float = 0.0
    """Fraction of the sensors kept from the method and used to verify it."""
    seed: int = 0
    """Seed of the truth, the noise and the members."""
    tuning: str = "own"
    """own, paper (its EnKF-HR on lattices 4, 6, 8, 12), or a preset file that `jaxsrda sweep --preset` wrote."""
    members: int | None = None
    """Ensemble size; by default, and for every option below, the method's preset."""
    controls: int | None = None
    """HR control forecasts of enkf-dual."""
    localization: float | None = None
    """Gaspari–Cohn half-width (weight zero beyond twice that)."""
    inflation: float | None = None
    """Multiplicative inflation."""
    adaptive: float | None = None
    """Weight, 0 to 1, of the newest departures in an inflation that follows them; 0 keeps it."""
    additive: float | None = None
    """Climatological anomalies added after each analysis, as a fraction."""
    rtps: float | None = None
    """Relaxation to prior spread, 0 to 1."""
    rtpp: float | None = None
    """Relaxation to prior perturbations, 0 to 1."""
    representativeness: float | None = None
    """Variance added to R for what the model's grid cannot hold."""
    substeps: int | None = None
    """Substeps a frame of the Lagrangian model (enkf-lagrange, letkf-lagrange, enkf-dual-lagrange)."""
    viscosity: float | None = None
    """Hyperviscosity of the forecast model, by default its level's own."""
    corrector: bool | None = None
    """Whether the Lagrangian model corrects its velocity for the scales that LR forecasts do not hold."""
    prior: str | None = None
    """Where the first guess of diffsrda, latent-diffsrda and cnn comes from: dual, enkf-sr, lagrange, carried or lr."""
    restart: str | None = None
    """What diffsrda's forecasts go on from: each (its own sample), mean, first, or open (the prior's analysis)."""
    steps: int | None = None
    """Steps of diffsrda's sampler."""
    sampler: str | None = None
    """dpmpp-2m, dpmpp-2m-sde, heun, ddim, mean (one step, no spread), gaussian or white (noise around the mean)."""
    eta: float | None = None
    """Randomness of ddim, 0 to 1."""
    centred: bool | None = None
    """Whether the samples are shifted so that their mean equals the model's own estimate."""
    guidance: str | None = None
    """What moves samples to observations: none, projected, blend, lifted, diffpir, oi, mmps, pigdm, sda or dps."""
    strength: float | None = None
    """Strength of the guidance, by default the method's own."""
    iterations: int | None = None
    """Conjugate-gradient iterations of lifted, diffpir, oi, mmps or pigdm."""
    guide_on: str | None = None
    """Sensors that guide: new (those of guide-layout) or all (those of layout again, too)."""
    blur: tuple[float, float] | None = None
    """Widths of blend's blur at the first and the last step, in grid points."""
    hard_steps: int | None = None
    """How many of the last steps blend replaces the estimate at the sensors altogether."""
    guide_layout: str | None = None
    """Sensors that guide samples and are used for nothing else."""
    guide_operator: str | None = None
    """What they measure, by default the same as the others."""
    guide_noise: float | None = None
    """Standard deviation of their noise, by default that of the others."""
    guides_assimilated: bool = False
    """Whether any method assimilates them like the others instead."""
    weights: str | None = None
    """A released name or a file that `train` wrote; by default the released ones for the method and the prior."""
    start: float | None = None
    """Time of the truth's first frame; members are climatological states of that time. By default 0."""
    members_from: Path | None = None
    """The members to start from: vorticity (member, x, y), or with times, of which the one at the run's start is taken
    (.npy, .npz, .nc, .zarr); --members is as many. By default they are random."""
    cycles: int | None = None
    """How many assimilation times to run; by default all that the truth has (left)."""
    carry: Path | None = None
    """Go on from what an earlier run left in this folder, if one did, and leave the same for the next. The file of a
    truth still begins where the first run did."""
    out: Path | None = None
    """Write the analyses here: NetCDF (.nc) or Zarr (.zarr)."""
    save_members: bool = False
    """Write every member too."""
    json: Path | None = None
    """Write scores and series here."""
    plot: Path | None = None
    """Write pictures into this folder."""
    animate: bool = False
    """An animation (GIF) among them."""
    at_once: int | None = None
    """Truths that go side by side. With --out or --json finished truths are kept beside it until it is written, and the
    same command goes on from them; then by default one after the other on a CPU, else all."""
    joint: bool = False
    """Joint scores too: energy, variogram, CRPS of block means, gradient, Laplacian and change."""

    @property
    def keep(self) -> str:
        """What of the ensemble leaves the device: no more than is written."""
        written = self.out is not None or self.plot is not None or self.withhold > 0
        return "members" if self.save_members else "fields" if written else "scores"

    @property
    def parts(self) -> Path | None:
        """Where truths that are finished are kept until the output is written; several processes keep none."""
        output = self.out or self.json
        return None if output is None or self.several else parts_of(output)

    def experiment(self) -> Any:
        """The experiment that the options describe, without its truth; everything is checked."""
        from jaxsrda.experiment.experiment import from_options
        from jaxsrda.experiment.first_members import with_members
        from jaxsrda.experiment.registry import method_preset
        from jaxsrda.flow.testbed import testbed

        flow = testbed(self.testbed)
        named = "own observations" if self.observations is not None else self.layout or LAYOUT
        config = tuned(self, method_preset(self.method, named, self.tuning, flow.name))
        if self.first_members is not None:
            config = with_members(self.method, config, len(self.first_members), self.members is None)
        refuse_idle(self, config)
        sensing = self.sensing(flow) if self.observations is None else self.measured(flow)
        return from_options(
            self.method,
            config=config,
            withhold=self.withhold,
            seed=self.seed,
            start=self.start,
            keep=self.keep,
            joint=self.joint,
            reject=self.reject,
            unscored=self.carry is not None,
            **({"testbed": flow} | sensing),
        )

    @functools.cached_property
    def first_members(self) -> Any:
        """The members of --members-from, at all times that the file has; None without it."""
        from jaxsrda.app.fields import read_fields
        from jaxsrda.experiment.first_members import read_members
        from jaxsrda.flow.testbed import testbed

        return (
            None if self.members_from is None else read_members(read_fields(self.members_from), testbed(self.testbed))
        )

    def sensing(self, flow: Any) -> dict[str, Any]:
        """The sensors that observe a truth, as options of `from_options`."""
        from jaxsrda.core.checks import check_positive

        options: dict[str, Any] = {"operator": self.operator, "guide_operator": self.guide_operator}
        options["guides_assimilated"] = self.guides_assimilated
        sets = ("", self.layout or LAYOUT, "obs_noise"), ("guide_", self.guide_layout, "guide_noise")
        for part, text, noise in sets:
            given = getattr(self, noise)
            if given is not None:
                check_positive(noise, given)
            placed, own = (None, None) if text is None else layout(text, flow.grid)
            if own is not None and given is not None:
                option = noise.replace("_", "-")
                raise ValueError(f"--{option}: has no effect, {text} has the std of each sensor; leave one of them out")
            options |= {f"{part}layout": placed, f"{part}noise_std": given if own is None else own}
        return options

    def measured(self, flow: Any) -> dict[str, Any]:
        """The user's own observations, as options of `from_options`."""
        from jaxsrda.app.sensor_files import observations_from_file
        from jaxsrda.observing.sensors import Sensors

        sensors = None if self.operator is None else [Sensors(operator=self.operator)]
        own = observations_from_file(Path(self.observations or ""), flow, sensors, self.cycle_at, say)
        roles = [each.role for each in own.sensors]
        if self.guides_assimilated and "guiding" not in roles:
            raise ValueError("--guides-assimilated: has no effect, none of these observations guide; leave it out")
        assimilated = [dataclasses.replace(each, role="assimilated") for each in own.sensors]
        return own._asdict() | ({"sensors": assimilated} if self.guides_assimilated else {})

    def run(self) -> None:
        """Check everything, make or read the truth, run, write files, print the table."""
        from jaxsrda.app.datasets import DATASET_SUFFIXES
        from jaxsrda.app.fields import read_fields
        from jaxsrda.core.checkpoints import check_kept
        from jaxsrda.core.checks import check_positive, check_seed
        from jaxsrda.core.devices import chosen, leading
        from jaxsrda.core.files import check_writable
        from jaxsrda.diffsrda.config import DiffSRDAConfig
        from jaxsrda.experiment.identity import known
        from jaxsrda.experiment.registry import configured_model
        from jaxsrda.experiment.run import run
        from jaxsrda.experiment.truth import read_truth

        if self.out is not None:
            check_writable(self.out, DATASET_SUFFIXES)
        check_outputs(self.json, self.plot)
        chosen(self.shared)
        check_positive("truths", 1 if self.truths is None else self.truths)
        check_positive("cycles", 1 if self.cycles is None else self.cycles)
        check_positive("at_once", 1 if self.at_once is None else self.at_once)
        check_seed("seed", self.seed + (self.truths or 1) - 1)
        given = self.experiment()
        if self.truth_level:
            given.testbed.level(self.truth_level)
        if isinstance(given.config, DiffSRDAConfig):
            model = configured_model(given.config)
            if self.cycle_at == "observations" and model.config.frames != given.testbed.window:
                raise ValueError(
                    f"--cycle-at observations: {self.method} needs the window that its weights were trained with, "
                    f"{model.config.frames - 1} frames a cycle, these observations need {given.testbed.window - 1}; "
                    "choose a filter, or train weights for such a testbed"
                )
            given = dataclasses.replace(given, model=model)
        carry = None if self.carry is None else earlier(self.carry, given, self.start)
        if self.parts is not None:  # before the truths are made
            check_kept(self.parts, known(dataclasses.replace(given, carry=carry)))
        if self.first_members is not None and self.truth is None:  # else its times say when the run begins
            dataclasses.replace(given, carry=carry, members_from=self.first_members)
        read = None if self.truth is None else read_truth(read_fields(self.truth), given.testbed)
        with progress_bar() as bar:
            task = bar.add_task("truth", total=1)

            def progress(what: str, done: int, total: int) -> None:
                bar.update(task, description=what, completed=done, total=total, refresh=True)

            given = followed(self, given, read, carry, progress)
            if self.first_members is not None:
                given = dataclasses.replace(given, members_from=self.first_members)
                say(*(f"{given.members_from.source}: {note}" for note in given.members_from.notes))
            say(*(() if given.truth is None else given.truth.notes))
            result = run(given, progress, self.shared, self.parts, self.at_once)
        if leading():
            self.write(given, result)

    def write(self, given: Any, result: Any) -> None:
        """Files first, then the table."""
        from jaxsrda.app import report
        from jaxsrda.app.datasets import write_dataset
        from jaxsrda.core.files import write_json
        from jaxsrda.core.progress import duration

        written = []
        if self.out is not None:
            write_dataset(self.out, report.dataset(result))
            written.append(f"analyses: {self.out}")
        if self.json is not None:
            write_json(self.json, report.record(result) | origin("assimilate", self))
            written.append(f"scores: {self.json}")
        if self.carry is not None:
            from jaxsrda.experiment.carry_files import save_carry

            save_carry(self.carry, result.carry, given)
            written.append(f"to go on from: {self.carry}")
        if self.parts is not None:  # only now that the files are written
            shutil.rmtree(self.parts, ignore_errors=True)
        if self.plot is not None:
            report.pictures(self.plot, result, animate=self.animate)
            written.append(f"pictures: {self.plot}")
        truths = f"{result.truths} truth" + "s" * (result.truths > 1) if result.truth is not None else "no truth"
        config = given.config
        alone = getattr(config, "sampler", "") == "mean"
        members = f"one field on a prior of {config.members}" if alone else f"{config.members} members"
        sets = result.config["sensors"]
        joined = " and" if self.guides_assimilated else ", guided by"
        second = "" if len(sets) == 1 or self.observations else f"{joined} {sets[1]['layout']}"
        console.print(f"{self.method}, {members}, {sets[0]['layout']}{second}, {truths}", highlight=False)
        console.print(report.score_table({self.method: result.scores}))
        if "observations_rejected" in result.per_truth:
            rejected, seen = result.per_truth["observations_rejected"].sum(), result.observations.mask.sum()
            say(f"{rejected:.0f} of {seen} observations rejected; the fit to observations is that to the others")
        if given.carry is None and given.truth is not None:
            say("the first assimilation time of a run is not scored")
        compiled, ran = (duration(result.seconds[part]) for part in ("compile", "run"))
        console.print(f"compiled in {compiled}, ran in {ran}")
        for line in written:
            console.print(line)


def tuned(options: Assimilate, preset: Any) -> Any:
    """The preset with the options that were given; ValueError for one that the method does not have."""
    from jaxsrda.experiment.options import option_kinds, with_options

    told = {name: getattr(options, name) for name in (*TUNING, *SAMPLING, "guidance", *GUIDE)}
    given = {name: value for name, value in told.items() if value is not None}
    known = option_kinds(preset)
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(f"--{unknown[0]}: not an option of {options.method}, whose options are {sorted(known)}")
    return with_options(preset, given, options.method)
