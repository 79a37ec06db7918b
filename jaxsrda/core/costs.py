"""What a program costs: seconds to compile and to run, memory, operations; one routine for benchmarks and plans."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

Call = Callable[[], Any]


class Costs(NamedTuple):
    """XLA's account of a compiled program, None where it has none.

    flops: arithmetic operations; moved: bytes read and written between operations.  XLA counts the body of a loop
    (`lax.scan`, `lax.map`, `fori_loop`) once, however often it runs.  arguments, outputs, temporary: bytes held;
    an output in the place of a donated argument counts once.
    """

    flops: float | None = None
    moved: float | None = None
    arguments: int | None = None
    outputs: int | None = None
    temporary: int | None = None

    @property
    def memory(self) -> int | None:
        """Bytes that the program needs in all: arguments, outputs and temporaries."""
        held = (self.arguments, self.outputs, self.temporary)
        return None if None in held else sum(held)  # type: ignore[arg-type]


class Compiled(NamedTuple):
    """A compiled function, with the seconds that tracing and lowering, and compiling, took; and its `Costs`."""

    program: Any
    lower: float
    compile: float
    costs: Costs


def compiled(function: Callable[..., Any], *arguments: Any, donate: int | tuple[int, ...] = ()) -> Compiled:
    """A function of arguments (arrays, or their shapes as `jax.ShapeDtypeStruct`) as a compiled program."""
    began = time.perf_counter()
    lowered = jax.jit(function, donate_argnums=donate).lower(*arguments)
    between = time.perf_counter()
    program = lowered.compile()
    done = time.perf_counter()
    return Compiled(program, between - began, done - between, costs_of(program))


def costs_of(program: Any) -> Costs:
    """The `Costs` of a compiled program."""
    counted, held = program.cost_analysis() or {}, program.memory_analysis()
    counted = counted[0] if isinstance(counted, list) else counted
    flops, moved = (counted.get(name) for name in ("flops", "bytes accessed"))
    if held is None:
        return Costs(flops, moved)
    outputs = held.output_size_in_bytes - held.alias_size_in_bytes
    return Costs(flops, moved, held.argument_size_in_bytes, outputs, held.temp_size_in_bytes)


def seconds_of(calls: Sequence[Call], least: int = 3, most: int = 30, budget: float = 2.0) -> list[list[float]]:
    """Wall times of runs of each call, results awaited.

    The calls take turns, so that other work on the machine slows all alike.  A first round, in which memory is touched
    for the first time, does not count; then come `least` rounds, and more, up to `most`, until `budget` seconds a call
    are spent.
    """
    times: list[list[float]] = [[] for _ in calls]
    began = time.perf_counter()
    while len(times[0]) < 1 + most:
        for call, taken in zip(calls, times):
            start = time.perf_counter()
            jax.block_until_ready(call())
            taken.append(time.perf_counter() - start)
        if len(times[0]) > least and time.perf_counter() - began > budget * len(calls):
            break
    return [taken[1:] for taken in times]


def matrix_rate(size: int = 2048, dtype: Any = "float32", budget: float = 1.0) -> float:
    """Operations a second, 2 n³ over the least time, of one product of two square matrices of `size` n."""
    a = jax.numpy.asarray(np.random.default_rng(0).normal(size=(size, size)), dtype)
    product = compiled(lambda a, b: jax.numpy.matmul(a, b, precision="highest"), a, a).program
    return 2 * size**3 / min(seconds_of([lambda: product(a, a)], budget=budget)[0])


def bandwidth(megabytes: int = 256, budget: float = 1.0) -> float:
    """Bytes a second, three arrays over the least time, of a = b + 2 c on arrays far larger than the caches (the triad
    of McCalpin's STREAM)."""
    b = jax.numpy.ones(megabytes * 250_000, "float32")
    triad = compiled(lambda b, c: b + 2 * c, b, b + 1)
    c = b + 1
    return 3 * b.nbytes / min(seconds_of([lambda: triad.program(b, c)], budget=budget)[0])
