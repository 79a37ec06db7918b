"""Weights in files: what comes back is what was saved, and nothing damaged or foreign is taken for a model."""

import dataclasses
import json
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID, TESTBED, observed, quick_jit, setup

from jaxsrda.core.trees import digest, eight_bits, flatten, from_eight_bits
from jaxsrda.diffsrda import model as models
from jaxsrda.diffsrda import weights
from jaxsrda.diffsrda.condition import Conditioning, krige
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.covariance import ResidualCovariance
from jaxsrda.diffsrda.model import Model, ModelConfig
from jaxsrda.diffsrda.prior import make_prior
from jaxsrda.diffsrda.sampling import known_of_samples, make_draw
from jaxsrda.diffsrda.step import recorded_step, start
from jaxsrda.diffsrda.weights import default_weights, load_model, model_hash, released, save_model
from jaxsrda.experiment.registry import METHODS, make_assimilator, make_diffsrda
from jaxsrda.filters.config import FilterConfig
from jaxsrda.networks.unet import DENOISER


@pytest.fixture
def model(smallest):
    return random_model()


def parameters(kind, seed=0):
    leaves, tree = jax.tree.flatten(jax.eval_shape(lambda: models.network(kind).initial(0)))
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(tree, [jnp.asarray(rng.normal(size=leaf.shape), jnp.float32) for leaf in leaves])


def random_model(seed=0, nx=32, ny=17, priors=("dual", "enkf-sr")):
    params = parameters(ModelConfig("tiny"), seed)
    return Model(ModelConfig("tiny", priors, nx, ny, sigma_data=0.4), params, np.arange(1, 6, dtype=np.float32))


@pytest.fixture
def saved(tmp_path, model):
    path = tmp_path / "a.npz"
    save_model(path, model, {"samples": 5})
    return path


def rewrite(path, change):
    """The file once more, with its arrays and header changed by `change(arrays, header)`."""
    with np.load(path) as loaded:
        arrays = dict(loaded)
    header = json.loads(str(arrays.pop("header")))
    change(arrays, header)
    np.savez(path, header=json.dumps(header), **arrays)


def resign(arrays, header):
    """Put the SHA-256 right again after a change of the arrays."""
    given = {n.removeprefix("params."): a for n, a in arrays.items() if n.startswith("params.")}
    header["sha256"] = digest(given | {"scale": arrays["scale"]})


# There and back -------------------------------------------------------------------------------


def test_a_model_comes_back_as_it_was_saved(tmp_path, model):
    path = tmp_path / "a.npz"
    sha = save_model(path, model, {"samples": 5, "curve": [{"loss": 1.5}]})
    loaded, record = load_model(path)
    assert loaded.config == model.config
    assert record == {"samples": 5, "curve": [{"loss": 1.5}], "sha256": sha}
    np.testing.assert_array_equal(loaded.scale, model.scale)
    assert jax.tree.structure(loaded.params) == jax.tree.structure(model.params)
    got = flatten(loaded.params)
    assert len(got) > 10
    for name, leaf in flatten(model.params).items():
        assert got[name].dtype == "float32"
        np.testing.assert_array_equal(got[name], np.asarray(leaf, np.float16).astype(np.float32), err_msg=name)
    # Once rounded, they stay.
    assert save_model(tmp_path / "b.npz", loaded, {}) == sha
    assert load_model(str(path))[1]["sha256"] == sha


def test_eight_bits_are_within_half_a_step(tmp_path, model):
    path, full = tmp_path / "a.npz", tmp_path / "full.npz"
    save_model(path, model, {"samples": 5}, bits=8)
    save_model(full, model, {"samples": 5})
    back, record = load_model(path)
    assert record["samples"] == 5 and path.stat().st_size < 0.6 * full.stat().st_size
    for name, leaf in flatten(model.params).items():
        found, leaf = np.asarray(flatten(back.params)[name]), np.asarray(leaf)
        step = np.abs(leaf).max(tuple(range(leaf.ndim - 1))) / 127 if leaf.ndim > 1 else 2e-3 * np.abs(leaf)
        assert (np.abs(found - leaf) <= 0.56 * step + 1e-7).all(), name
    # Saved once more from what came back, they are the same numbers.
    again = tmp_path / "again.npz"
    assert save_model(again, back, {}, bits=8) == record["sha256"]


def test_a_kernel_of_zeros_and_a_large_one_survive_eight_bits():
    arrays = {"k": np.zeros((3, 4), np.float16), "large": np.array([[3e4, -1.0], [1e4, 0.5]], np.float16)}
    found = from_eight_bits(eight_bits(arrays))
    np.testing.assert_array_equal(found["k"], 0)
    off = np.abs(found["large"] - arrays["large"].astype(np.float32))
    assert (off <= 0.55 * np.array([3e4, 1.0]) / 127).all()


@pytest.mark.parametrize("options", [{"bits": 4}, {"bits": 8, "base": "diffsrda-small"}])
def test_other_bits_are_refused(tmp_path, model, options):
    with pytest.raises(ValueError, match="bits: expected 16, or 8 for weights that share nothing"):
        save_model(tmp_path / "a.npz", model, {}, **options)


def test_a_model_is_known_by_its_hash(model):
    assert model_hash(model) == model_hash(random_model()) and len(model_hash(model)) == 12
    assert len({model_hash(m) for m in (model, random_model(1), random_model(nx=64))}) == 3


def test_released_weights_load():
    for name in released():
        model = load_model(name)[0]
        config = model.config
        assert (config.nx, config.ny) == (128, 65) and config.conditioning == Conditioning()
        assert all(default_weights(prior) in released() for prior in config.priors)
        # What is drawn around a mean on the grid has a covariance.
        assert (model.residual is not None) == (config.target == "residual" and not config.latent)


def test_all_weights_that_are_named_come_with_the_package():
    configs = [method.config for method in METHODS.values()]
    named = {config.weights for config in configs if isinstance(config, DiffSRDAConfig) and config.weights}
    assert named and named <= set(released())


def test_released_weights_come_by_name(monkeypatch, tmp_path, smallest):
    monkeypatch.setattr(weights, "RELEASED", tmp_path)
    assert released() == []
    save_model(tmp_path / "paper.npz", random_model(priors=("lr",)), {})
    save_model(tmp_path / "diffsrda.npz", random_model(priors=("dual", "lr")), {})
    assert released() == ["diffsrda", "paper"]
    assert default_weights("dual") == default_weights("lr") == "diffsrda"  # the first that serves
    assert load_model("paper")[0].config.priors == ("lr",)
    with pytest.raises(ValueError, match=r"none are released for prior 'enkf-sr'; .*train --prior enkf-sr`"):
        default_weights("enkf-sr")
    with pytest.raises(ValueError, match=r"weights: expected one of .*did you mean 'diffsrda'"):
        load_model("diffsrd")


def test_regressions_and_students_are_nobodys_default(monkeypatch, tmp_path, smallest):
    monkeypatch.setattr(weights, "RELEASED", tmp_path)
    model = random_model(priors=("dual",))
    for name, change in [("a", {"target": "regression"}), ("b", {"distilled": 1}), ("c", {})]:
        changed = dataclasses.replace(model, config=dataclasses.replace(model.config, **change))
        save_model(tmp_path / f"{name}.npz", changed, {})
    assert default_weights("dual") == "c"


def test_weights_that_share_with_released_ones_are_stored_without(monkeypatch, tmp_path, smallest):
    monkeypatch.setattr(weights, "RELEASED", tmp_path)
    base = random_model()
    save_model(tmp_path / "base.npz", base, {})
    base = load_model("base")[0]
    louder = jax.tree.map(lambda a: a + 1, models.denoiser_part(base.config, base.params))
    student = dataclasses.replace(base, params=models.with_denoiser(base.params, louder))
    whole, small = tmp_path / "whole.npz", tmp_path / "small.npz"
    assert save_model(whole, student, {}) == save_model(small, student, {}, "base")
    assert small.stat().st_size < 0.8 * whole.stat().st_size
    with np.load(small) as loaded:
        assert {n.split(".")[1] for n in loaded if n.startswith("params.")} == set(DENOISER)
    for name, leaf in flatten(load_model(whole)[0].params).items():
        np.testing.assert_array_equal(flatten(load_model(small)[0].params)[name], leaf, err_msg=name)
    save_model(tmp_path / "base.npz", random_model(1), {})  # another model under that name
    with pytest.raises(ValueError, match="builds on another version of the released weights 'base'; use it with"):
        load_model(small)
    (tmp_path / "base.npz").unlink()
    with pytest.raises(ValueError, match="builds on weights 'base', which are not released here"):
        load_model(small)


def test_other_units_come_back_with_the_weights_and_are_used(tmp_path, smallest):
    """Kriging lengths and scales belong to the weights: what is loaded conditions by its own."""
    units = Conditioning(kriging_length=0.6, kriging_std=0.9, field_scale=2.0, departure_scale=0.25)
    model = random_model()
    model = dataclasses.replace(model, config=dataclasses.replace(model.config, conditioning=units))
    save_model(tmp_path / "a.npz", model, {})
    loaded = load_model(tmp_path / "a.npz")[0]
    assert loaded.config == model.config and loaded.config.conditioning == units
    assert model_hash(loaded) != model_hash(random_model())
    draw = make_draw(loaded, DiffSRDAConfig(members=2))
    assert draw.conditioning == units and draw.members == 2
    one, heard = jax.tree.map(lambda a: a[0], observed()), []

    def listen(key, conditions, *_):
        heard.append(conditions)
        return jnp.zeros((2, 5, *GRID.shape))

    prior = make_prior(setup(), DiffSRDAConfig(prior="lr", restart="mean", members=2))
    state = quick_jit(lambda key: start(setup(), prior, key, float, units))(jax.random.key(0))
    step = recorded_step(setup(), prior, dataclasses.replace(draw, draw=listen))
    now, told = quick_jit(lambda key, state: (step(key, state, one)[2], heard[0]))(jax.random.key(0), state)
    departures = one.values - setup().observed(now.guess.frames[:, 0], one)[0]
    kriged = quick_jit(lambda d: krige(GRID, d, one, units)[0])(jnp.where(one.mask, departures, 0))
    np.testing.assert_allclose(told[0, ..., 8], kriged / 0.25, atol=1e-10)
    np.testing.assert_allclose(told[..., :5], jnp.moveaxis(now.guess.frames, 1, -1) / 2.0, atol=1e-10)


def test_the_papers_condition_comes_back_and_the_full_one_is_not_said(tmp_path, saved, model):
    """A header without a preset, as before there were any, is that of the full condition."""

    def without(arrays, header):
        assert "preset" not in header["conditioning"]

    rewrite(saved, without)
    loaded = load_model(saved)[0]
    assert loaded.config == model.config and loaded.config.conditioning.preset == "full"
    kind = ModelConfig.of(TESTBED, network="tiny", target="direct", conditioning=Conditioning.of(TESTBED, "paper"))
    paper = Model(kind, parameters(kind), np.ones(5, np.float32))
    save_model(tmp_path / "paper.npz", paper, {})
    assert load_model(tmp_path / "paper.npz")[0].config == kind


def test_weights_for_another_cadence_come_back(tmp_path, smallest):
    kind = ModelConfig.of(dataclasses.replace(TESTBED, frames_per_cycle=2, symmetries=("shift",)), network="tiny")
    params = parameters(kind)
    save_model(tmp_path / "a.npz", Model(kind, params, np.arange(1, 4, dtype=np.float32)), {})
    loaded = load_model(tmp_path / "a.npz")[0]
    assert loaded.config == kind and loaded.config.symmetries == ("shift",) and loaded.config.frames == 3
    assert jax.tree.map(jnp.shape, loaded.params) == jax.tree.map(jnp.shape, params)


def test_the_covariance_of_what_is_drawn_comes_back(tmp_path, model):
    residual = ResidualCovariance(np.geomspace(50, 1e-3, 12), 0.3 + 0.7 * np.eye(5))
    path = tmp_path / "a.npz"
    sha = save_model(path, dataclasses.replace(model, residual=residual), {})
    loaded = load_model(path)[0]
    np.testing.assert_array_equal(loaded.residual.spectrum, residual.spectrum)
    np.testing.assert_array_equal(loaded.residual.between, residual.between)
    known = known_of_samples(loaded, np.array([2.0, 0.0]))
    u = jnp.asarray(np.random.default_rng(0).normal(size=(*GRID.shape, 5)))
    np.testing.assert_allclose(known.covariance(u, jnp.asarray(0.5)), residual.shrunk(GRID)(u, jnp.asarray(0.5)))
    # Without one nothing is known, and the weights are the same.
    assert save_model(path, model, {}) == sha
    assert load_model(path)[0].residual is None
    assert known_of_samples(load_model(path)[0], np.array([2.0, 0.0])).covariance is None


# What is refused ------------------------------------------------------------------------------


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"weights: no file .*a\.npz; give a \.npz written by `jaxsrda train`"):
        load_model(tmp_path / "a.npz")


def test_a_truncated_file_is_refused(saved):
    whole = saved.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 10):
        saved.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="expected weights written by `jaxsrda train`, could not read them"):
            load_model(saved)


def test_a_flipped_bit_is_refused(saved):
    """Or it changes nothing: the file's checksums cover the header too, whose numbers are no weights."""
    whole, dice, refused = saved.read_bytes(), random.Random(0), 0
    wanted = model_hash(load_model(saved)[0])
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        saved.write_bytes(damaged)
        try:
            assert model_hash(load_model(saved)[0]) == wanted
        except ValueError as error:
            assert str(saved) in str(error)
            refused += 1
    at = whole.index("priors".encode("utf-32-le"))  # in the header
    saved.write_bytes(whole[:at] + b"q" + whole[at + 1 :])
    with pytest.raises(ValueError, match="could not read them"):
        load_model(saved)
    assert refused > 30


def test_other_archives_are_refused(tmp_path):
    np.savez(tmp_path / "run.npz", omega=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="expected weights written by `jaxsrda train`, could not read them"):
        load_model(tmp_path / "run.npz")


def test_another_format_is_refused(saved):
    rewrite(saved, lambda arrays, header: header.update(format=0))
    with pytest.raises(ValueError, match="expected weights of format 2, got 0; train again"):
        load_model(saved)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"field_scale": 0.0}, r"a\.npz: field_scale: expected a finite number above 0, got 0.0"),
        ({"frames": 1}, r"a\.npz: conditioning: expected 2 frames and 1 earlier time or more"),
        ({"nodes": 3}, r"a\.npz: Conditioning: expected fields among"),
        ({"frames": 4}, "expected a scale of 4 finite numbers above 0, got"),
        ({"past": 3}, "these weights are for other sizes than network 'tiny' has: stem.kernel"),
    ],
)
def test_conditions_that_these_weights_cannot_have_are_refused(saved, change, message):
    rewrite(saved, lambda arrays, header: header["conditioning"].update(change))
    with pytest.raises(ValueError, match=message):
        load_model(saved)


@pytest.mark.parametrize("scale", [np.ones(4), np.array([1, 1, 0, 1, 1.0]), np.array([1, 1, np.nan, 1, 1])])
def test_a_scale_that_scales_nothing_is_refused(saved, scale):
    rewrite(saved, lambda arrays, header: (arrays.update(scale=scale.astype(np.float32)), resign(arrays, header)))
    with pytest.raises(ValueError, match="expected a scale of 5 finite numbers above 0, got"):
        load_model(saved)


def test_an_unknown_field_of_the_model_is_refused(saved):
    rewrite(saved, lambda arrays, header: header["model"].update(depth=3))
    with pytest.raises(ValueError, match=r"a\.npz: ModelConfig: expected fields among"):
        load_model(saved)


def one_weight(arrays, header):
    arrays["params.head.kernel"][0, 0, 0, 0] += 1


def one_scale(arrays, header):
    arrays["scale"][0] += 1


@pytest.mark.parametrize("change", [one_weight, one_scale])
def test_tampered_weights_are_refused(saved, change):
    rewrite(saved, change)
    with pytest.raises(ValueError, match="the weights do not match their SHA-256; the file is damaged"):
        load_model(saved)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda a: a.update({"params.head.bias": a["params.head.bias"][:-1]}),
            r"head\.bias \(79,\) instead of \(80,\)",
        ),
        (lambda a: a.pop("params.head.bias"), r"head\.bias absent instead of \(80,\)"),
        (lambda a: a.update({"params.tail": np.zeros(3, np.float16)}), r"unknown \['tail'\]"),
    ],
)
def test_weights_of_other_sizes_are_refused(saved, change, message):
    def both(arrays, header):
        change(arrays)
        resign(arrays, header)

    rewrite(saved, both)
    with pytest.raises(ValueError, match=f"these weights are for other sizes than network 'tiny' has: {message}"):
        load_model(saved)


def test_a_header_of_an_unknown_network_is_refused(saved):
    rewrite(saved, lambda arrays, header: header["model"].update(network="huge"))
    with pytest.raises(
        ValueError, match="network: expected one of tiny, small, base, paper, paper-narrow, 4dsrda-small, 4dsrda; got"
    ):
        load_model(saved)


@pytest.mark.parametrize("value", [np.nan, 1e5])
def test_weights_that_are_not_finite_are_not_written(tmp_path, model, value):
    """Neither NaN nor what float16 cannot hold."""
    leaves, tree = jax.tree.flatten(model.params)
    spoilt = jax.tree.unflatten(tree, [*leaves[:-1], leaves[-1].at[0].set(value)])
    with pytest.raises(ValueError, match="holds numbers that are not finite in float16; nothing was written"):
        save_model(tmp_path / "a.npz", Model(model.config, spoilt, model.scale), {})
    assert not list(tmp_path.iterdir())


# Use ------------------------------------------------------------------------------------------


def test_weights_for_another_grid_are_refused(model):
    with pytest.raises(ValueError, match="weights are for windows of 5 frames on 16 × 9 points, this testbed has 5 on"):
        make_diffsrda(setup(), DiffSRDAConfig(), model=random_model(nx=16, ny=9))
    assert make_diffsrda(setup(), DiffSRDAConfig(members=4), model=model).members == 4


def test_weights_for_another_prior_are_refused(model):
    with pytest.raises(
        ValueError, match="prior: these weights were trained for dual, enkf-sr, got lr; give weights for"
    ):
        make_diffsrda(setup(), DiffSRDAConfig(prior="lr", members=4), model=model)


def test_the_configuration_names_the_weights(saved, tmp_path):
    config = DiffSRDAConfig(members=4, weights=str(saved))
    assert make_assimilator("diffsrda", setup(), config).members == 4
    with pytest.raises(ValueError, match="weights: no file"):
        make_assimilator("diffsrda", setup(), DiffSRDAConfig(weights=str(tmp_path / "b.npz")))


@pytest.mark.parametrize("sampler, members", [("dpmpp-2m", 3), ("mean", 1)])
def test_windows_have_the_members_that_the_method_names(model, sampler, members):
    config = DiffSRDAConfig(members=3, sampler=sampler, restart="open", prior="enkf-sr")
    method = make_diffsrda(setup(), config, model=model)
    assert method.members == members
    one = jax.tree.map(lambda a: a[0], observed())

    def window(key):
        return method.step(key, method.init(key), one)[1].omega

    assert jax.eval_shape(window, jax.random.key(0)).shape == (members, 4, 32, 17)


@pytest.mark.parametrize("layout", ["lattice:4+dropout:1", "lattice:1"])
def test_no_sensors_and_more_than_grid_points_of_training(model, layout):
    """Two times without any sensor, and with one at every inner grid point: the analysis stays finite."""
    method = make_diffsrda(setup(), DiffSRDAConfig(members=3, prior="enkf-sr"), model=model)
    seen = observed(layout=layout)
    assert seen.mask.any() == (layout == "lattice:1")

    @quick_jit
    def run(key):
        state = method.init(key)
        for time in range(2):
            state, window = method.step(key, state, jax.tree.map(lambda a, t=time: a[t], seen))
        return window

    window = run(jax.random.key(0))
    assert window.diagnostics.finite and window.omega.shape == (3, 4, 32, 17)


def test_configurations_of_other_methods_are_refused():
    with pytest.raises(TypeError, match="diffsrda: expected a DiffSRDAConfig as config, got FilterConfig"):
        make_assimilator("diffsrda", setup(), FilterConfig())
    with pytest.raises(TypeError, match="enkf-sr: expected a FilterConfig as config, got DiffSRDAConfig"):
        make_assimilator("enkf-sr", setup(), DiffSRDAConfig())
