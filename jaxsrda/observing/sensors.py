"""Sets of sensors: where they are, what they measure, how precisely, and what they are for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core import draws
from jaxsrda.core.checks import check_choice, check_positive, check_shape
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.observing.layouts import Layout, parse_layout
from jaxsrda.observing.observations import NOISE_STD, Observations, join, observe_run
from jaxsrda.observing.operators import Operator, operator, vorticity, vorticity_spectral

ROLES = ("assimilated", "guiding")
"""What a set is for: every method assimilates it, or it guides the samples of a method that can be guided."""


@dataclasses.dataclass(frozen=True)
class Sensors:
    """One set of sensors.

    layout: where they are, a name (`layouts.parse_layout`) or a `Layout`; operator: what they measure, a name of
    `OPERATORS` or a function (grid, ω, positions) → values; noise_std: standard deviation of their noise, one number
    or one for each sensor of the layout; role: of ROLES.  Raises ValueError for unknown names and a noise that is not
    positive.
    """

    layout: str | Layout = "lattice:8"
    operator: str | Operator = "vorticity"
    noise_std: float | Sequence[float] = NOISE_STD
    role: str = "assimilated"

    def __post_init__(self):
        check_choice("role", self.role, ROLES)
        given = self.noise_std
        if np.ndim(given):
            check_shape("noise_std", given, (None,), "; one number, or one for each sensor")
            given = tuple(float(std) for std in given)  # type: ignore[union-attr]
            object.__setattr__(self, "noise_std", given)
        for std in given if isinstance(given, tuple) else (given,):
            check_positive("noise_std", std)  # type: ignore[arg-type]
        _ = self.measure

    @property
    def measure(self) -> Operator:
        """The operator as a function."""
        return operator(self.operator) if isinstance(self.operator, str) else self.operator

    @property
    def operator_name(self) -> str:
        """The operator's name, a function's own."""
        given = self.operator
        return given if isinstance(given, str) else getattr(given, "__name__", str(given))

    @property
    def measures_vorticity(self) -> bool:
        """Whether departures from these sensors can be mapped as vorticity."""
        return self.measure in (vorticity, vorticity_spectral)

    def placed(self, grid: ChannelGrid) -> Layout:
        """The layout on a grid; ValueError for a name of none, and for another number of sensors than of noises."""
        layout = parse_layout(self.layout, grid) if isinstance(self.layout, str) else self.layout
        if isinstance(self.noise_std, tuple) and len(self.noise_std) != layout.capacity:
            raise ValueError(
                f"noise_std: expected one number, or one for each of the {layout.capacity} sensors of {layout.name}, "
                f"got {len(self.noise_std)}"
            )
        return layout


def layout_name(sensors: Sequence[Sensors]) -> str:
    """The name of the layout that methods are tuned for: the first assimilated set's, empty if there is none."""
    layout = next((each.layout for each in sensors if each.role == "assimilated"), "")
    return layout if isinstance(layout, str) else layout.name


def observe_truths(
    keys: Array, grid: ChannelGrid, truths: Array, sensors: Sequence[Sensors], every: int, first: int = 0
) -> Observations:
    """Observations (truths, cycles, p) of every `every`-th frame of truths (truths, frames, nx, ny), one key each.

    What one set measures does not depend on the others.  first: the number of the first time.
    """
    layouts = [each.placed(grid) for each in sensors]

    def one(key: Array, frames: Array) -> Observations:
        # The first set's stream is the key's own; the others' are apart from it.
        streams = [key, *(draws.stream(key, "further set", number) for number in range(1, len(sensors)))]
        parts = [
            observe_run(stream, grid, layout, frames, every, each.noise_std, each.measure, first)
            for stream, layout, each in zip(streams, layouts, sensors)
        ]
        return join(*parts)

    return jax.jit(jax.vmap(one))(keys, truths)


def predict(grid: ChannelGrid, omega: Array, observations: Observations, sensors: Sequence[Sensors]) -> Array:
    """What the sensors would measure of ω[nx, ny], (p,), each set by its own operator."""
    sets, positions = observations.sets, observations.positions
    operators = [each.measure for each in sensors]
    if sets is None or all(each == operators[0] for each in operators):
        return operators[0](grid, omega, positions)
    values = jnp.zeros(positions.shape[:1], omega.dtype)
    for number, measure in enumerate(operators):
        own = sets == number
        # Each operator sees its own sensors alone: where another's are it may have no derivative.
        seen = measure(grid, omega, jnp.where(own[:, None], positions, positions[jnp.argmax(own)]))
        values = jnp.where(own, seen, values)
    return values


def belongs(observations: Observations, chosen: Sequence[bool]) -> Array:
    """Which slots (p,) belong to the sets chosen, one entry a set."""
    if observations.sets is None:
        return jnp.full(observations.mask.shape, chosen[0])
    return jnp.asarray(np.array(chosen))[observations.sets]


def with_role(observations: Observations, sensors: Sequence[Sensors], role: str) -> Observations:
    """The observations with those of other roles masked."""
    chosen = [each.role == role for each in sensors]
    if all(chosen):
        return observations
    return observations._replace(mask=observations.mask & belongs(observations, chosen))


def check_values(observed: Observations) -> None:
    """ValueError for observations made of truths that are not finite, by an operator that does not bear them."""
    mask = np.asarray(observed.mask)
    if bad := int((mask & ~np.isfinite(observed.values)).sum()):
        raise ValueError(
            f"operator: {bad} of {int(mask.sum())} observations of the truth are NaN or infinite; expected "
            "operators that are finite for all vorticities"
        )


def withhold(
    observed: Observations, keys: Array, fraction: float, sensors: Sequence[Sensors], first: int = 0
) -> tuple[Observations, Observations]:
    """The observations (truths, cycles, p) that a method gets, and those kept to verify it with.

    Each assimilated sensor is kept with probability `fraction`, anew at each time; first: the number of the first time.
    """
    if fraction == 0:
        return observed, observed._replace(mask=jnp.zeros_like(observed.mask))
    cycles, slots = observed.mask.shape[1:]

    def draw(key: Array) -> Array:
        # Those of earlier times as well: a run that goes on withholds what one go would.
        return draws.coins(draws.stream(key, "withheld"), (first + cycles, slots), fraction)[first:]

    drawn = jax.vmap(draw)(keys)
    held = with_role(observed, sensors, "assimilated").mask & drawn
    return observed._replace(mask=observed.mask & ~held), observed._replace(mask=held)


def misfit(
    grid: ChannelGrid, withheld: Observations, analyses: Array, sensors: Sequence[Sensors], skip: int = 1
) -> np.ndarray:
    """RMSE (truths,) of the mean analyses (truths, cycles, nx, ny) at the withheld sensors, without `skip` times; NaN
    where nothing was withheld."""

    def squared(observed: Observations, omega: Array) -> tuple[Array, Array]:
        error = jnp.where(observed.mask, predict(grid, omega, observed, sensors) - observed.values, 0)
        return jnp.sum(error**2), observed.mask.sum()

    total, count = jax.jit(jax.vmap(jax.vmap(squared)))(withheld, analyses)
    total, count = (np.asarray(a)[:, skip:].sum(1) for a in (total, count))
    return np.where(count > 0, np.sqrt(total / np.maximum(count, 1)), np.nan)
