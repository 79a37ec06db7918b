"""Members spread over devices: the compiler divides each step along them, whatever the method."""

from __future__ import annotations

from typing import Any

from jax import Array
from jax.sharding import Mesh

from jaxsrda.core.devices import divided
from jaxsrda.cycling.assimilator import Assimilator, Window
from jaxsrda.observing.observations import Observations


def spread_members(assimilator: Assimilator, mesh: Mesh | None) -> Assimilator:
    """The assimilator, the fields of its state and window divided by their first axis along a mesh's axis `member`.

    That fixes where the ensemble lies; what lies between follows from it.  Forecasts and samples need no communication,
    sums over members do.  Random numbers are drawn from the same keys, so they are those of one device.
    """
    if mesh is None or mesh.shape["member"] == 1:
        return assimilator

    def init(key: Array) -> Any:
        return divided(assimilator.init(key), mesh, fields="member")

    def step(key: Array, state: Any, observations: Observations) -> tuple[Any, Window]:
        state, window = assimilator.step(key, divided(state, mesh, fields="member"), observations)
        state, omega = divided((state, window.omega), mesh, fields="member")
        return state, window._replace(omega=omega)

    return Assimilator(init, step, assimilator.members)
