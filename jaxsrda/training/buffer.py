"""The buffer of training windows on the device, and its copy on disk, from which a killed training goes on."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxsrda.core.devices import placed, shared
from jaxsrda.core.files import read_npz, write_npz
from jaxsrda.diffsrda.model import ModelConfig
from jaxsrda.training.windows import Windows


class Fill(NamedTuple):
    """One lot of windows in the buffer: its number, where it begins, and how many it is."""

    number: int
    place: int
    count: int


class Buffer(NamedTuple):
    """Windows (capacity, …), and the lots that they came in, oldest first; those overwritten altogether are gone.

    mesh: its axis `data` divides the windows, which it has to divide; None for one device.
    """

    windows: Windows
    fills: tuple[Fill, ...] = ()
    mesh: Mesh | None = None

    @property
    def filled(self) -> int:
        """How many windows there are: the buffer fills from its beginning."""
        return max((fill.place + fill.count for fill in self.fills), default=0)


def empty_buffer(capacity: int, model: ModelConfig, mesh: Mesh | None = None) -> Buffer:
    """A buffer of no windows, in half precision."""
    where = None if mesh is None else NamedSharding(mesh, PartitionSpec("data"))
    depths = model.channels, model.frames
    parts = (jnp.zeros((capacity, model.nx, model.ny, n), jnp.float16, device=where) for n in depths)
    return Buffer(Windows(*parts), mesh=mesh)


@functools.partial(jax.jit, static_argnums=3, donate_argnums=0)
def _write(held: Windows, new: Windows, place: Array, mesh: Mesh | None) -> Windows:
    if mesh is None:
        return jax.tree.map(lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b, place, 0), held, new)

    def own(held: Windows, new: Windows, place: Array) -> Windows:
        """A device's part: the compiler would bring all windows to every device."""
        size, count = len(held.condition), len(new.condition)
        at = place + jnp.arange(count, dtype=jnp.int32) - size * jax.lax.axis_index("data")
        at = jnp.where((at >= 0) & (at < size), at, size)  # beyond the end, where nothing is written
        return jax.tree.map(lambda a, b: a.at[at].set(b, mode="drop"), held, new)

    data = PartitionSpec("data")
    return shared(own, mesh, (data, PartitionSpec(), PartitionSpec()), data)(held, new, place)


def write(buffer: Buffer, new: Windows) -> Buffer:
    """The buffer with new windows behind the last ones, or at its beginning where they do not fit there.

    Its arrays are used again.  ValueError for more windows than it holds.
    """
    capacity, count = len(buffer.windows.condition), len(new.condition)
    if count > capacity:
        raise ValueError(f"buffer: {count} windows do not fit a capacity of {capacity}; raise it or make fewer at once")
    last = buffer.fills[-1] if buffer.fills else Fill(-1, 0, 0)
    end = last.place + last.count
    return put(buffer, new, Fill(last.number + 1, end if end + count <= capacity else 0, count))


def put(buffer: Buffer, new: Windows, fill: Fill) -> Buffer:
    """The buffer with a lot of windows in its place."""
    kept = [old for old in buffer.fills if old.place < fill.place or old.place + old.count > fill.place + fill.count]
    place = placed(jnp.int32(fill.place), buffer.mesh)
    return buffer._replace(windows=_write(buffer.windows, new, place, buffer.mesh), fills=(*kept, fill))


# On disk --------------------------------------------------------------------------------------


def path_of(folder: Path, number: int) -> Path:
    """Where a lot of windows lies."""
    return folder / f"windows-{number:06d}.npz"


def save_fill(folder: Path, number: int, new: Windows) -> None:
    """Write a lot of windows."""
    write_npz(path_of(folder, number), **new._asdict())


def restored(folder: Path, empty: Buffer, fills: list[Fill]) -> Buffer:
    """The buffer of lots that lie in a folder.  ValueError for one that is missing or cannot be read."""
    buffer = empty
    for fill in fills:
        path = path_of(folder, fill.number)
        try:
            new = Windows(**{name: jnp.asarray(array) for name, array in read_npz(path).items()})
            new = placed(new, empty.mesh)
        except Exception as error:  # numpy and zipfile raise half a dozen kinds for a damaged file
            raise ValueError(f"{path}: cannot be read ({error}); remove the folder to start anew") from None
        buffer = put(buffer, new, fill)
    return buffer


def tidy(folder: Path, fills: tuple[Fill, ...]) -> None:
    """Remove the lots that are not among these."""
    wanted = {path_of(folder, fill.number) for fill in fills}
    for path in [*folder.glob("windows-*.npz"), *folder.glob(".windows-*.npz")]:  # the latter are half written
        if path not in wanted:
            path.unlink()
