"""What the queue runs: jobs in order of worth, for an accelerator, for two cores, and at the smallest sizes."""

from __future__ import annotations

import dataclasses

import jax

import jaxsrda
from jaxsrda.diffsrda.condition import Conditioning
from jaxsrda.diffsrda.config import PAPER_DIFFSRDA
from jaxsrda.training.sources import Sensing
from jaxsrda.training.stream import StreamConfig

MAIN = Sensing(
    ("lattice:8", "lattice:8+dropout:0.3+silent:0.3", "random-moving:128", "lattice:12"), (5, 1, 1, 1), 0.1, (0.02, 0.5)
)
DENSE = Sensing(("lattice:6", "lattice:4"), (1, 1), 0.1, (0.02, 0.5))


@dataclasses.dataclass(frozen=True)
class Job:
    """One training: its share of the time, model, settings, where windows come from, and how it is scored.

    makers: name → (prior, sensing, runs at once); rounds: in which order they are asked; checked: makers whose windows
    of the first layout are scored; parent: an earlier job whose weights and makers this one goes on with; init: weights
    to start from; scored: name → cycle that is run on the test truths; bits: of a stored weight.
    """

    name: str
    share: float
    model: jaxsrda.ModelConfig
    training: jaxsrda.TrainConfig
    stream: StreamConfig
    makers: dict[str, tuple[str, Sensing, int]]
    rounds: tuple[str, ...]
    checked: tuple[str, ...]
    scored: dict[str, jaxsrda.DiffSRDAConfig]
    parent: str = ""
    init: str = ""
    bits: int = 8


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that is run: the testbed, runs to train on and runs kept from it, how many are simulated at once, the
    jobs, test truths that models and filters are scored on."""

    testbed: jaxsrda.Testbed
    level: str
    runs: int
    held_out: int
    batch: int
    jobs: tuple[Job, ...]
    members: int = 30
    chunk: int = 64
    truths: int = 10
    test_level: str = ""
    filters: tuple[str, ...] = ("enkf-lagrange", "enkf-hr")


def makers_of(priors: tuple[str, ...], runs: dict[str, int], dense: int) -> dict[str, tuple[str, Sensing, int]]:
    """Makers of windows of each prior, with the usual sensors and with dense ones."""
    usual = {prior: (prior, MAIN, runs[prior]) for prior in priors}
    return usual | {f"{prior}, dense": (prior, DENSE, dense) for prior in priors}


def rounds_of(priors: tuple[str, ...]) -> tuple[str, ...]:
    """Usual sensors four times, then dense ones, for each prior in turn."""
    usual = [prior for _ in range(4) for prior in priors]
    return (*usual, *(f"{prior}, dense" for prior in priors))


def full_plan(runs: int) -> Plan:
    """What is worth about ten minutes of an H100 or H200."""
    testbed = jaxsrda.jet()
    memory = (jax.devices()[0].memory_stats() or {}).get("bytes_limit", 0)
    many = {"carried": 512 if memory > 100e9 else 256, "lagrange": 256}
    both = ("carried", "lagrange")

    def job(name: str, share: float, network: str, priors: tuple[str, ...], rate: float) -> Job:
        return Job(
            name,
            share,
            jaxsrda.ModelConfig.of(testbed, network=network, priors=priors),
            jaxsrda.TrainConfig(batch=256, learning_rate=rate, bfloat16=True, noises=1),
            StreamConfig(),
            makers_of(priors, many, 64),
            rounds_of(priors),
            priors,
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
        stream=StreamConfig(data_share=0.2),
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
        StreamConfig(capacity=32_768, data_share=0.1),
        {"lr": ("lr", Sensing(), 256)},
        ("lr",),
        ("lr",),
        {"lr": PAPER_DIFFSRDA},
    )
    return Plan(testbed, "", runs, 64, 256, (small, one_pass, paper, job("base", 0.12, "base", ("carried",), 1e-3)))


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
        StreamConfig(capacity=8_000, dispatch=5, validate=6, data_share=0.3),
        {"carried": ("carried", MAIN, 16)},
        ("carried",),
        ("carried",),
        {"carried": jaxsrda.DiffSRDAConfig(prior="carried")},
        init="diffsrda-small",
    )
    return Plan(testbed, "thin", runs, 16, 8, (job,), chunk=10, filters=())


def tiny_plan() -> Plan:
    """The same at the smallest sizes."""
    full = full_plan(16)

    def smaller(job: Job) -> Job:
        makers = {
            name: (prior, sensing, max(2, sum(sensing.shares))) for name, (prior, sensing, _) in job.makers.items()
        }
        scored = {
            name: dataclasses.replace(config, members=2, steps=1 if job.model.distilled else 2)
            for name, config in job.scored.items()
        }
        network = "tiny" if job.model.network in ("small", "base") else job.model.network
        return dataclasses.replace(
            job,
            model=dataclasses.replace(job.model, network=network),
            training=dataclasses.replace(job.training, batch=4),
            stream=dataclasses.replace(job.stream, capacity=64, dispatch=2, validate=2),
            makers=makers,
            scored=scored,
        )

    testbed = dataclasses.replace(full.testbed, frames=12)
    return dataclasses.replace(
        full,
        testbed=testbed,
        level="hr",
        test_level="hr",
        held_out=2,
        batch=8,
        jobs=tuple(map(smaller, full.jobs)),
        members=4,
        chunk=2,
        truths=1,
        filters=("enkf-sr",),
    )
