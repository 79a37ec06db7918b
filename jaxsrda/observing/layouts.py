"""Sensor layouts: where the sensors are at each assimilation time, by a short name.

    lattice:8          regular lattice, every 8 grid points, offset drawn anew at each time
    lattice-fixed:8    the same, offset drawn once
    random-fixed:128   128 distinct grid points, drawn once       (random-moving:128: at each time)
    track:4            4 satellite-like tracks of 32 points across the channel, drawn at each time
    cluster:4          4 clusters of 32 points, centres drawn once

`+dropout:0.5` behind any of them silences each sensor with that probability at each time, `+silent:0.5` all of
them together.  Walls are never observed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core import draws
from jaxsrda.core.checks import check_choice, check_shape
from jaxsrda.flow.grid import ChannelGrid

Place = Callable[[Array, Array, int | Array], tuple[Array, Array]]

POINTS_PER_GROUP = 32
"""Sensors on one track or in one cluster."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """A named layout of fixed capacity.

    place(fixed_key, time_key, time) → positions (capacity, 2) as (x, y) and mask (capacity,).
    """

    name: str
    capacity: int
    place: Place


def lattice(grid: ChannelGrid, interval: int, fixed: bool) -> Layout:
    """Every `interval`-th grid point in x and y from a random offset, inside the walls."""
    if not 1 <= interval <= min(grid.nx, grid.ny - 2):
        raise ValueError(f"lattice: expected an interval from 1 to {min(grid.nx, grid.ny - 2)}, got {interval}")
    columns, rows = -(-grid.nx // interval), -(-(grid.ny - 2) // interval)

    def place(fixed_key, time_key, _):
        in_x, in_y = jax.random.split(fixed_key if fixed else time_key)
        i = draws.integers(in_x, (), 0, interval) + interval * jnp.arange(columns, dtype=jnp.int32)
        # Offsets 1 … interval − 1, so that an interval which divides the channel always fills its rows.
        first = draws.integers(in_y, (), 1, max(interval, 2))
        j = first + interval * jnp.arange(rows, dtype=jnp.int32)
        mask = (i < grid.nx)[:, None] & (j < grid.ny - 1)[None, :]
        return on_grid(grid, jnp.repeat(i, rows), jnp.tile(j, columns), mask.ravel())

    return Layout(f"lattice{'-fixed' * fixed}:{interval}", columns * rows, place)


def random_points(grid: ChannelGrid, count: int, fixed: bool) -> Layout:
    """`count` distinct interior grid points."""
    interior = grid.nx * (grid.ny - 2)
    if not 0 <= count <= interior:
        raise ValueError(f"random layout: expected 0 to {interior} sensors, got {count}")

    def place(fixed_key, time_key, _):
        chosen = jax.random.permutation(fixed_key if fixed else time_key, interior)[:count]
        return on_grid(grid, chosen // (grid.ny - 2), 1 + chosen % (grid.ny - 2), jnp.ones(count, bool))

    return Layout(f"random-{'fixed' if fixed else 'moving'}:{count}", count, place)


def tracks(grid: ChannelGrid, count: int) -> Layout:
    """Straight tracks from wall to wall at a slant of ±30° to ±60° from y, off the grid."""
    if count < 1:
        raise ValueError(f"track: expected at least 1 track, got {count}")

    def place(_, time_key, __):
        start_key, slant_key, side_key = jax.random.split(time_key, 3)
        start = 2 * np.pi * draws.uniform(start_key, (count, 1))
        slant = jnp.tan(np.pi / 6 * (1 + draws.uniform(slant_key, (count, 1))))
        side = jnp.where(draws.uniform(side_key, (count, 1)) < 0.5, 1.0, -1.0)
        y = np.pi * (jnp.arange(POINTS_PER_GROUP, dtype=start.dtype)[None] + 0.5) / POINTS_PER_GROUP
        x = (start + side * slant * y) % (2 * np.pi)
        return inside(jnp.stack([x, jnp.broadcast_to(y, x.shape)], -1).reshape(-1, 2)), jnp.ones(x.size, bool)

    return Layout(f"track:{count}", count * POINTS_PER_GROUP, place)


def clusters(grid: ChannelGrid, count: int, radius: float = 0.4) -> Layout:
    """Groups of sensors around centres that stay: normal in x and y with standard deviation radius / 2."""
    if count < 1:
        raise ValueError(f"cluster: expected at least 1 cluster, got {count}")

    def place(fixed_key, _, __):
        centre_key, point_key = jax.random.split(fixed_key)
        centre = draws.uniform(centre_key, (count, 1, 2)) * jnp.array([[[2 * np.pi, np.pi - 2 * radius]]])
        offset = radius / 2 * draws.normal(point_key, (count, POINTS_PER_GROUP, 2))
        positions = (centre + jnp.array([[[0.0, radius]]]) + offset).reshape(-1, 2)
        dy = grid.spacing[1]
        y = jnp.clip(positions[:, 1], dy, np.pi - dy)
        return inside(jnp.stack([positions[:, 0] % (2 * np.pi), y], -1)), jnp.ones(len(positions), bool)

    return Layout(f"cluster:{count}", count * POINTS_PER_GROUP, place)


def at_positions(positions: np.ndarray, name: str = "own") -> Layout:
    """A fixed layout at the user's own positions (p, 2); ValueError for one outside the channel."""
    check_shape("layout positions", positions, (None, 2))
    points = np.asarray(positions, float)
    check_positions(points)
    return Layout(name, len(points), lambda *_: (jnp.asarray(points), jnp.ones(len(points), bool)))


def dropout(layout: Layout, probability: float) -> Layout:
    """`layout` with each sensor silent with `probability` at each time."""
    if not 0 <= probability <= 1:
        raise ValueError(f"dropout: expected a probability from 0 to 1, got {probability}")

    def place(fixed_key, time_key, time):
        positions, mask = layout.place(fixed_key, time_key, time)
        return positions, mask & ~draws.coins(draws.stream(time_key, "dropout"), mask.shape, probability)

    return Layout(f"{layout.name}+dropout:{probability:g}", layout.capacity, place)


def silent(layout: Layout, probability: float) -> Layout:
    """`layout` with all sensors silent together, with `probability` at each time."""
    if not 0 <= probability <= 1:
        raise ValueError(f"silent: expected a probability from 0 to 1, got {probability}")

    def place(fixed_key, time_key, time):
        positions, mask = layout.place(fixed_key, time_key, time)
        return positions, mask & ~draws.coins(draws.stream(time_key, "silent"), (), probability)

    return Layout(f"{layout.name}+silent:{probability:g}", layout.capacity, place)


def paused(layout: Layout, first: int, last: int) -> Layout:
    """`layout` with all sensors silent at the assimilation times number `first` to `last`, both counted."""
    if not 0 <= first <= last:
        raise ValueError(f"paused: expected times first ≤ last from 0 on, got {first} and {last}")

    def place(fixed_key, time_key, time):
        positions, mask = layout.place(fixed_key, time_key, time)
        return positions, mask & ((jnp.asarray(time) < first) | (jnp.asarray(time) > last))

    return Layout(f"{layout.name}+paused:{first}-{last}", layout.capacity, place)


def on_grid(grid: ChannelGrid, i: Array, j: Array, mask: Array) -> tuple[Array, Array]:
    """Positions of grid points (i, j); masked slots are put on an inner point."""
    dx, dy = grid.spacing
    i, j = jnp.where(mask, i, 0), jnp.where(mask, j, 1)
    return jnp.stack([i.astype(float) * dx, j.astype(float) * dy], -1), mask


def inside(positions: Array) -> Array:
    """Positions with x brought below 2π where rounding put it there."""
    x = jnp.where(positions[:, 0] >= 2 * np.pi, 0.0, positions[:, 0])
    return positions.at[:, 0].set(x.astype(positions.dtype))


def check_positions(positions: np.ndarray) -> None:
    """Raise ValueError unless every (x, y) lies in [0, 2π) × [0, π]."""
    x, y = positions[..., 0], positions[..., 1]
    outside = ~((x >= 0) & (x < 2 * np.pi) & (y >= 0) & (y <= np.pi))
    if outside.any():
        first = tuple(float(p) for p in positions[outside][0])
        raise ValueError(
            f"observation positions: expected x in [0, 2π) and y in [0, π], got {int(outside.sum())} outside "
            f"(first at x = {first[0]:.4g}, y = {first[1]:.4g})"
        )


LAYOUTS: dict[str, Callable[[ChannelGrid, int], Layout]] = {
    "lattice": lambda grid, n: lattice(grid, n, fixed=False),
    "lattice-fixed": lambda grid, n: lattice(grid, n, fixed=True),
    "random-fixed": lambda grid, n: random_points(grid, n, fixed=True),
    "random-moving": lambda grid, n: random_points(grid, n, fixed=False),
    "track": tracks,
    "cluster": clusters,
}


MODIFIERS: dict[str, Callable[[Layout, float], Layout]] = {"dropout": dropout, "silent": silent}


def parse_layout(text: str, grid: ChannelGrid) -> Layout:
    """The layout that `text` names, such as "lattice:8" or "track:4+dropout:0.5"; ValueError if it names none."""
    base, *modifiers = text.split("+")
    kind, _, number = base.partition(":")
    check_choice("layout", kind, LAYOUTS)
    layout = LAYOUTS[kind](grid, _number(text, number, int))
    for modifier in modifiers:
        kind, _, number = modifier.partition(":")
        modify = MODIFIERS[check_choice("layout modifier", kind, MODIFIERS)]
        layout = modify(layout, _number(text, number, float))
    return layout


def _number(text: str, number: str, kind: type):
    try:
        return kind(number)
    except ValueError:
        raise ValueError(
            f"layout {text!r}: expected name:number such as lattice:8, got {number!r} behind ':'"
        ) from None
