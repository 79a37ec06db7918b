"""Devices: the mesh that the cases and members of a run lie on, and the way of arrays there and back.

The work of one process or of several is the same program: `jax.jit` over a mesh of all devices.  Random keys belong to
cases and times and are never split by device, so numbers differ between meshes by rounding alone.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Devices = int | str | Mesh | None
"""Which devices: None for one of this process, `all`, how many, or a mesh of your own."""

LEFT_TO_COMPILER = "member"
"""The mesh axis along which the compiler divides the work itself; along others each device runs cases of its own."""


def leading() -> bool:
    """Whether this is the process that writes files and prints: the first of several, or the only one."""
    return jax.process_index() == 0


def chosen(devices: Devices) -> list[Any]:
    """The devices; ValueError for a choice that is none, and for more than there are."""
    if devices is None:
        return jax.local_devices()[:1]
    if isinstance(devices, Mesh):
        return list(devices.devices.flat)
    there = jax.devices()
    if devices == "all":
        return there
    if isinstance(devices, bool) or not isinstance(devices, int | np.integer) or devices < 1:
        raise ValueError(f"devices: expected all, a number of 1 or more, or a mesh, got {devices!r}")
    if devices > len(there):
        more = "; on a CPU, XLA_FLAGS=--xla_force_host_platform_device_count=8 makes 8 of its cores"
        raise ValueError(
            f"devices: expected at most the {len(there)} that JAX finds ({there[0].platform}), got {devices}"
            f"{more if there[0].platform == 'cpu' else ''}"
        )
    return there[:devices]


def mesh_of(devices: Devices, **counts: int) -> Mesh | None:
    """A mesh with an axis for each count, of parts that divide it; None for the first device alone,
    to which work goes by itself.

    Of all such divisions that with the most devices, and among equals the one whose first counts are divided more.
    Devices without a part are warned about.  Raises ValueError for a mesh of one's own whose axes do not divide the
    counts or have other names, and for processes without a part.
    """
    own = chosen(devices)
    if isinstance(devices, Mesh):
        mesh = _checked(devices, counts)
    elif devices is None:
        return None
    else:
        parts = divisions(len(own), tuple(counts.values()))
        mesh = Mesh(np.array(own[: math.prod(parts)]).reshape(parts), tuple(counts))
    told = ", ".join(f"{name} {count} into {mesh.shape[name]}" for name, count in counts.items())
    idle = {device.process_index for device in jax.devices()} - {each.process_index for each in mesh.devices.flat}
    if idle:
        raise ValueError(
            f"devices: {mesh.size} of {len(jax.devices())} would have work ({told}) and some processes none; take all "
            "devices, other counts or fewer processes"
        )
    if mesh.size < len(own):
        warnings.warn(f"devices: {mesh.size} of {len(own)} have work, counts divide no further ({told})", stacklevel=3)
    return None if [*mesh.devices.flat] == jax.local_devices()[:1] else mesh


def divisions(devices: int, counts: Sequence[int]) -> tuple[int, ...]:
    """Into how many parts each count goes: divisors whose product is at most `devices` and the largest there is."""
    divisors = [[n for n in range(1, min(count, devices) + 1) if count % n == 0] for count in counts]
    fitting = (parts for parts in itertools.product(*divisors) if math.prod(parts) <= devices)
    return max(fitting, key=lambda parts: (math.prod(parts), parts))


def _checked(mesh: Mesh, counts: dict[str, int]) -> Mesh:
    for axis, size in mesh.shape.items():
        if axis not in counts:
            raise ValueError(f"devices: expected a mesh with axes among {', '.join(counts)}, got {axis!r}; rename it")
        if counts[axis] % size:
            raise ValueError(
                f"devices: expected a {axis} count that the mesh's {size} divides, got {counts[axis]}; give a number "
                "of devices instead of the mesh, or all"
            )
    order = [mesh.axis_names.index(axis) for axis in counts if axis in mesh.shape]
    shape = [mesh.shape.get(axis, 1) for axis in counts]
    return Mesh(np.transpose(mesh.devices, order).reshape(shape), tuple(counts))


# Arrays ---------------------------------------------------------------------------------------


def division(mesh: Mesh, shape: Sequence[int], *lead: str, fields: str = "") -> PartitionSpec:
    """How an array is divided: its leading axes along the mesh axes `lead`, and the next, if it leads fields or more
    (two axes at least), along `fields`; each where the mesh's parts divide it."""
    axes = (*lead, fields) if fields and len(shape) >= len(lead) + 3 else lead
    return PartitionSpec(*(axis if n % mesh.shape.get(axis, 1) == 0 else None for axis, n in zip(axes, shape)))


def placed(tree: Any, mesh: Mesh | None, *lead: str, fields: str = "") -> Any:
    """The arrays of a tree on a mesh, divided as `division` says, with no axes whole on each device; without a mesh, as
    they are.  Each process gives all of them and keeps its devices' parts."""
    if mesh is None:
        return tree

    def place(leaf: Any) -> Any:
        if not hasattr(leaf, "dtype"):  # a number, which takes the type of what it meets
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        host = whole(leaf)
        sharding = NamedSharding(mesh, division(mesh, host.shape, *lead, fields=fields))
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(place, tree)


def divided(tree: Any, mesh: Mesh | None, *lead: str, fields: str = "") -> Any:
    """Inside a program: the arrays of a tree divided as `placed` does."""
    if mesh is None:
        return tree
    # What `shared` divides already is not the compiler's to divide.
    inside = not jax.sharding.get_abstract_mesh().empty

    def divide(leaf: Any) -> Any:
        wanted = division(mesh, leaf.shape, *lead, fields=fields)
        return jax.lax.with_sharding_constraint(leaf, wanted if inside else NamedSharding(mesh, wanted))

    return jax.tree.map(divide, tree)


def whole(leaf: Any) -> np.ndarray:
    """An array on the host, the parts of all processes together."""
    if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        from jax.experimental.multihost_utils import process_allgather

        return np.asarray(process_allgather(leaf, tiled=True))
    return np.asarray(leaf)


def gathered(tree: Any) -> Any:
    """The arrays of a tree on the host, whole in every process."""
    return jax.tree.map(whole, tree) if jax.process_count() > 1 else jax.device_get(tree)


def agreed(value: float) -> float:
    """What the first process has, in all of them, so that its clock decides for all."""
    if jax.process_count() == 1:
        return value
    from jax.experimental.multihost_utils import broadcast_one_to_all

    return float(broadcast_one_to_all(np.float32(value)))


# Programs -------------------------------------------------------------------------------------


def shared(function: Callable, mesh: Mesh | None, into: Any, out: Any) -> Callable:
    """A function of which each device computes its cases: `jax.shard_map` with specifications `into` and `out`, the
    axis `LEFT_TO_COMPILER` apart; without a mesh, the function."""
    if mesh is None:
        return function
    manual = {axis for axis in mesh.axis_names if axis != LEFT_TO_COMPILER}
    return jax.shard_map(function, mesh=mesh, in_specs=into, out_specs=out, axis_names=manual, check_vma=False)
