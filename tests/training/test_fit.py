"""What a fit keeps: the best average of the weights on windows of held-out truths."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID, TESTBED, training_programs

from jaxsrda.diffsrda.model import ModelConfig
from jaxsrda.training import stream_run
from jaxsrda.training.fit import fit
from jaxsrda.training.loss import TrainConfig
from jaxsrda.training.sources import Policy
from jaxsrda.training.stream import StreamConfig
from jaxsrda.training.stream_run import Truths
from jaxsrda.training.windows import Windows

pytestmark = pytest.mark.usefixtures("smallest")

MODEL = ModelConfig.of(TESTBED, network="tiny", target="regression")
STREAM = StreamConfig(capacity=4, dispatch=1, data_share=0.0, validate=1)


def windows(count=4):
    """Windows of one wave each, whose correction is half of the guess."""
    phases = 2 * np.pi * np.random.default_rng(0).random((count, 1, 1, MODEL.channels))
    waves = np.cos(np.asarray(GRID.x)[:, None, None] + phases) * np.sin(np.asarray(GRID.y))[:, None]
    condition = jnp.asarray(waves, jnp.float16)
    return Windows(condition, 0.5 * condition[..., : MODEL.frames])


def fitted(config, report=lambda _: None):
    programs, truths = training_programs(MODEL, config, windows())
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32 and multiplies with it
        return fit(MODEL, config, STREAM, programs, truths, report=report), programs


def test_the_best_average_is_kept():
    lines = []
    config = TrainConfig(samples=80, batch=4, learning_rate=5e-3, averages=(0.25, 0.02))
    found, programs = fitted(config, lines.append)
    (best,) = found.validation["chosen"]
    losses = {name: row["loss"] for name, row in found.validation.items() if name != "chosen"}
    assert set(losses) == {"average 0.25", "average 0.02", "last"} and losses[best] == min(losses.values())
    assert len(set(losses.values())) == 3
    ends = {line["weights"]: line["loss"] for line in lines if line["kind"] == "end of training"}
    assert ends == losses
    # What was chosen is what is returned.
    error, _ = programs.errors["all"]
    again = error(Policy(found.model.params, jnp.asarray(found.model.scale)), None, windows())
    assert float(again["loss"]) == pytest.approx(losses[best], rel=1e-6)
    assert (found.samples, found.windows, len(found.curve)) == (80, 4, 20)
    np.testing.assert_allclose(found.model.scale, np.asarray(windows().correction, float).std((0, 1, 2)), rtol=0.02)
    assert found.held_out.condition.shape == (4, MODEL.nx, MODEL.ny, MODEL.channels)


def test_a_handful_of_windows_is_learned():
    found, _ = fitted(TrainConfig(samples=800, batch=4, learning_rate=5e-3, averages=(0.1,)))
    assert found.curve[-1]["regression"] < 0.5 * found.curve[0]["regression"], found.curve[::20]


def test_averages_and_last_weights_are_scored_on_held_out_truths():
    config = TrainConfig(samples=4, batch=4)
    programs, _ = training_programs(MODEL, config, windows())
    seen = []

    def make(key, truths, policy):
        seen.append(np.asarray(truths)[:, 0, 0, 0].tolist())
        return jax.tree.map(jnp.copy, windows())

    programs = programs._replace(makers={"all": (make, 3)})
    truths = Truths(jnp.zeros((2, 2, 3, 3)), jnp.asarray([7.0, 8.0])[:, None, None, None] * jnp.ones((2, 2, 3, 3)))
    with jax.numpy_dtype_promotion("standard"):
        fit(MODEL, config, STREAM, programs, truths)
    assert seen[0] == [0, 0, 0] and seen[-1] == [7, 8, 7]


def undisturbed(folder, report=lambda _: None):
    """A training that leaves a checkpoint after each step."""
    config = TrainConfig(samples=40, batch=4, averages=(0.1,))
    programs, truths = training_programs(MODEL, config, windows())
    with jax.numpy_dtype_promotion("standard"):
        return fit(MODEL, config, STREAM, programs, truths, report=report, folder=folder)


@pytest.mark.slow
def test_a_training_goes_on_after_kill_9(tmp_path, monkeypatch):
    code = (
        "import sys, time; from pathlib import Path; sys.path[:0] = sys.argv[1:3];"
        "import conftest, test_fit as t; from jaxsrda.networks.unet import PRESETS;"
        "from jaxsrda.training import stream_run;"
        "PRESETS['tiny'] = {'widths': (32,), 'blocks': 1, 'denoiser_widths': (16,)}; stream_run.SAVE_EVERY = 0.0;"
        "t.undisturbed(Path(sys.argv[3]), report=lambda line: time.sleep(0.2))"
    )
    folder = tmp_path / "killed"
    places = [str(path) for path in (Path(__file__).parents[1], Path(__file__).parent)]
    process = subprocess.Popen([sys.executable, "-c", code, *places, str(folder)])
    deadline = time.monotonic() + 300
    while not (folder / "12").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    monkeypatch.setattr(stream_run, "SAVE_EVERY", 0.0)
    lines = []
    resumed = undisturbed(folder, lines.append)
    first = next(line["samples"] for line in lines if line["kind"] == "curve")
    assert first >= 12  # checkpoints of three steps of four were there
    whole = undisturbed(tmp_path / "whole")
    assert [row["loss"] for row in resumed.curve] == [row["loss"] for row in whole.curve]
    assert resumed.validation == whole.validation
