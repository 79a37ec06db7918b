"""The cache: computed once for each configuration, never trusted when corrupt, never fatal."""

import re
import tempfile
import threading
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrda.core import cache
from jaxsrda.core.locks import locked


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


@pytest.mark.parametrize("content", ["", "half", "text", "bit", "header"])
def test_corrupt_cache_is_computed_anew(folder, content):
    calls, compute = count_calls()
    cache.cached_npz("climate", "{}", compute)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    flipped = whole.replace(np.float64(2.0).tobytes(), np.float64(2.5).tobytes())
    shorter = whole.replace(b"'shape': (3,)", b"'shape': (2,)")
    assert whole != flipped and whole != shorter
    path.write_bytes(
        {
            "": b"",
            "half": whole[: len(whole) // 2],
            "text": b"not an archive",
            "bit": flipped,
            "header": shorter,
        }[content]
    )
    with pytest.warns(UserWarning, match=rf"cache: {path} is damaged \(.*\); it is computed anew"):
        got = cache.cached_npz("climate", "{}", compute)
    np.testing.assert_array_equal(got["a"], np.arange(3.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
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
    assert not list(folder.iterdir())


def test_scratch_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path / "new" / "cache"))
    assert cache.scratch_dir() == tmp_path / "new" / "cache" and cache.scratch_dir().is_dir()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path / "file" / "cache"))
    assert cache.scratch_dir() == Path(tempfile.gettempdir())


def test_of_several_one_computes_and_the_others_wait(folder):
    calls, results = [], []

    def compute():
        calls.append(1)
        time.sleep(0.2)
        return {"a": np.arange(3.0)}

    def take():
        results.append(cache.cached_npz("truth", "{}", compute)["a"])

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and len(results) == 3 and all(a.tolist() == [0, 1, 2] for a in results)
    assert [path.suffix for path in folder.iterdir()] == [".npz"]  # no lock is left


def test_nothing_in_an_entry_is_run(folder):
    """An entry with a pickle in it is a damaged one."""
    _, compute = count_calls()
    cache.cached_npz("climate", "{}", compute)
    (path,) = folder.iterdir()
    np.savez(path, a=np.array([Path("x")], dtype=object))
    with pytest.warns(UserWarning, match="is damaged .*allow_pickle"):
        assert set(cache.cached_npz("climate", "{}", compute)) == {"a", "b"}


def test_entries_say_what_they_are(folder, monkeypatch):
    monkeypatch.setattr(cache, "NUMERICS", cache.NUMERICS - 1)
    cache.cached_npz("climatology-jet", "{}", lambda: {"a": np.zeros(5)})
    monkeypatch.undo()
    monkeypatch.setenv("JAXSRDA_CACHE", str(folder))
    cache.cached_npz("truth-jet-fine-3", "{}", lambda: {"a": np.zeros(1000)})
    (folder / "truth-jet-fine-4-0123456789ab.parts").mkdir()
    (folder / "notes.txt").write_text("mine")
    old, new, parts = cache.entries()
    assert (old.what, old.current) == ("climatology-jet", False)
    assert (new.what, new.current) == ("truth-jet-fine-3", True) and new.size > 8000 and 0 <= new.age < 60
    assert (parts.what, parts.current, parts.size) == ("unfinished truth-jet-fine-4", None, 0)
    with locked(parts.path.with_suffix(".lock")):
        assert not cache.remove(parts) and parts.path.exists()
    assert all(cache.remove(each) for each in (old, new, parts))
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_compiled_programs_are_kept(folder):
    """In the cache, in a folder of this kind of processor, unless the user has said where."""
    before = jax.config.jax_compilation_cache_dir
    seconds = jax.config.jax_persistent_cache_min_compile_time_secs
    try:
        cache.keep_programs()
        assert jax.config.jax_compilation_cache_dir == before and not folder.exists()
        jax.config.update("jax_compilation_cache_dir", None)
        cache.keep_programs()
        (programs,) = folder.iterdir()
        assert jax.config.jax_compilation_cache_dir == str(programs)
        assert [each.what for each in cache.entries()] == ["programs"]
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
