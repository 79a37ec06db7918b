"""Other solvers of the vorticity equation, in turns with ours: equal numbers of points and of modes.

exponax and pyqg-jax solve it on a doubly periodic square of N × N points.  Ours is a channel of N × (N + 1) points,
walls counted: after the 2/3 rule it keeps (2 (N // 3) + 1) · 2N // 3 real modes, they keep (2 (N // 3) + 1)².  A square
whose flow is odd about a line is a channel twice, so the package's usual N × (N / 2 + 1) points, which stand beside, do
for such a flow what the square does.  exponax takes an ETDRK4 step as we do, of four tendencies; pyqg-jax an AB3 step
of one.  SciPy transforms what one tendency of the textbook form needs: four inverse and one forward real FFT of N × N,
on one thread.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxsrda
from benchmarks.case import Case, Made
from jaxsrda.flow.solver import stepper

EXTRA = {"exponax": "exponax", "pyqg_jax": "pyqg-jax", "scipy": "scipy"}
"""Module and distribution of each peer."""

DT, VISCOSITY, STEPS = 1e-3, 1e-4, 8


def missing() -> list[str]:
    """What is not installed, with the way to get it."""
    gone = [name for module, name in EXTRA.items() if importlib.util.find_spec(module) is None]
    return [f'{name} is not installed: its rows are left out; pip install "jaxsrda[bench]"' for name in gone]


def start(n: int, members: int) -> np.ndarray:
    """Smooth random fields (members, n, n), doubly periodic."""
    rng, x = np.random.default_rng(0), 2 * np.pi * np.arange(n) / n
    waves = np.stack([np.cos(k * x)[:, None] * np.sin(l * x) for k in range(1, 5) for l in range(1, 5)])  # noqa: E741
    return np.tensordot(rng.normal(size=(members, len(waves))), waves, 1).astype(np.float32)


def many(step: Callable[[Any], Any], members: int) -> Callable[[Any], Any]:
    """`STEPS` steps, of one state without a batch axis."""

    def function(states: Any) -> Any:
        each = jax.vmap(step) if members > 1 else step
        return jax.lax.fori_loop(0, STEPS, lambda _, s: each(s), states)

    return function


def ours(n: int, members: int, half: bool = False) -> Made:
    """The channel, of as many points as the square or of half as many."""
    testbed, level = jaxsrda.jet(), jaxsrda.Level("peer", n, own_ny(n, half), 1e-7, 1)
    grid = level.grid
    step = stepper("etdrk4", grid, testbed.flow_params(level, "float32"), DT)
    fields = np.pad(start(n, members), ((0, 0), (0, 0), (0, 1)))[..., : grid.ny]
    states = jax.vmap(functools.partial(jaxsrda.to_spectral, grid))(jnp.asarray(fields))
    return many(step, members), (states if members > 1 else states[0],)


def own_ny(n: int, half: bool) -> int:
    """Points in y, walls counted."""
    return (n // 2 if half else n) + 1


def exponax(n: int, members: int) -> Made:
    """exponax's stepper, state and step in Fourier space, so that no transform is wasted."""
    import exponax as ex

    steps = ex.stepper.NavierStokesVorticity(2, 2 * math.pi, n, DT, diffusivity=VISCOSITY, order=4)
    states = jax.vmap(lambda u: ex.fft(u[None], num_spatial_dims=2))(jnp.asarray(start(n, members)))
    return many(steps.step_fourier, members), (states if members > 1 else states[0],)


def pyqg(n: int, members: int) -> Made:
    """pyqg-jax's barotropic model under its third-order Adams–Bashforth stepper."""
    import pyqg_jax

    model = pyqg_jax.bt_model.BTModel(nx=n, L=2 * math.pi, rek=0.1, beta=1.0)
    stepped = pyqg_jax.steppers.SteppedModel(model, pyqg_jax.steppers.AB3Stepper(dt=DT))

    def begin(q: Array):
        state = model.create_initial_state(jax.random.key(0)).update(q=q[None])
        return stepped.initialize_stepper_state(state)

    states = jax.vmap(begin)(jnp.asarray(start(n, members)))
    states = states if members > 1 else jax.tree.map(lambda leaf: leaf[0], states)
    return many(stepped.step_model, members), (states,)


def ffts(n: int, members: int) -> Made:
    """SciPy's transforms of one tendency of each member."""
    import scipy.fft

    field = start(n, 1)[0]
    spectrum = scipy.fft.rfft2(field)

    def function() -> None:
        for _ in range(members):
            for _ in range(4):
                scipy.fft.irfft2(spectrum, s=(n, n), workers=1)
            scipy.fft.rfft2(field, workers=1)

    return function, ()


PEERS = {
    "jaxsrda": (ours, "", 4 * STEPS),
    "jaxsrda, half": (functools.partial(ours, half=True), "", 4 * STEPS),
    "exponax": (exponax, "exponax", 4 * STEPS),
    "pyqg-jax": (pyqg, "pyqg_jax", STEPS),
    "SciPy's five FFTs": (ffts, "scipy", 1),
}
"""How each is made, the module it needs, and its tendencies a call and member."""

OWN = ("jaxsrda", "jaxsrda, half")
"""Which of them are ours."""


def cases(quick: bool) -> list[Case]:
    """Everyone who is installed, in turns, by size and members."""
    found = []
    for n, members in ((128, 1), (128, 20)) if quick else ((64, 1), (128, 1), (128, 20), (256, 1), (256, 20)):
        for name, (make, module, tendencies) in PEERS.items():
            if module and importlib.util.find_spec(module) is None:
                continue
            ny = n if module else own_ny(n, name.endswith("half"))
            points = n * ny
            found.append(
                Case(
                    f"{name}, {n} × {ny} points, members {members}",
                    functools.partial(make, n, members),
                    {"grid": n, "members": members, "points": points, "peer": name},
                    "point and tendency",
                    tendencies * members * points,
                    0 if make is ffts else STEPS,
                    turns=f"peers {n} {members}",
                    host=make is ffts,
                )
            )
    return found


# That they solve the same equation -------------------------------------------------------------

ODD_GRID, ODD_DT, ODD_STEPS = 64, 2e-3, 100


def odd_flow(n: int) -> np.ndarray:
    """A smooth vorticity on the square (n, n), odd about y = 0 and π: a flow in the channel and its mirror image."""
    rng, x = np.random.default_rng(1), 2 * np.pi * np.arange(n) / n
    waves = [np.cos(k * x + rng.uniform(0, 6))[:, None] * np.sin(l * x) for k in range(4) for l in range(1, 4)]  # noqa: E741
    return np.tensordot(rng.normal(size=len(waves)), np.stack(waves), 1).astype(np.float32)


def ours_later(omega: np.ndarray) -> np.ndarray:
    """The channel's part of the flow after the steps, without forcing, β, drag and damping."""
    grid = jaxsrda.ChannelGrid(ODD_GRID, ODD_GRID // 2 + 1)
    zero = jnp.zeros((), "float32")
    step = stepper("etdrk4", grid, jaxsrda.FlowParams(zero, zero, zero, jnp.zeros(grid.lmax, "float32")), ODD_DT)
    state = jaxsrda.to_spectral(grid, jnp.asarray(omega[:, : grid.ny]))
    return np.asarray(jaxsrda.to_physical(grid, jax.lax.fori_loop(0, ODD_STEPS, lambda _, s: step(s), state)))


def exponax_later(omega: np.ndarray) -> np.ndarray:
    """The square after the steps by exponax, whose stream function has the other sign."""
    import exponax as ex

    options = {"diffusivity": 0.0, "vorticity_convection_scale": -1.0, "order": 4}
    step = ex.stepper.NavierStokesVorticity(2, 2 * math.pi, ODD_GRID, ODD_DT, **options)
    return np.asarray(jax.lax.fori_loop(0, ODD_STEPS, lambda _, s: step(s), jnp.asarray(omega[None])))[0]


def pyqg_later(omega: np.ndarray) -> np.ndarray:
    """The square after the steps by pyqg-jax, whose arrays are (layer, y, x)."""
    import pyqg_jax

    model = pyqg_jax.bt_model.BTModel(nx=ODD_GRID, L=2 * math.pi, rek=0.0, beta=0.0)
    stepped = pyqg_jax.steppers.SteppedModel(model, pyqg_jax.steppers.AB3Stepper(dt=ODD_DT))
    state = model.create_initial_state(jax.random.key(0)).update(q=jnp.asarray(omega.T[None]))
    state = stepped.initialize_stepper_state(state)
    return np.asarray(jax.lax.fori_loop(0, ODD_STEPS, lambda _, s: stepped.step_model(s), state).state.q)[0].T


LATER = {"exponax": (exponax_later, "exponax"), "pyqg-jax": (pyqg_later, "pyqg_jax")}


def agreement() -> dict[str, float]:
    """Largest difference from ours over the largest vorticity after the steps, by solver that is installed."""
    start, found = odd_flow(ODD_GRID), {}
    own = ours_later(start)
    for name, (later, module) in LATER.items():
        if importlib.util.find_spec(module) is not None:
            other = later(start)[:, : own.shape[1]]
            found[name] = float(np.abs(other - own).max() / np.abs(own).max())
    return found
