"""Distillation: the teacher's path, what a step should say, and that a student learns it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import quick_jit, training_programs

from jaxsrda.diffsrda.condition import Conditioning
from jaxsrda.diffsrda.model import ModelConfig, denoiser_part, network
from jaxsrda.diffusion.denoiser import gaussian_denoiser
from jaxsrda.diffusion.samplers import initial_noise, sample
from jaxsrda.diffusion.schedules import student_sigmas
from jaxsrda.networks.unet import DENOISER
from jaxsrda.training import distillation
from jaxsrda.training.distillation import TEACHER_STEPS, distillation_loss, step_target, teacher_levels, teacher_path
from jaxsrda.training.fit import fit
from jaxsrda.training.loss import TrainConfig
from jaxsrda.training.stream import StreamConfig
from jaxsrda.training.stream_run import Origin
from jaxsrda.training.windows import Windows

CHANNELS, FRAMES = Conditioning().channels, Conditioning().frames
NX, NY = 16, 9
STUDENT = ModelConfig("tiny", nx=NX, ny=NY, distilled=1)
KEY = jax.random.key(0)


pytestmark = pytest.mark.usefixtures("smallest")


def parameters(model=STUDENT):
    leaves, tree = jax.tree.flatten(jax.eval_shape(lambda: network(model).initial(0)))
    rng = np.random.default_rng(1)
    loud = [rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])) for leaf in leaves]
    return jax.tree.unflatten(tree, [jnp.asarray(a, jnp.float32) for a in loud])


def windows(count=2):
    rng = np.random.default_rng(0)
    arrays = (rng.normal(size=(count, NX, NY, n)).astype(np.float16) for n in (CHANNELS, FRAMES))
    return Windows(*arrays)


@pytest.mark.parametrize("steps", [1, 2])
def test_the_students_levels_are_among_the_teachers(steps):
    student, teacher = student_sigmas(steps), teacher_levels(steps)
    assert len(student) == steps + 1 and len(teacher) == TEACHER_STEPS + 1 and (np.diff(teacher) < 0).all()
    np.testing.assert_allclose(teacher[:: TEACHER_STEPS // steps], student)
    assert teacher[0] == pytest.approx(12) and teacher[-1] == 0 and teacher[-2] == pytest.approx(0.04)


def gaussian():
    rng = np.random.default_rng(3)
    vectors = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    return gaussian_denoiser(jnp.asarray(rng.normal(size=6)), jnp.asarray(vectors), jnp.asarray(rng.random(6) + 0.2))


@pytest.mark.parametrize("steps", [1, 2])
def test_the_path_ends_where_the_sampler_does(steps):
    levels = teacher_levels(steps)
    noise = initial_noise(KEY, (6,), 1.0, "float64")
    path = teacher_path(gaussian(), noise, levels, TEACHER_STEPS // steps)
    assert path.shape == (steps + 1, 6)
    np.testing.assert_allclose(path[0], 12.0 * noise)
    end = sample(gaussian(), KEY, (6,), levels, "dpmpp-2m", dtype="float64")
    np.testing.assert_allclose(path[-1], end, rtol=1e-12)


def test_a_student_that_hits_its_targets_goes_the_teachers_way():
    """DDIM with the targets as estimates walks from state to state."""
    student = student_sigmas(2)
    path = teacher_path(gaussian(), initial_noise(KEY, (6,), 1.0, "float64"), teacher_levels(2), TEACHER_STEPS // 2)
    x = path[0]
    for i in range(2):
        sigma, after = jnp.asarray(student[i]), jnp.asarray(student[i + 1])
        target = step_target(path[i], path[i + 1], sigma, after)
        x = target + after / sigma * (x - target)
        np.testing.assert_allclose(x, path[i + 1], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(target, path[-1], rtol=1e-12)  # a step to zero is the estimate itself


def test_the_loss_vanishes_for_a_teacher_of_one_step(monkeypatch):
    """A teacher with the student's own levels asks for what it says itself."""
    student = student_sigmas(1)
    monkeypatch.setattr(distillation, "teacher_levels", lambda *_: student)
    monkeypatch.setattr(distillation, "TEACHER_STEPS", 1)
    teacher = parameters()

    @quick_jit
    def loss(part):
        return distillation_loss(STUDENT, teacher, part, KEY, windows(), noises=2)[0]

    part = denoiser_part(STUDENT, teacher)
    assert float(loss(part)) < 1e-9
    assert float(loss(jax.tree.map(lambda a: 1.5 * a, part))) > 1e-3


def fitted(model, config, start):
    """A fit to two windows, whose scale is one."""
    data = windows()
    programs, truths = training_programs(model, config, data)
    stream = StreamConfig(capacity=2, dispatch=1, data_share=0.0, validate=1)
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32 and multiplies with it
        return fit(model, config, stream, programs, truths, Origin(start, np.ones(FRAMES, np.float32)))


def changed(after, before):
    """The parts of a network whose weights differ."""
    pairs = {name: zip(jax.tree.leaves(after[name]), jax.tree.leaves(before[name]), strict=True) for name in before}
    return {name for name, leaves in pairs.items() if any((a != b).any() for a, b in leaves)}


@pytest.mark.parametrize("distilled", [1, 2])
def test_a_student_learns_its_denoiser_and_nothing_else(distilled):
    teacher = parameters()
    config = TrainConfig(samples=400, batch=2, noises=2, learning_rate=1e-2, part="denoiser", averages=(0.1,))
    found = fitted(dataclasses.replace(STUDENT, distilled=distilled), config, teacher)
    first, last = (np.mean([row["loss"] for row in part]) for part in (found.curve[:10], found.curve[-10:]))
    assert last < 0.9 * first, found.curve
    assert changed(found.model.params, teacher) == set(DENOISER) & set(teacher)


def test_a_denoiser_alone_needs_the_rest():
    config = TrainConfig(samples=4, batch=2, part="denoiser")
    with pytest.raises(ValueError, match="part: training the denoiser alone needs the rest; give weights"):
        fitted(STUDENT, config, None)
    with pytest.raises(ValueError, match="distilled: a student learns its denoiser alone, expected part denoiser"):
        fit(STUDENT, TrainConfig(samples=4, batch=2), StreamConfig(), None, None)


def test_the_denoiser_alone_is_trained_on_windows_too():
    """Part denoiser without a student: the usual loss, the conditioner as it was."""
    start, model = parameters(), dataclasses.replace(STUDENT, distilled=0)
    found = fitted(model, TrainConfig(samples=8, batch=2, part="denoiser", averages=(0.1,)), start)
    assert set(found.curve[0]) >= {"regression", "diffusion"}
    assert changed(found.model.params, start) == set(DENOISER) & set(start)
