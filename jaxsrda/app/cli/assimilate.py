"""The `assimilate` command."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from jaxsrda.app.cli.common import check_outputs, console, layout, origin, progress_bar

TUNING = ("members", "controls", "localization", "inflation", "additive", "rtps", "rtpp", "representativeness")
TUNING += ("substeps", "viscosity", "corrector")
SAMPLING = ("prior", "restart", "steps", "sampler", "eta", "centred", "weights", "guide_on")
GUIDE = ("strength", "iterations", "blur", "hard_steps")


@dataclasses.dataclass
class Assimilate:
    """Run the twin experiment with one method: truth, observations, cycles, scores, pictures."""

    method: str = "diffsrda"
    """One of the methods that `jaxsrda info` lists."""
    testbed: str = "jet"
    """The flow: jet, jet-small, or your own as module:name."""
    truth: Path | None = None
    """Your truth: HR, fine or UHR vorticity frames (.npy, .npz, .nc, .zarr); several along a leading axis. By default
    one is simulated."""
    truth_level: str = ""
    """Level of a simulated truth, of jet hr, fine or uhr, by default fine (kept in the cache and used again)."""
    truths: int = 1
    """How many truths to simulate, from seeds seed, seed + 1, …"""
    layout: str = "lattice:8"
    """Sensors: lattice:8, lattice-fixed:8, random-fixed:128, random-moving:128, track:4, cluster:4, with +dropout:0.5
    behind it; or a .npy or .csv file of positions x, y."""
    operator: str = "vorticity"
    """What the sensors measure."""
    obs_noise: float = 0.1
    """Standard deviation of the observation noise."""
    withhold: float = 0.0
    """Fraction of the sensors kept from the method and used to verify it."""
    seed: int = 0
    """Seed of the truth, the noise and the members."""
    tuning: str = "own"
    """own, or paper (its EnKF-HR on lattices 4, 6, 8, 12)."""
    members: int | None = None
    """Ensemble size; by default, and for every option below, the method's preset."""
    controls: int | None = None
    """HR control forecasts of enkf-dual."""
    localization: float | None = None
    """Gaspari–Cohn half-width (weight zero beyond twice that)."""
    inflation: float | None = None
    """Multiplicative inflation."""
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
    """Hyperviscosity of the Lagrangian model, by default that of the testbed's truths."""
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
    joint: bool = False
    """Joint scores too: energy, variogram, CRPS of block means, gradient, Laplacian and change."""

    @property
    def keep(self) -> str:
        """What of the ensemble leaves the device: no more than is written."""
        written = self.out is not None or self.plot is not None or self.withhold > 0
        return "members" if self.save_members else "fields" if written else "scores"

    def experiment(self) -> Any:
        """The experiment that the options describe, without its truth; everything is checked."""
        from jaxsrda.core.checks import check_positive
        from jaxsrda.experiment.experiment import from_options
        from jaxsrda.experiment.registry import method_preset
        from jaxsrda.flow.testbed import testbed

        flow = testbed(self.testbed)
        for name in ("obs_noise", "guide_noise"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        second = None if self.guide_layout is None else layout(self.guide_layout, flow.grid)
        return from_options(
            self.method,
            testbed=flow,
            config=tuned(self, method_preset(self.method, self.layout, self.tuning)),
            layout=layout(self.layout, flow.grid),
            operator=self.operator,
            noise_std=self.obs_noise,
            guide_layout=second,
            guide_operator=self.guide_operator,
            guide_noise_std=self.guide_noise,
            guides_assimilated=self.guides_assimilated,
            withhold=self.withhold,
            seed=self.seed,
            keep=self.keep,
            joint=self.joint,
        )

    def run(self) -> None:
        """Check everything, make or read the truth, run, write files, print the table."""
        from jaxsrda.app.datasets import DATASET_SUFFIXES, read_fields
        from jaxsrda.core.checks import check_positive
        from jaxsrda.core.files import check_writable
        from jaxsrda.diffsrda.config import DiffSRDAConfig
        from jaxsrda.experiment.registry import configured_model
        from jaxsrda.experiment.run import run
        from jaxsrda.experiment.truth import simulate_truth

        if self.out is not None:
            check_writable(self.out, DATASET_SUFFIXES)
        check_outputs(self.json, self.plot)
        check_positive("truths", self.truths)
        given = self.experiment()
        if self.truth_level:
            given.testbed.level(self.truth_level)
        if isinstance(given.config, DiffSRDAConfig):
            given = dataclasses.replace(given, model=configured_model(given.config))
        with progress_bar() as bar:
            task = bar.add_task("truth", total=1)

            def progress(what: str, done: int, total: int) -> None:
                bar.update(task, description=what, completed=done, total=total, refresh=True)

            if self.truth is not None:
                truth, seeds = read_fields(self.truth), None
            else:
                seeds = list(range(self.seed, self.seed + self.truths))
                truth = simulate_truth(given.testbed, seeds, self.truth_level, progress=progress)
            result = run(dataclasses.replace(given, truth=truth, truth_seeds=seeds), progress)
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
        if self.plot is not None:
            report.pictures(self.plot, result, animate=self.animate)
            written.append(f"pictures: {self.plot}")
        truths = f"{result.truths} truth" + "s" * (result.truths > 1)
        config = given.config
        alone = getattr(config, "sampler", "") == "mean"
        members = f"one field on a prior of {config.members}" if alone else f"{config.members} members"
        sets = result.config["sensors"]
        second = "" if len(sets) == 1 else f"{' and' if self.guides_assimilated else ', guided by'} {sets[1]['layout']}"
        console.print(f"{self.method}, {members}, {sets[0]['layout']}{second}, {truths}", highlight=False)
        console.print(report.score_table({self.method: result.scores}))
        compiled, ran = (duration(result.seconds[part]) for part in ("compile", "run"))
        console.print(f"compiled in {compiled}, ran in {ran}")
        for line in written:
            console.print(line)


def tuned(options: Assimilate, preset: Any) -> Any:
    """The preset with the options that were given; ValueError for one that the method does not have."""
    from jaxsrda.diffusion.guidance import guide

    told = {name: getattr(options, name) for name in (*TUNING, *SAMPLING, "guidance", *GUIDE)}
    given = {name: value for name, value in told.items() if value is not None}
    known = {field.name for field in dataclasses.fields(preset)}
    known |= set(GUIDE) if "guidance" in known else set()
    if unknown := sorted(set(given) - known):
        raise ValueError(f"--{unknown[0]}: not an option of {options.method}, whose options are {sorted(known)}")
    own = {name: given.pop(name) for name in GUIDE if name in given}
    if own or "guidance" in given:
        given["guidance"] = guide(given.get("guidance", "none"), **own)
    if "prior" in given:  # the restart that suits it, not the preset's prior
        given = {"restart": ""} | given
    return dataclasses.replace(preset, **given)
