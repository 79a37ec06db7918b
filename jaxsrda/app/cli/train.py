"""The `train` command."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jaxsrda.app.cli.common import console

LINE_EVERY = 30.0
"""Seconds between two lines of progress in a log."""


@dataclasses.dataclass
class Train:
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
    """Sensors in every run."""
    extra_layouts: tuple[str, ...] | None = None
    """Sensors in every third block of runs once more, in turn: by default moving, sparse, dense and silent ones."""
    repeats: int = 1
    """Passes over the runs with new observations."""
    starts: str = "perturbed"
    """Starts of prior lr's forecasts: perturbed (like analyses), clean, or mixup (SR-mixup of the forecasts)."""
    samples: int = 60_000
    """Windows that training sees in all."""
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
    on_policy: str = "none"
    """Windows of the cycling of policy-weights: none, a restart (open, mean, each), or best, the prior's own."""
    policy_weights: str = ""
    """Weights whose cycling the windows come from, by default those in init; so any networks train on the same ones."""
    open_loop: bool = True
    """With on-policy: take the windows of the prior alone too."""
    cycling: int = 2
    """Truths of the cycling test at the end."""
    seed: int = 0
    """Seed of the weights, the order of the windows and the noise."""

    def job(self) -> Any:
        """The job that the options describe, checked."""
        from jaxsrda.diffsrda.condition import Conditioning
        from jaxsrda.diffsrda.model import ModelConfig
        from jaxsrda.flow.testbed import testbed
        from jaxsrda.training.autoencoder import autoencoder_training
        from jaxsrda.training.dataset import DataConfig
        from jaxsrda.training.job import Job
        from jaxsrda.training.loss import TrainConfig

        flow = testbed(self.testbed)
        extra: dict[str, Any] = {} if self.extra_layouts is None else {"extra_layouts": self.extra_layouts}
        data = tuple(
            DataConfig(
                prior=prior,
                level=self.level,
                runs=self.runs,
                layout=self.layout,
                repeats=self.repeats,
                starts=self.starts,
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
            samples=self.samples,
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
            init=self.init,
            on_policy=self.on_policy,
            policy_weights=self.policy_weights,
            open_loop=self.open_loop,
            cycling=self.cycling,
            autoencoder=autoencoder_training(self.autoencoder_samples, self.seed),
        )

    def run(self) -> None:
        """Train with progress, write everything, and print the scores."""
        from jaxsrda.core.progress import duration
        from jaxsrda.training.job import train

        job = self.job()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("training runs", total=self.runs)

            def progress(what: str, done: int, total: int) -> None:
                bar.update(task, description=what, completed=done, total=total, refresh=True)

            def report(done: int, total: int, metrics: dict[str, float]) -> None:
                shown = ("regression", "diffusion", "relative_l1", "perplexity")
                losses = [f"{name} {metrics[name]:.3f}" for name in shown if name in metrics]
                line = ", ".join([*losses, f"{metrics['samples_per_s']:.0f} samples/s"])
                bar.update(task, description=line, completed=done, total=total, refresh=True)
                if not console.is_terminal and time.monotonic() - said[0] > LINE_EVERY:  # a log gets lines, not a bar
                    said[0] = time.monotonic()
                    left = duration((total - done) / metrics["samples_per_s"])
                    console.print(f"{done} of {total} samples: {line}, {left} left", soft_wrap=True)

            said = [time.monotonic()]
            fitted, record = train(job, self.out, progress=progress, report=report)
        try:  # the picture is a luxury of jaxsrda[plot]
            from jaxsrda.app.plotting import plot_curve

            plot_curve(self.out.with_suffix(".png"), fitted.curve)
        except ImportError:
            pass
        (chosen,) = fitted.validation["chosen"]
        losses = ", ".join(f"{name} {value:.4f}" for name, value in fitted.validation[chosen].items())
        spent = duration(record["seconds"]["training"])
        console.print(f"{self.out}: {record['samples']} samples in {spent}; validation ({chosen}): {losses}")
        for restart, scores in record.get("cycling", {}).items():
            numbers = ", ".join(f"{name} {scores[name]:.3f}" for name in ("maer", "crps", "spread_skill"))
            console.print(f"cycling, {restart}: {numbers}")
