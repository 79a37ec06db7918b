"""Records: values in terms of JSON, keys that tell functions apart, and names that have changed."""

import dataclasses
import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrda.core.records import described, key_of, refuse_old, renamed


@dataclasses.dataclass(frozen=True)
class Plain:
    """A configuration."""

    sizes: tuple = (1, 2)
    scale: float = 0.5
    inner: object = None


@dataclasses.dataclass(frozen=True)
class Doubler:
    """A configuration that can be called, as guides can."""

    factor: float = 2.0

    def __call__(self, x):
        return self.factor * x


@dataclasses.dataclass(frozen=True)
class Tripler(Doubler):
    """Another one of the same fields."""


class Scale:
    """An object that can be called and is no dataclass."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return self.factor * x

    def method(self, x):
        return x


def double(x):
    return 2 * x


def power(x, exponent):
    return x**exponent


def scaled(factor):
    def inner(x):
        return factor * x

    return inner


def raised(exponent):
    def inner(x, by=exponent, *, offset=0):
        return x**by + offset

    return inner


# Described


def test_described_is_what_json_knows():
    value = Plain(inner={"a": np.arange(3), 2: jnp.float32(1.5), "f": double, "none": None, "flag": True})
    got = described(value)
    assert got == {
        "sizes": [1, 2],
        "scale": 0.5,
        "inner": {"a": [0, 1, 2], "2": 1.5, "f": "double", "none": None, "flag": True},
    }
    assert json.loads(json.dumps(got)) == got
    assert described([Plain(), Plain(scale=1.0)])[1]["scale"] == 1.0
    assert described(Doubler()) == {"kind": "Doubler", "factor": 2.0}
    assert described(Scale(3)) == "Scale" and described(functools.partial(power, exponent=2)) == "partial"
    assert described(np.dtype("float32")) == "float32"


# Keys


@pytest.mark.parametrize(
    "values",
    [
        (1, 1.5, True, None, "1"),
        (Plain(), Plain(scale=0.25), Plain(inner=Plain()), Plain(sizes=(2, 1))),
        (Doubler(), Doubler(3.0), Tripler()),
        (double, power, lambda x: 2 * x, lambda x: 3 * x, lambda x: x + 2, lambda x: abs(x), lambda x: len(x)),
        [lambda: lambda x: 2 * x, lambda: lambda x: 3 * x],
        (scaled(1), scaled(2), scaled(np.arange(2)), scaled(double), scaled(power), scaled(scaled(1))),
        (raised(2), raised(3)),
        tuple(functools.partial(power, exponent=n) for n in (2, 3)),
        (functools.partial(power, 2), functools.partial(double, 2), functools.partial(power)),
        (Scale(1), Scale(2), Scale(double)),
        (Scale(1).method, Scale(1).__call__),
        (jnp.sin, jnp.cos, np.sin, len, Plain),
        (jax.jit(scaled(1)), jax.jit(scaled(2)), scaled(1)),
        (jax.jit(functools.partial(power, exponent=2)), jax.jit(functools.partial(power, exponent=3))),
        ([1, 2], [2, 1], [[1, 2]], {"a": 1}, {"a": 2}, {"b": 1}),
        (np.arange(3), np.arange(4), np.arange(3.0) / 2),
    ],
    ids=range(16),
)
def test_keys_tell_values_apart(values):
    keys = [key_of(value) for value in values]
    assert len(set(keys)) == len(keys)
    together = [key_of(Plain(inner=value), 3) for value in values]  # as deep as they may lie
    assert len(set(together)) == len(values)


def test_equal_values_have_equal_keys():
    for make in (
        lambda: Plain(),
        lambda: Doubler(),
        lambda: scaled(2),
        lambda: raised(2),
        lambda: functools.partial(power, exponent=2),
        lambda: Scale(1),
        lambda: jax.jit(scaled(2)),
    ):
        assert key_of(make()) == key_of(make())
    assert key_of(1, 2) != key_of([1, 2]) and key_of() == key_of()


def test_a_function_that_holds_itself_has_a_key():
    def count(n):
        return 0 if n == 0 else 1 + count(n - 1)

    assert key_of(count) == key_of(count) != key_of(double)


PROGRAM = """
import functools
from jaxsrda.core.records import key_of
from jaxsrda.flow.jet import initial_state, sech2
print(key_of(initial_state, functools.partial(sech2, width=0.4)))
"""


def test_keys_are_the_same_in_another_process():
    """They name files that outlive the process: no address may be in them."""
    from jaxsrda.flow.jet import initial_state, sech2

    run = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == key_of(initial_state, functools.partial(sech2, width=0.4))


# Names that have changed


@renamed(size="length", colour="hue, as in Thing(hue=…)")
@dataclasses.dataclass(frozen=True)
class Thing:
    """A configuration whose options had other names."""

    length: int = 1
    hue: str = "red"


def test_a_name_that_has_changed_is_refused_with_the_new_one():
    assert Thing(2, hue="blue") == Thing(length=2, hue="blue") and Thing().length == 1
    with pytest.raises(TypeError, match="Thing: size is now length; use that name"):
        Thing(size=3)
    with pytest.raises(TypeError, match=r"Thing: colour is now hue, as in Thing\(hue=…\)"):
        Thing(colour="blue")
    with pytest.raises(TypeError, match="unexpected keyword argument 'width'"):
        Thing(width=3)
    assert dataclasses.replace(Thing(), length=5).length == 5
    assert [field.name for field in dataclasses.fields(Thing)] == ["length", "hue"]


def test_options_of_functions_that_have_changed():
    refuse_old("simulate", {"length": 1}, {"size": "length"})
    with pytest.raises(TypeError, match="simulate: size is now length"):
        refuse_old("simulate", {"size": 1}, {"size": "length"})


def test_filters_name_their_new_option():
    from jaxsrda.filters.config import FilterConfig

    with pytest.raises(TypeError, match="FilterConfig: observation_std is now assumed_std; use that name"):
        FilterConfig(observation_std=0.1)
