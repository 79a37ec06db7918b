"""Protocols are frozen: their definitions by a hash, places and noise of their sensors by what was drawn."""

import dataclasses
import hashlib

import jax
import numpy as np
import pytest

from jaxsrda.benchmark.protocol import JET, JET_SMALL, PROTOCOLS, Task, draws_of, observe_task, protocol_called

FINGERPRINTS = {"jet-v1": "504da5be0529", "jet-small-v1": "8cd9c6e6df69"}
"""A change here makes rows that were scored before meaningless: give the new rules a new name instead.  A field that
`Testbed`, `Level` or `Physics` gets is left out of the hash while it has its default if its metadata say `later`."""

DRAWN = {
    ("jet-v1", "lattice-4"): ("35ce1afe5080", 122880, 3.117062, 1.571144, 0.000397),
    ("jet-v1", "lattice-6"): ("8d997fff985c", 54427, 3.117035, 1.561553, 0.003892),
    ("jet-v1", "lattice-8"): ("ddfdfda43f75", 30720, 3.112763, 1.560796, 0.012150),
    ("jet-v1", "lattice-12"): ("ed323646b172", 13525, 3.118314, 1.554683, 0.015753),
    ("jet-v1", "tracks"): ("ddfdfda43f75", 30720, 3.114615, 1.570801, 0.012150),
    ("jet-v1", "dropout"): ("8a984bf1da9f", 15286, 3.104927, 1.551160, 0.011889),
    ("jet-v1", "sparse"): ("5f138068e4ce", 7680, 3.087546, 1.566025, 0.016893),
    ("jet-v1", "speed"): ("ddfdfda43f75", 30720, 3.112763, 1.560796, 0.012150),
    ("jet-v1", "silence"): ("473f9de74b26", 20480, 3.111844, 1.569911, 0.011505),
    ("jet-small-v1", "lattice-4"): ("c29bde907813", 9216, 3.097959, 1.574888, 0.006585),
    ("jet-small-v1", "sparse"): ("b3f1f2fe9a12", 2304, 3.102515, 1.568997, 0.002400),
    ("jet-small-v1", "speed"): ("c29bde907813", 9216, 3.097959, 1.574888, 0.006585),
}
"""Of each task: the hash of masks and of the noise's signs, which are exact, the number of observations, and the means
of x, of y, and of the noise over its standard deviation, which machines may round."""


@pytest.mark.parametrize("name", PROTOCOLS)
def test_definitions_are_frozen(name):
    assert PROTOCOLS[name].fingerprint == FINGERPRINTS[name]


@pytest.mark.parametrize(
    "change",
    [
        {"truth_seeds": (0, 1, 3)},
        {"seed": 1},
        {"tasks": (dataclasses.replace(JET_SMALL.tasks[0], noise_std=0.2), *JET_SMALL.tasks[1:])},
        {"tasks": (dataclasses.replace(JET_SMALL.tasks[0], pause=(8, 15)), *JET_SMALL.tasks[1:])},
        {"testbed": dataclasses.replace(JET_SMALL.testbed, frames=92)},
        {"testbed": JET_SMALL.testbed.vary(beta=0.2)},
        {"testbed": JET_SMALL.testbed.vary(viscosity={"fine": 1e-5})},
    ],
)
def test_any_change_changes_the_fingerprint(change):
    assert dataclasses.replace(JET_SMALL, **change).fingerprint != JET_SMALL.fingerprint


def drawn(protocol, task):
    """What `DRAWN` has of a task."""
    seen = jax.tree.map(np.asarray, draws_of(protocol, task))
    on = seen.mask
    signs = np.where(on, np.sign(seen.values), 0).astype("i1")
    exact = hashlib.sha256(np.packbits(on).tobytes() + signs.tobytes()).hexdigest()[:12]
    means = [*seen.positions[on].mean(0).tolist(), float(seen.values[on].mean() / task.noise_std)]
    return exact, int(on.sum()), *means


@pytest.mark.parametrize("name, task", [(name, task) for name, each in PROTOCOLS.items() for task in each.task_names])
def test_places_and_noise_are_frozen(name, task):
    protocol = PROTOCOLS[name]
    found, wanted = drawn(protocol, protocol.task(task)), DRAWN[name, task]
    assert found[:2] == wanted[:2]
    assert found[2:] == pytest.approx(wanted[2:], abs=1e-5)


def test_silence_is_eight_time_units_long():
    seen = draws_of(JET, JET.task("silence"))
    silent = ~np.asarray(seen.mask).any((0, 2))
    times = JET.testbed.frame * JET.testbed.frames_per_cycle * np.flatnonzero(silent)
    assert times.tolist() == list(range(8, 16))
    # Before and after it, it is the lattice of the plain task.
    plain = draws_of(JET, JET.task("lattice-8"))
    assert np.array_equal(np.asarray(plain.values)[:, ~silent], np.asarray(seen.values)[:, ~silent])


def test_a_task_observes_the_truth_with_its_operator():
    """The noise of the task `speed` is that of ω on the same lattice, because operators draw nothing."""
    frames = np.zeros((1, JET_SMALL.testbed.frames, *JET_SMALL.testbed.grid.shape), np.float32)
    x, y = JET_SMALL.testbed.grid.x[:, None], JET_SMALL.testbed.grid.y
    frames[:] = -5 * np.cos(x) * np.sin(2 * y)  # ψ = cos x sin 2y
    seen = observe_task(JET_SMALL, JET_SMALL.task("speed"), frames, (0,))
    noise = np.asarray(draws_of(JET_SMALL, JET_SMALL.task("lattice-4")).values)[:1]
    at_x, at_y = np.moveaxis(np.asarray(seen.positions), -1, 0)
    speed = np.hypot(2 * np.cos(at_x) * np.cos(2 * at_y), np.sin(at_x) * np.sin(2 * at_y))
    on = np.asarray(seen.mask)
    np.testing.assert_allclose(np.asarray(seen.values)[on], (speed + noise)[on], atol=2e-4)


def test_names_are_those_of_protocols_and_tasks():
    with pytest.raises(ValueError, match=r"protocol: expected one of jet-v1, jet-small-v1; got 'jet-v2'; did you mean"):
        protocol_called("jet-v2")
    with pytest.raises(ValueError, match=r"task: expected one of lattice-4, .*; got 'lattice:4'; did you mean"):
        JET.task("lattice:4")
    assert Task("a", pause=(1, 2)).sensors(JET.testbed.grid)[0].layout.name == "lattice:8+paused:1-2"
