"""Trained models in files: one .npz with weights, configuration and training record; released ones come by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsrda.core.checks import check_choice
from jaxsrda.core.files import read_npz, write_npz
from jaxsrda.core.records import described, from_json, key_of
from jaxsrda.core.trees import digest, eight_bits, flatten, from_eight_bits, half, unflatten
from jaxsrda.diffsrda.condition import Conditioning
from jaxsrda.diffsrda.covariance import ResidualCovariance
from jaxsrda.diffsrda.latent import LatentSpace
from jaxsrda.diffsrda.model import Model, ModelConfig, network
from jaxsrda.networks.autoencoder import PRESETS as AUTOENCODERS
from jaxsrda.networks.autoencoder import functions

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
        ", or one of the repository's experiments/weights"
    )


def named_arrays(model: Model) -> dict[str, np.ndarray]:
    """All arrays of a model as they are stored: weights in float16, what normalizes them and codes in float32.

    Raises ValueError for weights that are not finite in float16.
    """
    trees = {"params": model.params} | ({"autoencoder": model.space.params} if model.space is not None else {})
    arrays = {f"{tree}.{name}": half(leaf) for tree in trees for name, leaf in flatten(trees[tree]).items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"weights: {name} holds numbers that are not finite in float16; nothing was written")
    if model.space is not None:
        arrays |= {"codes": np.asarray(model.space.codes, np.float32), "gain": np.asarray(model.space.gain, np.float32)}
    return arrays


BITS = (16, 8)
"""Sizes of a stored weight: float16, or whole numbers with a step for each output (`core.trees.eight_bits`)."""


def save_model(path: Path, model: Model, record: dict[str, Any], base: str = "", bits: int = 16) -> str:
    """Write a model with its training record, atomically.  Returns the SHA-256 of its weights as they are stored.

    base: released weights; what is the same in them is not written again.  bits: of a weight, 16 or 8.
    Raises ValueError for other bits, for 8 with a base, and for weights that are not finite.
    """
    if bits not in BITS or (bits == 8 and base):
        raise ValueError(f"bits: expected 16, or 8 for weights that share nothing with others, got {bits}")
    arrays = named_arrays(model)
    if bits == 8:
        arrays = eight_bits(arrays)
    sha = stored_digest(arrays, model.scale)
    config = described(model.config)
    header = {"format": FORMAT, "conditioning": config.pop("conditioning"), "model": config}
    header |= {"sha256": sha, "record": record, "base": {}}
    if model.residual is not None:
        header["residual"] = {name: np.asarray(a).tolist() for name, a in model.residual._asdict().items()}
    if base:
        other, noted = load_model(base)
        header["base"] = {"name": base, "sha256": noted["sha256"]}
        shared = named_arrays(other)
        arrays = {name: a for name, a in arrays.items() if name not in shared or not np.array_equal(a, shared[name])}
    write_npz(path, header=json.dumps(header), scale=model.scale, **arrays)
    return sha


def stored_digest(arrays: dict[str, np.ndarray], scale: np.ndarray) -> str:
    """SHA-256 of a model's arrays; the parameters of the network are named without their tree."""
    return digest({name.removeprefix("params."): a for name, a in arrays.items()} | {"scale": scale})


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
        arrays = read_npz(path)
        header = json.loads(str(arrays.pop("header")))
        scale = arrays.pop("scale")
    except Exception as error:  # numpy and zipfile raise half a dozen kinds for a damaged file
        raise ValueError(
            f"{path}: expected weights written by `jaxsrda train`, could not read them ({error})"
        ) from None
    if header.get("format", FORMAT) != FORMAT:
        raise ValueError(f"{path}: expected weights of format {FORMAT}, got {header['format']}; train again")
    if not {"format", "conditioning", "model", "sha256", "record"} <= set(header):
        raise ValueError(f"{path}: expected weights from `jaxsrda train`, its header lacks entries; train again")
    try:
        conditioning = from_json(Conditioning, json.dumps(header["conditioning"]))
        config = from_json(ModelConfig, json.dumps(header["model"]))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    config = dataclasses.replace(config, conditioning=conditioning)
    if scale.shape != (config.frames,) or not (np.isfinite(scale) & (scale > 0)).all():
        raise ValueError(
            f"{path}: expected a scale of {config.frames} finite numbers above 0, got {scale}; train again"
        )
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
        arrays = named_arrays(other) | arrays
    if stored_digest(arrays, scale) != header["sha256"]:
        raise ValueError(
            f"{path}: the weights do not match their SHA-256; the file is damaged, fetch or train it again"
        )
    arrays = from_eight_bits(arrays)
    space = None
    if config.latent:
        latent = AUTOENCODERS[config.latent]
        params = unflatten(
            functions(latent).initial, chosen("autoencoder", arrays), path, f"autoencoder {config.latent!r}"
        )
        codes, gain = (jnp.asarray(arrays.pop(name, np.zeros(0)), jnp.float32) for name in ("codes", "gain"))
        if codes.shape != (latent.codes, latent.channels) or gain.shape != (latent.channels,):
            raise ValueError(
                f"{path}: expected codes {(latent.codes, latent.channels)} and gain {(latent.channels,)} of "
                f"autoencoder {config.latent!r}, got {codes.shape} and {gain.shape}"
            )
        space = LatentSpace(params, codes, gain)
    params = unflatten(network(config).initial, chosen("params", arrays), path, f"network {config.network!r}")
    residual = header.get("residual")
    if residual is not None:
        residual = ResidualCovariance(*(np.asarray(residual[name], float) for name in ResidualCovariance._fields))
    return Model(config, params, scale, space, residual), header["record"] | {"sha256": header["sha256"]}


def chosen(tree: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of one tree, by their paths in it."""
    return {name.removeprefix(f"{tree}."): array for name, array in arrays.items() if name.startswith(f"{tree}.")}


def model_hash(model: Model) -> str:
    """A short name for a model's weights."""
    arrays = {name: np.asarray(leaf) for name, leaf in flatten(model.params).items()}
    if model.space is not None:
        arrays |= {f"space.{name}": np.asarray(leaf) for name, leaf in flatten(model.space._asdict()).items()}
    return hashlib.sha256((key_of(model.config) + digest(arrays | {"scale": model.scale})).encode()).hexdigest()[:12]
