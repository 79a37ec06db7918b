"""Checkpoints: what is saved comes back, for the same work only, and a damaged one is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrda.core.checkpoints import Checkpoints, check_kept

ARRAYS = {"omega": np.arange(6.0).reshape(2, 3), "count": np.asarray(7, np.int32), "state": np.ones(2, np.float32)}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "work"


def saved(folder, mark="mine", keep=1, steps=(1,)):
    store = Checkpoints(folder, mark, keep)
    for step in steps:
        store.save(step, ARRAYS | {"count": np.asarray(step, np.int32)}, {"best": 0.5, "history": [1, step]})
    store.close()
    return store


def test_what_is_saved_comes_back(folder):
    saved(folder, steps=(3,))
    store = Checkpoints(folder, "mine")
    assert store.steps() == [3]
    got = store.restore(3)
    assert got.step == 3 and got.notes == {"best": 0.5, "history": [1, 3]} and set(got.arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert isinstance(got.arrays[name], np.ndarray) and got.arrays[name].dtype == array.dtype
    np.testing.assert_array_equal(got.arrays["omega"], ARRAYS["omega"])
    assert got.arrays["count"] == 3
    store.close()


def test_jax_arrays_and_trees_come_back_in_the_form_of_a_template(folder):
    tree = {"params": {"kernel": jnp.arange(4.0), "bias": jnp.zeros(1, "float32")}, "step": jnp.int32(5)}
    store = Checkpoints(folder, "mine")
    store.save(1, tree)
    template = jax.tree.map(jnp.zeros_like, tree)
    got = store.restore(1, template)
    assert got.notes == {} and jax.tree.structure(got.arrays) == jax.tree.structure(tree)
    for a, b in zip(jax.tree.leaves(got.arrays), jax.tree.leaves(tree)):
        assert isinstance(a, jax.Array) and a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    store.close()


def test_only_the_latest_are_kept(folder):
    saved(folder, keep=1, steps=(1, 2, 3))
    assert Checkpoints(folder, "mine").steps() == [3]
    saved(folder.with_name("two"), keep=2, steps=(1, 2, 3))
    assert Checkpoints(folder.with_name("two"), "mine").steps() == [2, 3]


def test_all_are_kept_if_wanted(folder):
    saved(folder, keep=None, steps=(2, 5, 9))
    store = Checkpoints(folder, "mine", None)
    assert store.steps() == [2, 5, 9]
    assert [int(store.restore(step).arrays["count"]) for step in store.steps()] == [2, 5, 9]
    store.close()


def test_a_folder_is_made_only_when_something_is_saved(folder):
    store = Checkpoints(folder, "mine")
    assert store.steps() == [] and not folder.exists()
    store.close()
    saved(folder)
    assert folder.is_dir()


def test_checkpoints_of_other_work_are_refused(folder):
    saved(folder)
    other = Checkpoints(folder, "other")
    with pytest.raises(ValueError, match=r"work: holds a checkpoint of other work .*; choose another folder or"):
        other.restore(1)
    other.close()
    assert Checkpoints(folder, "mine").restore(1).step == 1  # and left as they were


@pytest.mark.parametrize("damage", ["truncated", "notes", "gone"])
def test_a_damaged_checkpoint_is_named(folder, damage):
    saved(folder)
    files = [path for path in (folder / "1").rglob("*") if path.is_file()]
    for path in files:
        if damage == "truncated" and "state" in path.parts:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
        elif damage == "notes" and "notes" in path.parts:
            path.write_text("{not json")
        elif damage == "gone" and "state" in path.parts:
            path.unlink()
    store = Checkpoints(folder, "mine")
    with pytest.raises(ValueError, match=r"work: its checkpoint 1 cannot be read .*remove the folder to start anew"):
        store.restore(1)
    store.close()


def test_other_work_is_known_by_the_latest_notes_that_can_be_read(folder):
    saved(folder, {"seed": "1", "later": "a"}, keep=None, steps=(1, 2))
    check_kept(folder, {"seed": "1"})
    for step in (2, 1):
        for path in (path for path in (folder / str(step) / "notes").rglob("*") if path.is_file()):
            path.write_text("{not json")
        if step == 2:
            check_kept(folder, {"seed": "1"})
            with pytest.raises(ValueError, match=r"holds a checkpoint of other work .its seed is 1, this one's is 2"):
                check_kept(folder, {"seed": "2"})
    check_kept(folder, {"seed": "2"})  # which restoring refuses
    assert Checkpoints(folder, "").steps() == [1, 2]


def test_a_step_that_is_not_there_is_named(folder):
    saved(folder)
    store = Checkpoints(folder, "mine")
    with pytest.raises(ValueError, match="its checkpoint 4 cannot be read"):
        store.restore(4)
    store.close()
