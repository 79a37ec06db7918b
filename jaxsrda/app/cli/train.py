"""The `train` command."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxsrda.app.cli.common import console, progress_bar
from jaxsrda.app.cli.devices import OnDevices
from jaxsrda.core.progress import duration

LOSSES = ("regression", "diffusion", "crps_points", "relative_l1", "perplexity")
"""Losses that a line shows, where there are such."""

LINE_EVERY = 30.0
"""Seconds between two lines of progress in a log."""


@dataclasses.dataclass
class Train(OnDevices):
    """Train a diffusion model: training runs, windows, weights, record, loss curve, and a test in the real cycle."""

    out: Path
    """Weights file (.npz); its record (.json), loss curve (.png) and checkpoints (folder .train) lie beside it."""
    prior: tuple[str, ...] = ("dual",)
    """What gives the first guess: dual, enkf-sr, lagrange, carried or lr; several make one model for all of them."""
    network: str = "small"
    """tiny, small, base (efficient U-Nets), paper, paper-narrow (its U-Net), 4dsrda-small, 4dsrda (deterministic)."""
    conditioning: str = "full"
    """full (guess and spread, kriged departures, memory), or paper (three forecast frames, two observed maps)."""
    target: str = "residual"
    """residual: diffusion around a regression's mean; direct: around the first guess; regression: that mean alone."""
    runs: int = 160
    """Training runs, a multiple of 8; the last 8 are kept for validation."""
    testbed: str = "jet"
    """The flow: jet, jet-small, or your own as module:name."""
    level: str = ""
    """Level of the training runs, of jet hr, fine or uhr, by default fine."""
    layout: str = "lattice:8"
    """Sensors in most runs."""
    extra_layouts: tuple[str, ...] | None = None
    """Sensors in a quarter of the runs, in equal parts: by default moving, sparse, dense and silent ones."""
    noise_range: tuple[float, float] | None = None
    """Observation noise of half of the runs, between these numbers; by default 0.1 in all."""
    starts: str = "cycle"
    """Starts of prior lr's forecasts: cycle (the model's own analyses), or bare forecasts: perturbed (like analyses),
    clean, or mixup (SR-mixup of the forecasts)."""
    samples: int | None = None
    """Windows that training sees in all, by default 60,000."""
    minutes: float | None = None
    """Wall time of the training instead."""
    batch: int = 16
    """Windows a step."""
    learning_rate: float = 1e-3
    """Largest learning rate."""
    noises: int = 2
    """Noise levels for each window and step."""
    loss: str = "l2"
    """Of the denoiser: l2, or l1 (the paper's)."""
    sigmas: str = "lognormal"
    """Noise levels in training: lognormal, or vp (those of the paper's schedule)."""
    parametrization: str = "edm"
    """edm, noise, velocity or data."""
    bf16: bool = False
    """Compute in bfloat16 (weights stay float32): for accelerators, and CPUs with AMX under JAX 0.11 or newer."""
    part: str = "all"
    """all, or denoiser: that alone, the rest staying as it is in init."""
    distill: int = 0
    """Make a student of the weights in init that draws in 1 or 2 steps (trains the denoiser alone)."""
    latent: str = ""
    """Diffuse in the latent of an autoencoder: vq, vq-ema (2000 codes, one number a node) or kl (several numbers)."""
    autoencoder_samples: int = 30_000
    """With latent: frames that the autoencoder's training sees in all; it comes first and is kept in the cache."""
    init: str = ""
    """Weights to go on from: a released name or a file."""
    policy: str = "own"
    """Whose cycling the windows are of: own (the model's, as it is at the time), none (the priors' alone), or that of
    other weights, so that any networks learn from windows alike."""
    capacity: int = 0
    """Windows held at a time, by default what suits the memory."""
    data_share: float = 0.25
    """Part of the time that goes into new windows; with samples, new windows for each sample."""
    cycling: int = 2
    """Truths of the cycling test at the end."""
    seed: int = 0
    """Seed of the weights, the order of the windows and the noise."""

    def job(self) -> Any:
        """The job that the options describe, checked."""
        from jaxsrda.core.checks import check_positive
        from jaxsrda.diffsrda.condition import Conditioning
        from jaxsrda.diffsrda.model import ModelConfig
        from jaxsrda.flow.testbed import testbed
        from jaxsrda.training.autoencoder import autoencoder_training
        from jaxsrda.training.dataset import DataConfig
        from jaxsrda.training.job import Job
        from jaxsrda.training.loss import TrainConfig
        from jaxsrda.training.stream import StreamConfig

        flow = testbed(self.testbed)
        extra: dict[str, Any] = {} if self.extra_layouts is None else {"extra_layouts": self.extra_layouts}
        extra |= {} if self.noise_range is None else {"noise_range": self.noise_range}
        if self.minutes is not None:
            check_positive("minutes", self.minutes)
        if self.samples is not None and self.minutes is not None:
            raise ValueError("samples, minutes: each is a budget of its own; give one of them")
        data = tuple(
            DataConfig(
                prior=prior,
                level=self.level,
                runs=self.runs,
                layout=self.layout,
                starts=self.starts if prior == "lr" or "lr" not in self.prior else "cycle",
                testbed=flow,
                **extra,
            )
            for prior in self.prior
        )
        model = ModelConfig.of(
            flow,
            network=self.network,
            priors=self.prior,
            parametrization=self.parametrization,
            target=self.target,
            distilled=self.distill,
            latent=self.latent,
            conditioning=Conditioning.of(flow, self.conditioning),
        )
        training = TrainConfig(
            samples=60_000 if self.samples is None else self.samples,
            minutes=self.minutes or 0.0,
            batch=self.batch,
            learning_rate=self.learning_rate,
            noises=self.noises,
            loss=self.loss,
            sigmas=self.sigmas,
            part="denoiser" if self.distill else self.part,
            bfloat16=self.bf16,
            seed=self.seed,
        )
        return Job(
            data,
            model,
            training,
            StreamConfig(capacity=self.capacity, data_share=self.data_share),
            init=self.init,
            policy=self.policy,
            cycling=self.cycling,
            autoencoder=autoencoder_training(self.autoencoder_samples, self.seed),
        )

    def run(self) -> None:
        """Train with progress, write everything, and print the scores."""
        from jaxsrda.core.devices import leading
        from jaxsrda.training.job import train

        job = self.job()
        with progress_bar() as bar:
            task = bar.add_task("training runs", total=self.runs)

            def progress(what: str, done: int, total: int) -> None:
                bar.update(task, description=what, completed=done, total=total, refresh=True)

            def show(text: str, fraction: float) -> None:
                bar.update(task, description=text, completed=round(100 * fraction), total=100, refresh=True)

            fitted, record = train(job, self.out, progress=progress, report=Told(show), devices=self.shared)
        if not leading():
            return
        try:  # the picture is a luxury of jaxsrda[plot]
            from jaxsrda.app.plotting import plot_curve

            plot_curve(self.out.with_suffix(".png"), fitted.curve)
        except ImportError:
            pass
        (chosen,) = fitted.validation["chosen"]
        losses = ", ".join(f"{name} {value:.4f}" for name, value in fitted.validation[chosen].items())
        spent, rate = duration(record["seconds"]["all"]), record["windows_per_second"]
        console.print(
            f"{self.out}: {record['samples']} samples of {record['windows']} windows in {spent}, {rate:.0f} a second; "
            f"validation ({chosen}): {losses}"
        )
        for restart, scores in record.get("cycling", {}).items():
            numbers = ", ".join(f"{name} {scores[name]:.3f}" for name in ("maer", "crps", "spread_skill"))
            console.print(f"cycling, {restart}: {numbers}")


class Told:
    """What a person sees of a training: one line, renewed in a terminal, and written every `LINE_EVERY` s in a log.

    show: given a line and the fraction of the budget that is spent.
    """

    def __init__(self, show: Callable[[str, float], None]):
        self.show, self.said, self.began = show, time.monotonic(), time.monotonic()
        self.in_cycle = ""
        self.first: float | None = None
        """The fraction that was spent before: a training may go on."""

    def __call__(self, line: dict[str, Any]) -> None:
        if line["kind"] == "curve":
            losses = ", ".join(f"{name} {line[name]:.3f}" for name in LOSSES if name in line)
            rate = line["samples"] / max(1e-9, line["seconds"])
            self.tell(f"{line['samples']} samples: {losses}, {rate:.0f} samples/s{self.in_cycle}", line["fraction"])
        elif line["kind"] == "autoencoder":
            losses = ", ".join(f"{name} {line[name]:.3f}" for name in LOSSES if name in line)
            self.tell(f"autoencoder, {line['samples']} of {line['of']} samples: {losses}", line["samples"] / line["of"])
        elif line["kind"] == "validation" and "maer" in line:
            self.in_cycle = f", MAER {line['maer']:.3f} in the cycle"

    def tell(self, text: str, fraction: float) -> None:
        """Show a line, and how long it will take."""
        self.show(text, fraction)
        self.first = fraction if self.first is None else self.first
        done = fraction - self.first
        if not console.is_terminal and time.monotonic() - self.said > LINE_EVERY:  # a log gets lines, not a bar
            self.said = time.monotonic()
            left = duration((self.said - self.began) * (1 - fraction) / done) if done > 0 else "some time"
            console.print(f"{text}, {left} left", soft_wrap=True)
