"""Networks by name: what each is built of and what it can be trained for.  A network of one's own registers itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple


class Sizes(NamedTuple):
    """What a network is made for.

    frames: of the target; channels: of the condition; nx, ny: the grid; latent:
    numbers a node and frame, if what is denoised lives on nodes (0: on the grid); quiet: channels of the condition
    whose first weights are zero, so that they have no effect until training uses them; bfloat16: compute in it.
    """

    frames: int
    channels: int
    nx: int
    ny: int
    latent: int = 0
    quiet: tuple[int, ...] = ()
    bfloat16: bool = False


@dataclasses.dataclass(frozen=True)
class NetworkKind:
    """A network that can be chosen by name.

    build: (sizes, seed) → an NNX module with `encode(condition) → Features` and `__call__(noisy, level, features)`;
    targets: what it can be trained for (`diffsrda.model.TARGETS`); denoiser: names of the parts that run at every step,
    if these can be trained apart from the rest; latent: whether it can denoise in a latent; drops: whether its call
    takes a key that drops features in training; guesses: whether it takes the first guess of every frame out of the
    condition, which they then have to lead.
    """

    build: Callable[[Sizes, int], Any]
    targets: tuple[str, ...]
    denoiser: tuple[str, ...] = ()
    latent: bool = False
    drops: bool = False
    guesses: bool = False


NETWORKS: dict[str, NetworkKind] = {}
"""Networks by name."""


def register_network(name: str, kind: NetworkKind) -> None:
    """Make a network known by a name; ValueError for a name that is taken."""
    if name in NETWORKS:
        raise ValueError(f"register_network: {name!r} is taken; choose another name")
    NETWORKS[name] = kind
