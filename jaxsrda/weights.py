"""Trained models in files: one .npz with weights, configuration and training record; released ones come by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.checks import check_choice
from jaxsrda.conditioning import FRAMES, NORMALIZATION
from jaxsrda.config import changes, from_json
from jaxsrda.io import write_npz
from jaxsrda.model import Model, ModelConfig, network

FORMAT = 2
"""Raised when conditions or files change their meaning, so that older weights are refused."""

RELEASED = Path(__file__).parent / "released"
"""Where the weights lie that come with the package."""


def released() -> list[str]:
    """Names of the weights that come with the package."""
    return sorted(path.stem for path in RELEASED.glob("*.npz"))


def default_weights(prior: str) -> str:
    """The first released weights for a prior that draw samples and are no student; ValueError if there are none."""
    for name in released():
        with np.load(RELEASED / f"{name}.npz", allow_pickle=False) as loaded:
            model = json.loads(str(loaded["header"]))["model"]
        if prior in model["priors"] and model["target"] != "regression" and not model.get("distilled"):
            return name
    raise ValueError(
        f"weights: none are released for prior {prior!r}; give a file of your own, from `jaxsrda train --prior {prior}`"
    )


def flatten(params: Any) -> dict[str, jax.Array]:
    """A parameter tree as path → array, paths joined by dots."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    named = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    # The last step into a variable is Flax's own affair, and its name has changed before.
    return {name.removesuffix(".value"): leaf for name, leaf in named.items()}


def digest(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of named arrays."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        sha.update(name.encode() + str(arrays[name].shape).encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return sha.hexdigest()


def _half(leaf: jax.Array) -> np.ndarray:
    with np.errstate(over="ignore"):  # infinity is refused by name
        return np.asarray(leaf, np.float16)


def save_model(path: Path, model: Model, record: dict[str, Any], base: str = "") -> str:
    """Write a model with its training record, atomically; weights in float16.  Returns their SHA-256.

    base: released weights; what is the same in them is not written again.
    """
    arrays = {name: _half(leaf) for name, leaf in flatten(model.params).items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"weights: {name} holds numbers that are not finite in float16; nothing was written")
    sha = digest(arrays | {"scale": model.scale})
    header = {"format": FORMAT, "conditioning": NORMALIZATION, "model": dataclasses.asdict(model.config)}
    header |= {"sha256": sha, "record": record, "base": {}}
    if base:
        other, noted = load_model(base)
        header["base"] = {"name": base, "sha256": noted["sha256"]}
        shared = {name: _half(leaf) for name, leaf in flatten(other.params).items()}
        arrays = {name: a for name, a in arrays.items() if not np.array_equal(a, shared.get(name))}
    write_npz(path, header=json.dumps(header), scale=model.scale, **{f"params.{n}": a for n, a in arrays.items()})
    return sha


def load_model(source: str | Path) -> tuple[Model, dict[str, Any]]:
    """A model and its training record, from a released name or a file.

    Raises ValueError for a missing or corrupt file, another format, other sizes or damaged weights.
    """
    path = Path(source)
    if str(source) in released():
        path = RELEASED / f"{source}.npz"
    elif not path.suffix:
        check_choice("weights", str(source), released())
    if not path.exists():
        raise ValueError(f"weights: no file {path}; give a .npz written by `jaxsrda train`, or one of {released()}")
    try:
        with np.load(path, allow_pickle=False) as loaded:
            arrays = dict(loaded)
        header = json.loads(str(arrays.pop("header")))
        scale = arrays.pop("scale")
        given = {name.removeprefix("params."): array for name, array in arrays.items()}
    except Exception as error:  # numpy raises half a dozen kinds on a damaged file
        raise ValueError(
            f"{path}: expected weights written by `jaxsrda train`, could not read them ({error})"
        ) from None
    if header.get("format", FORMAT) != FORMAT:
        raise ValueError(f"{path}: expected weights of format {FORMAT}, got {header['format']}; train again")
    if not {"format", "conditioning", "model", "sha256", "record"} <= set(header):
        raise ValueError(f"{path}: expected weights from `jaxsrda train`, its header lacks entries; train again")
    if header["conditioning"] != NORMALIZATION:
        raise ValueError(
            f"{path}: expected weights for conditions made with {NORMALIZATION}, got {header['conditioning']}; "
            "train again"
        )
    try:
        config = from_json(ModelConfig, json.dumps(header["model"]))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if scale.shape != (FRAMES,) or not (np.isfinite(scale) & (scale > 0)).all():
        raise ValueError(f"{path}: expected a scale of {FRAMES} finite numbers above 0, got {scale}; train again")
    if base := header.get("base"):
        name = base["name"]
        if name not in released() or path.resolve() == (RELEASED / f"{name}.npz").resolve():
            raise ValueError(f"{path}: builds on weights {name!r}, which are not released here; train again")
        other, noted = load_model(name)
        if noted["sha256"] != base["sha256"]:
            raise ValueError(
                f"{path}: builds on another version of the released weights {name!r}; use it with the version of "
                "jaxsrda that it was trained with, or train again"
            )
        given = {name: _half(leaf) for name, leaf in flatten(other.params).items()} | given
    if digest(given | {"scale": scale}) != header["sha256"]:
        raise ValueError(
            f"{path}: the weights do not match their SHA-256; the file is damaged, fetch or train it again"
        )
    return Model(config, unflatten(config, given, str(path)), scale), header["record"] | {"sha256": header["sha256"]}


def unflatten(config: ModelConfig, given: dict[str, np.ndarray], source: str) -> Any:
    """The parameter tree of a network from path → array; ValueError naming what is missing or of another shape."""
    shapes = jax.eval_shape(lambda: network(config).initial(0))
    wanted = flatten(shapes)
    wrong = [
        f"{name} {given[name].shape if name in given else 'absent'} instead of {leaf.shape}"
        for name, leaf in wanted.items()
        if name not in given or given[name].shape != leaf.shape
    ]
    if wrong or set(given) - set(wanted):
        detail = "; ".join(wrong[:3]) or f"unknown {sorted(set(given) - set(wanted))[:3]}"
        raise ValueError(f"{source}: these weights are for other sizes than network {config.network!r} has: {detail}")
    return jax.tree.unflatten(jax.tree.structure(shapes), [jnp.asarray(given[name], jnp.float32) for name in wanted])


def model_hash(model: Model) -> str:
    """A short name for a model's weights."""
    arrays = {name: np.asarray(leaf) for name, leaf in flatten(model.params).items()}
    return hashlib.sha256((changes(model.config) + digest(arrays | {"scale": model.scale})).encode()).hexdigest()[:12]
