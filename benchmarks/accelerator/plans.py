"""What the queue runs: jobs in order of worth, for an accelerator, for two cores, and at the smallest sizes."""

from __future__ import annotations

import dataclasses

import jaxsrda
from jaxsrda.diffsrda.condition import Conditioning
from jaxsrda.diffsrda.config import PAPER_DIFFSRDA
from jaxsrda.training.stream import StreamConfig

SENSORS = ("lattice:8+dropout:0.3+silent:0.3", "random-moving:128", "lattice:12", "lattice:6", "lattice:4")
"""Sensors that training meets beside lattice:8."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One training: its share of the time, model, settings, training sets, and how it is scored.

    parent: an earlier job whose weights and makers of windows this one goes on with; init: weights to start from;
    scored: name → cycle that is run on the test truths; bits: of a stored weight.
    """

    name: str
    share: float
    model: jaxsrda.ModelConfig
    training: jaxsrda.TrainConfig
    data: tuple[jaxsrda.DataConfig, ...]
    scored: dict[str, jaxsrda.DiffSRDAConfig]
    stream: StreamConfig = dataclasses.field(default_factory=lambda: StreamConfig(validate=2))
    parent: str = ""
    init: str = ""
    bits: int = 8


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that is run: the jobs, all on the same runs, of which the last `held_out` are kept from training; and
    test truths that models and filters are scored on."""

    jobs: tuple[Job, ...]
    held_out: int = 64
    truths: int = 10
    test_level: str = ""
    filters: tuple[str, ...] = ("enkf-lagrange", "enkf-hr")

    @property
    def data(self) -> jaxsrda.DataConfig:
        """A training set: the runs are those of all."""
        return self.jobs[0].data[0]


def full_plan(runs: int) -> Plan:
    """What is worth about ten minutes of an H100 or H200."""
    testbed = jaxsrda.jet()
    both = ("carried", "lagrange")

    def data(prior: str, **options: object) -> jaxsrda.DataConfig:
        usual = {"extra_layouts": SENSORS, "noise_range": (0.02, 0.5)}
        return jaxsrda.DataConfig(prior, runs=runs + 64, **usual | options)  # type: ignore[arg-type]

    def job(name: str, share: float, network: str, priors: tuple[str, ...], rate: float) -> Job:
        return Job(
            name,
            share,
            jaxsrda.ModelConfig.of(testbed, network=network, priors=priors),
            jaxsrda.TrainConfig(batch=256, learning_rate=rate, bfloat16=True, noises=1),
            tuple(data(prior) for prior in priors),
            {prior: jaxsrda.DiffSRDAConfig(prior=prior) for prior in priors},
        )

    small = dataclasses.replace(job("small", 0.4, "small", both, 1.5e-3), bits=16)
    one_pass = dataclasses.replace(
        small,
        name="one-pass",
        share=0.18,
        bits=8,
        parent="small",
        model=dataclasses.replace(small.model, distilled=1),
        training=dataclasses.replace(small.training, part="denoiser", loss="crps", noises=2, learning_rate=7e-4),
        stream=dataclasses.replace(small.stream, data_share=0.2),
        scored={prior: jaxsrda.DiffSRDAConfig(prior=prior, steps=1) for prior in both},
    )
    paper = Job(
        "paper-narrow",
        0.3,
        jaxsrda.ModelConfig.of(
            testbed,
            network="paper-narrow",
            priors=("lr",),
            target="direct",
            parametrization="noise",
            conditioning=Conditioning.of(testbed, "paper"),
        ),
        jaxsrda.TrainConfig(
            batch=64, learning_rate=1e-4, bfloat16=True, noises=1, loss="l1", sigmas="vp", weight_decay=0.0
        ),
        (data("lr", starts="mixup", extra_layouts=(), noise_range=()),),
        {"lr": PAPER_DIFFSRDA},
        StreamConfig(data_share=0.1, validate=2),
    )
    return Plan((small, one_pass, paper, job("base", 0.12, "base", ("carried",), 1e-3)))


def cpu_plan(runs: int) -> Plan:
    """What two cores can do in an hour or two: `small` on one carried forecast, from the released weights.

    Its truths are runs on the analysis grid with the ν of the fine level, which is cheap: ν k⁴ is 33 at the
    last wavenumber, so they are resolved.
    """
    testbed = jaxsrda.jet()
    thin = dataclasses.replace(testbed.analysis, name="thin", viscosity=testbed.truth.viscosity)
    testbed = dataclasses.replace(testbed, finer=(*testbed.finer, thin))
    job = Job(
        "small-cpu",
        1.0,
        jaxsrda.ModelConfig.of(testbed, network="small", priors=("carried",)),
        jaxsrda.TrainConfig(batch=32, learning_rate=7e-4, noises=1),
        (
            jaxsrda.DataConfig(
                "carried",
                level="thin",
                runs=runs + 16,
                extra_layouts=SENSORS,
                noise_range=(0.02, 0.5),
                testbed=testbed,
            ),
        ),
        {"carried": jaxsrda.DiffSRDAConfig(prior="carried")},
        StreamConfig(validate=6, data_share=0.3),
        init="diffsrda-small",
    )
    return Plan((job,), held_out=16, filters=())


def tiny_plan() -> Plan:
    """The same at the smallest sizes."""
    full = full_plan(16)
    testbed = dataclasses.replace(jaxsrda.jet(), frames=12)

    def smaller(job: Job) -> Job:
        scored = {
            name: dataclasses.replace(config, members=2, steps=1 if job.model.distilled else 2)
            for name, config in job.scored.items()
        }
        network = "tiny" if job.model.network in ("small", "base") else job.model.network
        layouts = ("lattice:12", "lattice:6") if job.data[0].extra_layouts else ()
        small = {"testbed": testbed, "level": "hr", "runs": 24, "members": 4, "extra_layouts": layouts}
        return dataclasses.replace(
            job,
            model=dataclasses.replace(job.model, network=network),
            training=dataclasses.replace(job.training, batch=4),
            stream=dataclasses.replace(job.stream, capacity=64, dispatch=2, side_by_side=2),
            data=tuple(dataclasses.replace(data, **small) for data in job.data),  # type: ignore[arg-type]
            scored=scored,
        )

    jobs = tuple(map(smaller, full.jobs))
    return Plan(jobs, held_out=8, truths=1, test_level="hr", filters=("enkf-sr",))
