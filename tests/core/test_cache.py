"""The cache: computed once for each configuration, never trusted when corrupt, never fatal."""

import re
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrda.core import cache


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def count_calls():
    calls = []

    def compute():
        calls.append(1)
        return {"a": np.arange(3.0), "b": jnp.ones(2)}

    return calls, compute


def test_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXSRDA_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    monkeypatch.setenv("HOME", "/c")
    assert cache.cache_dir() == Path("/a")
    monkeypatch.delenv("JAXSRDA_CACHE")
    assert cache.cache_dir() == Path("/b/jaxsrda")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_dir() == Path("/c/.cache/jaxsrda")


def test_content_hash():
    assert cache.content_hash("abc") == "ba7816bf8f01"


def test_cache_computes_once_for_each_configuration(folder):
    calls, compute = count_calls()
    first, again = (cache.cached_npz("climate", '{"n": 1}', compute) for _ in range(2))
    assert len(calls) == 1
    assert first.keys() == again.keys() == {"a", "b"}
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    cache.cached_npz("climate", '{"n": 2}', compute)
    assert len(calls) == 2
    names = [path.name for path in folder.iterdir()]
    assert len(names) == 2 and all(re.fullmatch(r"climate-[0-9a-f]{12}\.npz", name) for name in names)


@pytest.mark.parametrize(
    "other",
    [
        lambda: jax.enable_x64(False),
        lambda: jax.default_prng_impl("rbg"),
        lambda: jax.threefry_partitionable(not jax.config.jax_threefry_partitionable),
    ],
    ids=["precision", "generator", "partitionable"],
)
def test_what_changes_all_random_numbers_is_part_of_every_key(folder, other):
    calls, compute = count_calls()
    cache.cached_npz("climate", "{}", compute)
    with other():
        cache.cached_npz("climate", "{}", compute)
    cache.cached_npz("climate", "{}", compute)
    assert len(calls) == 2 and len(list(folder.iterdir())) == 2


def test_numbers_of_an_older_package_are_not_taken(folder, monkeypatch):
    calls, compute = count_calls()
    cache.cached_npz("climate", "{}", compute)
    monkeypatch.setattr(cache, "NUMERICS", cache.NUMERICS + 1)
    cache.cached_npz("climate", "{}", compute)
    assert len(calls) == 2


@pytest.mark.parametrize("content", ["", "half", "text"])
def test_corrupt_cache_is_computed_anew(folder, content):
    calls, compute = count_calls()
    cache.cached_npz("climate", "{}", compute)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes({"": b"", "half": whole[: len(whole) // 2], "text": b"not an archive"}[content])
    np.testing.assert_array_equal(cache.cached_npz("climate", "{}", compute)["a"], np.arange(3.0))
    cache.cached_npz("climate", "{}", compute)
    assert len(calls) == 2


def test_unwritable_cache_warns_only(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path / "file" / "cache"))
    calls, compute = count_calls()
    with pytest.warns(UserWarning, match="cache: could not write .*set JAXSRDA_CACHE"):
        arrays = cache.cached_npz("climate", "{}", compute)
    assert len(calls) == 1 and set(arrays) == {"a", "b"}


def test_errors_of_the_computation_pass_through(folder):
    with pytest.raises(ValueError, match="mine"):
        cache.cached_npz("climate", "{}", lambda: (_ for _ in ()).throw(ValueError("mine")))
    assert not folder.exists()


def test_scratch_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path / "new" / "cache"))
    assert cache.scratch_dir() == tmp_path / "new" / "cache" and cache.scratch_dir().is_dir()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path / "file" / "cache"))
    assert cache.scratch_dir() == Path(tempfile.gettempdir())
