"""Diffusion in a latent: windows there and back, units, what is drawn and learned, files, and guidance through it."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID, TESTBED, observed, quick_jit, setup, training_programs, truth

from jaxsrda.core.records import described
from jaxsrda.core.trees import flatten
from jaxsrda.cycling.cycle import run_cycles
from jaxsrda.cycling.sweep import sweep
from jaxsrda.diffsrda import latent as latents
from jaxsrda.diffsrda import model as models
from jaxsrda.diffsrda.condition import Conditioning, krige
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.latent import LatentSpace, decode_frames, encode_frames, encoder_gain, units
from jaxsrda.diffsrda.model import Model, ModelConfig, encode
from jaxsrda.diffsrda.sampling import make_draw, placement
from jaxsrda.diffsrda.weights import load_model, model_hash, save_model
from jaxsrda.diffusion.guidance import GUIDES, SDA, Blend, Lifted
from jaxsrda.experiment.registry import make_assimilator, make_diffsrda
from jaxsrda.networks.autoencoder import PRESETS, AutoencoderConfig, functions
from jaxsrda.networks.layers import to_patches
from jaxsrda.observing.observations import join
from jaxsrda.observing.operators import vorticity
from jaxsrda.observing.sensors import Sensors
from jaxsrda.training import job as trains
from jaxsrda.training.fit import fit
from jaxsrda.training.loss import TrainConfig, latent_target, window_loss
from jaxsrda.training.stream import StreamConfig
from jaxsrda.training.stream_run import Origin
from jaxsrda.training.windows import Windows

NX, NY = GRID.shape
UNITS = Conditioning.of(TESTBED)
FRAMES, CHANNELS, FIELD_SCALE = UNITS.frames, UNITS.channels, UNITS.field_scale
STEPWISE = [name for name in GUIDES if name != "projected"]
"""Guides that correct the estimate at each step."""
SETS = (Sensors("lattice:4"), Sensors("lattice:4", role="guiding"))
"""Sensors that condition, and as many that guide."""
SCALE = np.array([0.5, 1.0, 1.5, 2.0, 2.5], np.float32)
KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def small(monkeypatch, smallest):
    monkeypatch.setitem(PRESETS, "vq", AutoencoderConfig(hidden=16, blocks=1, codes=50))
    monkeypatch.setitem(PRESETS, "kl", AutoencoderConfig(channels=3, hidden=16, blocks=1))


def normal(*shape, dtype="float32", seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def loud(shapes, seed=1):
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])) for leaf in leaves]
    return jax.tree.unflatten(tree, [jnp.asarray(a, jnp.float32) for a in arrays])


@functools.cache
def space(preset):
    config = PRESETS[preset]
    params = loud(jax.eval_shape(lambda: functions(config).initial(0)))
    return LatentSpace(params, normal(config.codes, config.channels, seed=4), jnp.arange(1, config.channels + 1.0, 1))


def space_of(preset):
    """float32, whatever x64 says."""
    return jax.tree.map(lambda a: a.astype(jnp.float32), space(preset))


@functools.cache
def small_model(preset="kl", target="residual"):
    kind = ModelConfig("tiny", ("dual", "lr"), NX, NY, target=target, latent=preset)
    params = loud(jax.eval_shape(lambda: models.network(kind).initial(0)))
    return Model(kind, params, SCALE, space_of(preset))


def windows(count=2, seed=0, dtype=np.float16):
    rng = np.random.default_rng(seed)
    inside = (np.arange(NY) % (NY - 1) > 0)[:, None]
    condition, correction = (rng.normal(size=(count, NX, NY, n)) * inside for n in (CHANNELS, FRAMES))
    return Windows(condition.astype(dtype), correction.astype(dtype))


def seen_twice():
    """Observations of one time in float32, alone and joined by as many that guide; conditions to guide around."""
    seen = jax.tree.map(lambda a: a[0].astype(jnp.float32) if a.dtype == float else a[0], observed())
    return seen, join(seen, seen), jnp.asarray(windows(1).condition, "float32") / 3


def configuration(**changes):
    return DiffSRDAConfig(**{"members": 3, "steps": 2, "restart": "mean", "centred": False} | changes)


# The space ------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["vq", "kl"])
def test_windows_are_their_frames_one_by_one(preset, dtype):
    omega = jnp.asarray(windows().correction, dtype)
    config, functions_ = PRESETS[preset], functions(PRESETS[preset])
    z = encode_frames(preset, space_of(preset), omega)
    assert z.shape == (2, NX // 4, (NY - 1) // 4 + 1, FRAMES * config.channels) and z.dtype == dtype
    back = decode_frames(preset, space_of(preset), z)
    assert back.shape == omega.shape and back.dtype == dtype
    for window in range(2):
        for frame in range(FRAMES):
            own = functions_.encode(space(preset).params, omega[window : window + 1, ..., frame]).mean
            part = slice(frame * config.channels, (frame + 1) * config.channels)
            np.testing.assert_allclose(z[window, ..., part], own[0], rtol=2e-4, atol=2e-5)
            if config.codes:
                apart = jnp.abs(own - space(preset).codes[:, 0].astype(dtype))
                own = space(preset).codes[apart.argmin(-1), 0].astype(dtype)[..., None]
            expected = functions_.decode(space(preset).params, own)[0]
            np.testing.assert_allclose(back[window, ..., frame], expected, rtol=2e-3, atol=2e-3)


def test_units_are_the_size_of_each_node_times_the_gain():
    size = jnp.abs(normal(2, NX, NY, FRAMES)) + 0.1
    unit = units("kl", space_of("kl"), size).reshape(2, NX // 4, -1, FRAMES, 3)
    inner = np.asarray(size)[0, 4 * 3 - 2 : 4 * 3 + 2, 4 * 2 - 2 : 4 * 2 + 2, 1]
    np.testing.assert_allclose(unit[0, 3, 2, 1], np.sqrt((inner**2).mean()) * np.arange(1, 4), rtol=1e-5)
    mirrored = np.asarray(to_patches(jnp.asarray(size).at[:, :, jnp.array([0, -1])].set(0)[..., 1:2], 4))[0, 1, 0]
    np.testing.assert_allclose(unit[0, 1, 0, 1, 0], np.sqrt((mirrored**2).mean()), rtol=1e-5)
    assert (unit > 0).all()


def test_the_gain_is_what_the_encoder_makes_of_a_difference(monkeypatch):
    guess, wanted = (jnp.asarray(windows(seed=s).correction, "float32") for s in (1, 2))
    apart = encode_frames("kl", space_of("kl"), wanted) - encode_frames("kl", space_of("kl"), guess)
    apart = np.abs(apart).reshape(-1, 3).mean(0) / np.abs(wanted - guess).mean()
    np.testing.assert_allclose(encoder_gain("kl", space_of("kl"), guess, wanted), apart, rtol=1e-5)
    monkeypatch.setattr(latents, "encode_frames", lambda preset, space, omega: 2.5 * omega[:, ::4, ::4, :3])
    uniform = jnp.full_like(guess, 0.5)
    np.testing.assert_allclose(encoder_gain("kl", space_of("kl"), guess, guess + uniform), 2.5, rtol=1e-5)


# The model ------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset, target", [("kl", "residual"), ("vq", "direct")])
def test_a_draw_has_its_shape_type_and_still_walls(preset, target, dtype):
    draw = quick_jit(make_draw(small_model(preset, target), configuration()))
    conditions = jnp.asarray(windows(1).condition, dtype)
    corrections = draw(KEY, conditions)
    assert corrections.shape == (3, FRAMES, NX, NY) and corrections.dtype == dtype
    guess = FIELD_SCALE * jnp.moveaxis(conditions[..., :FRAMES], -1, 1)
    assert np.isfinite(corrections).all() and not np.any((corrections + guess)[..., [0, -1]])
    assert np.abs(corrections[0] - corrections[1]).max() > 1e-3


def test_what_is_learned_is_what_is_placed():
    """A network that draws exactly what training asks of it gives the truth, as well as the decoder can."""
    for preset, target in [("kl", "residual"), ("kl", "direct")]:
        model, data = small_model(preset, target), jax.tree.map(lambda a: jnp.asarray(a, "float32"), windows(2))
        features = models.network(model.config).encode(model.params, data.condition)
        clean = latent_target(model.config, model.space, jnp.asarray(SCALE), data, features)
        assert clean.shape == (2, *model.config.drawn)
        inside = jnp.asarray((np.arange(NY) % (NY - 1) > 0)[:, None] * SCALE, jnp.float32)
        placed = placement(model, data.condition, features, inside)(clean)
        truth = FIELD_SCALE * data.condition[..., :FRAMES] + data.correction
        z = encode_frames(preset, model.space, truth)
        expected = decode_frames(preset, model.space, z) - FIELD_SCALE * data.condition[..., :FRAMES]
        np.testing.assert_allclose(placed, expected, rtol=0, atol=2e-3 * float(jnp.abs(expected).max()))


def test_centred_samples_lie_around_the_conditioners_mean():
    """All are moved by what the autoencoder loses of that mean, and by nothing else."""
    conditions = jnp.asarray(windows(1).condition, "float32")
    free, centred = (
        quick_jit(make_draw(small_model(), configuration(centred=each)).corrections)(KEY, conditions)
        for each in (False, True)
    )
    mean = encode(small_model(), conditions).mean[0] * SCALE
    inner = np.moveaxis(np.asarray(mean), -1, 0)[..., 1:-1]
    np.testing.assert_allclose(centred.mean[..., 1:-1], inner, atol=1e-4 * np.abs(inner).max())
    moved = np.asarray(centred.samples - free.samples)
    np.testing.assert_allclose(moved, np.broadcast_to(moved[:1], moved.shape), atol=1e-4 * np.abs(inner).max())
    model = small_model()
    features = encode(model, conditions)
    scale = models.still_walls(jnp.asarray(SCALE, jnp.float32), NY)
    lost = placement(model, conditions, features, scale)(jnp.zeros((1, *model.config.drawn), jnp.float32))[0]
    np.testing.assert_allclose(
        moved[0][..., 1:-1], inner - np.moveaxis(np.asarray(lost), -1, 0)[..., 1:-1], atol=1e-4 * np.abs(inner).max()
    )
    assert np.abs(moved).max() > 1e-3


def test_each_member_hears_its_own_condition():
    conditions = jnp.asarray(windows(3).condition, "float32")
    draw = quick_jit(make_draw(small_model(), configuration()))
    together = draw(KEY, conditions)
    changed = draw(KEY, conditions.at[1].multiply(0.5))
    moved = np.abs(together - changed).max((1, 2, 3))
    assert moved[1] > 1e-2 and moved[0] == moved[2] == 0


def test_the_loss_trains_the_denoiser_alone_through_the_latent():
    model, data = small_model(), jax.tree.map(jnp.asarray, windows(2))
    config = TrainConfig(samples=4, batch=2, regression=0.0)

    def loss(space, params):
        return window_loss(model.config, config, jnp.asarray(SCALE), params, KEY, data, True, space)[0]

    to_space, to_params = quick_jit(jax.grad(loss, (0, 1), allow_int=True))(model.space, model.params)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(to_space))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(to_params))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(to_params))


# Guidance -------------------------------------------------------------------------------------


def analyses(guidance, preset="kl", **changes):
    """Frames at t of the draws, and the sensors."""
    seen, _, conditions = seen_twice()
    config = configuration(guidance=guidance, guide_on="all", members=2, steps=8, **changes)
    corrections = quick_jit(make_draw(small_model(preset), config))(KEY, conditions, seen)
    return FIELD_SCALE * conditions[0, ..., 0] + corrections[:, 0], seen


@pytest.mark.parametrize("guidance", ["lifted", "mmps", "projected"])
def test_guided_members_fit_the_observations_better(guidance):
    def misfit(omega, seen):
        at = jax.vmap(lambda field: vorticity(GRID, field, seen.positions))(omega)
        return np.sqrt(np.mean((np.asarray(at - seen.values)[:, seen.mask]) ** 2))

    assert misfit(*analyses(guidance)) < 0.7 * misfit(*analyses("none"))


def grid_model():
    kind = ModelConfig("tiny", nx=NX, ny=NY)
    return Model(kind, loud(jax.eval_shape(lambda: models.network(kind).initial(0))), SCALE)


@pytest.mark.parametrize("latent", [False, True], ids=["grid", "latent"])
@pytest.mark.parametrize("name", STEPWISE)
def test_new_sensors_guide_on_the_grid_and_in_a_latent(name, latent):
    """By every method, with another operator than the others'; without new sensors nothing changes, bitwise.

    Where new sensors are silent at a time, samples and analysis are as without; bitwise without gradients.
    """
    seen, joined, conditions = seen_twice()
    model = small_model() if latent else grid_model()
    plain, config = (configuration(guidance=guidance, centred=True) for guidance in ("none", name))
    other = (SETS[0], dataclasses.replace(SETS[1], operator="speed"))
    draw = quick_jit(make_draw(model, config, other))
    drawn = draw(KEY, conditions, joined)
    alone = drawn_alone(latent)
    assert np.isfinite(drawn).all() and np.abs(drawn - alone).max() > 1e-5
    programs = [
        quick_jit(make_draw(model, each, SETS[:1])).lower(KEY, conditions, seen).as_text() for each in (plain, config)
    ]
    assert programs[1] == programs[0]
    silent = joined._replace(mask=joined.mask & (joined.sets == 0))
    assert silent.mask.any() and not silent.mask.all()
    exact = name in ("blend", "lifted", "diffpir", "oi") and not latent
    np.testing.assert_allclose(draw(KEY, conditions, silent), alone, atol=0 if exact else 1e-4, rtol=0)
    assert draw._cache_size() == 1
    if name == "oi" and not latent:
        both = quick_jit(make_draw(model, config, other).corrections)
        mean = make_draw(model, dataclasses.replace(plain, sampler="mean"))(KEY, conditions)[0]
        np.testing.assert_allclose(both(KEY, conditions, silent).mean, mean, atol=1e-4)
        assert np.abs(both(KEY, conditions, joined).mean - mean).max() > 1e-4


@functools.cache
def drawn_alone(latent):
    """Centred samples without guidance."""
    model = small_model() if latent else grid_model()
    return quick_jit(make_draw(model, configuration(centred=True)))(KEY, seen_twice()[2])


def test_blend_may_be_hard_and_narrow_in_the_last_steps():
    """With no blur and the last steps hard, members return what precise sensors of their own points see."""
    seen, joined, conditions = seen_twice()
    model = grid_model()

    def misfit(**options):
        config = configuration(members=2, steps=4, guidance=Blend(**options))
        drawn = quick_jit(make_draw(model, config, SETS))(KEY, conditions, joined)
        first = conditions[..., 0] * FIELD_SCALE + drawn[:, 0]
        measured = jax.vmap(lambda omega: vorticity(GRID, omega, seen.positions))(first)
        return float(jnp.abs(jnp.where(seen.mask, measured - seen.values, 0)).max())

    assert misfit(blur=(4.0, 0.1), hard_steps=1) < 1e-4 < 0.1 * misfit(blur=(4.0, 0.1), strength=1e-4)


def test_the_analysis_of_guided_samples_is_the_path_without_noise():
    """Many samples average to about it; they themselves are the same whether it is wanted or not."""
    _, joined, conditions = seen_twice()
    centred, free = (
        quick_jit(make_draw(grid_model(), configuration(members=64, guidance="blend", centred=each), SETS).corrections)(
            KEY, conditions, joined
        )
        for each in (True, False)
    )
    np.testing.assert_array_equal(centred.samples, free.samples)
    assert free.mean is None
    error = free.samples.std(0, ddof=1) / 8
    off = np.abs(free.samples.mean(0) - centred.mean)[..., 1:-1]
    assert np.mean(off < 3 * error[..., 1:-1] + 1e-3) > 0.9
    unguided = make_draw(grid_model(), configuration(sampler="mean"))(KEY, conditions)[0]
    assert np.abs(centred.mean - unguided).max() > 10 * off.mean()


def test_the_analysis_of_projected_samples_is_projected_too():
    """Frames after t have the conditioner's mean; frame t has it too but for the kriged misfit of that mean."""
    seen, joined, conditions = seen_twice()
    told = {"members": 3, "centred": True}
    mean = quick_jit(make_draw(grid_model(), configuration(sampler="mean")))(KEY, conditions)[0]
    plain, projected = (
        quick_jit(make_draw(grid_model(), configuration(guidance=name, **told), SETS).corrections)(
            KEY, conditions, joined
        )
        for name in ("none", "projected")
    )
    np.testing.assert_allclose(projected.samples[:, 1:], plain.samples[:, 1:], atol=1e-6)
    np.testing.assert_allclose(projected.mean[1:], mean[1:], atol=1e-4)
    first = conditions[0, ..., 0] * FIELD_SCALE + mean[0]
    moved = krige(GRID, seen.values - vorticity(GRID, first, seen.positions), seen, UNITS)[0]
    assert abs(moved).max() > 0.1
    np.testing.assert_allclose((projected.mean - plain.mean)[0, :, 1:-1], moved[:, 1:-1], atol=1e-4)
    own = conditions[0, ..., 0] * FIELD_SCALE + plain.samples[1, 0]
    moved = krige(GRID, seen.values - vorticity(GRID, own, seen.positions), seen, UNITS)[0]
    np.testing.assert_allclose((projected.samples - plain.samples)[1, 0, :, 1:-1], moved[:, 1:-1], atol=1e-4)


def test_silent_guides_leave_projected_samples_as_they_are():
    _, joined, conditions = seen_twice()
    silent = joined._replace(mask=joined.mask & (joined.sets == 0))
    draw = quick_jit(make_draw(grid_model(), configuration(guidance="projected", centred=True), SETS))
    np.testing.assert_allclose(draw(KEY, conditions, silent), drawn_alone(False), atol=1e-4, rtol=0)
    assert np.abs(draw(KEY, conditions, joined) - drawn_alone(False)).max() > 0.1


def test_a_method_of_ones_own_guides():
    """A function of what guides are given, with the readings and what is known of the samples."""
    _, joined, conditions = seen_twice()
    given = []

    def own(denoise, observe, readings, samples):
        given.append((readings, samples))
        return Lifted(2.0)(denoise, observe, readings, samples)

    def drawn(guidance):
        return quick_jit(make_draw(grid_model(), configuration(members=2, guidance=guidance), SETS))(
            KEY, conditions, joined
        )

    np.testing.assert_array_equal(drawn(own), drawn(Lifted(2.0, iterations=3)))
    assert np.abs(drawn(Lifted(2.0, iterations=1)) - drawn(own)).max() > 1e-4
    assert described(configuration(guidance=own))["guidance"] == "own"
    readings, samples = given[0]
    assert [a.shape for a in readings] == [joined.mask.shape] * 3
    assert samples.std == grid_model().config.sigma_data and samples.covariance is None
    assert len(samples.sigmas) == 3 and samples.sigmas[-1] == 0 and callable(samples.smooth)
    # Unlike a function a guide is described by its options too.
    assert described(configuration(guidance=Lifted(2.0)))["guidance"] == {
        "kind": "Lifted",
        "strength": 2.0,
        "iterations": 3,
    }


def test_a_strength_is_replaced_in_a_traced_function():
    """One program for all strengths, each the draw of a guide with that number."""
    _, joined, conditions = seen_twice()
    config = configuration(members=2, guidance=SDA(1.0))

    @quick_jit
    def draw(strength):
        guide = dataclasses.replace(config.guidance, strength=strength)
        return make_draw(grid_model(), dataclasses.replace(config, guidance=guide), SETS)(KEY, conditions, joined)

    weak, strong = draw(jnp.float32(10.0)), draw(jnp.float32(0.1))
    assert draw._cache_size() == 1 and np.abs(weak - strong).max() > 1e-3
    plain = quick_jit(make_draw(grid_model(), configuration(members=2, guidance=SDA(10.0)), SETS))
    np.testing.assert_allclose(weak, plain(KEY, conditions, joined), atol=1e-4)


def test_guidance_works_in_the_cycle():
    config = configuration(prior="lr", guidance="lifted", guide_on="all")
    method = make_diffsrda(setup("float32"), config, model=small_model())
    one = jax.tree.map(lambda a: a[0], observed(dtype="float32"))
    with jax.numpy_dtype_promotion("standard"):
        window = quick_jit(lambda key: method.step(key, method.init(key), one)[1])(KEY)
    assert window.omega.shape == (3, 4, NX, NY) and window.diagnostics.finite


@pytest.mark.slow
def test_strengths_are_swept_in_one_program():
    """Each member of a sweep is the run at its own strength."""
    # What an untrained model draws is too rough to go on from.
    config = configuration(prior="lr", restart="open", members=2, guidance=SDA(), guide_on="all")
    given, key, model = setup("float32"), jax.random.key(0), small_model()
    seen, fields = observed(2, "float32"), truth(2, "float32")

    class Strength(NamedTuple):
        strength: jax.Array

    def make(setting):
        guide = dataclasses.replace(config.guidance, strength=setting.strength)
        return make_diffsrda(given, dataclasses.replace(config, guidance=guide), model=model)

    one = (jax.tree.map(lambda a: a[None], seen), fields[None])
    with jax.numpy_dtype_promotion("standard"):
        scores = sweep(make, Strength(jnp.asarray([0.1, 10.0], jnp.float32)), key, *one, testbed=TESTBED)
        alone = make_diffsrda(given, dataclasses.replace(config, guidance=SDA(10.0)), model=model)
        _, history = quick_jit(lambda key: run_cycles(alone, key, seen, fields, testbed=TESTBED))(key)
    assert scores["maer"].shape == (2, 1) and np.isfinite(scores["maer"]).all()
    assert abs(scores["maer"][0, 0] / scores["maer"][1, 0] - 1) > 1e-3
    np.testing.assert_allclose(scores["maer"][1, 0], history.scores["maer"][1:].mean(), rtol=1e-4)


def test_the_method_is_for_latent_weights():
    assert make_assimilator("latent-diffsrda", setup("float32"), configuration(), model=small_model()).members == 3
    plain = Model(ModelConfig("tiny", nx=NX, ny=NY), None, SCALE)
    with pytest.raises(ValueError, match="latent-diffsrda: these weights draw on the grid"):
        make_assimilator("latent-diffsrda", setup("float32"), configuration(), model=plain)


def test_projection_is_of_vorticity():
    speeds = (SETS[0], Sensors("lattice:4", "speed", role="guiding"))
    with pytest.raises(ValueError, match="guidance: projected kriges misfits of vorticity"):
        make_draw(small_model(), configuration(guidance="projected"), speeds)
    mixed = (Sensors("lattice:4", "speed"), SETS[1])
    make_draw(small_model(), configuration(guidance="projected"), mixed)
    with pytest.raises(ValueError, match="guidance: projected kriges misfits of vorticity"):
        make_draw(small_model(), configuration(guidance="projected", guide_on="all"), mixed)


def test_guidance_needs_observations_and_samples():
    draw = make_draw(small_model(), configuration(guidance="lifted"))
    with pytest.raises(ValueError, match="guidance: it needs observations, got none; pass them to draw"):
        draw(KEY, jnp.asarray(windows(1).condition, "float32"))
    with pytest.raises(ValueError, match="guidance: sampler mean draws nothing that could be guided"):
        configuration(guidance="lifted", sampler="mean")


# Files and training ---------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["vq", "kl"])
def test_a_latent_model_comes_back_as_it_was_saved(tmp_path, preset):
    model = small_model(preset)
    save_model(tmp_path / "a.npz", model, {"samples": 5})
    back, header = load_model(tmp_path / "a.npz")
    assert back.config == model.config and header["samples"] == 5
    for one, other in ((back.params, model.params), (back.space.params, model.space.params)):
        for name, leaf in flatten(one).items():
            np.testing.assert_allclose(leaf, flatten(other)[name], rtol=1e-3, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(back.space.codes, model.space.codes)
    np.testing.assert_array_equal(back.space.gain, model.space.gain)
    louder = dataclasses.replace(model, space=model.space._replace(gain=2 * model.space.gain))
    assert model_hash(model) != model_hash(louder)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda a: a.pop("gain"),
            r"expected codes \(0, 3\) and gain \(3,\) of autoencoder 'kl', got \(0, 3\) and \(0,\)",
        ),
        (lambda a: a.pop("autoencoder.head.bias"), "other sizes than autoencoder 'kl' has: head.bias absent"),
    ],
)
def test_files_without_their_autoencoder_are_refused(tmp_path, change, message):
    from test_weights import rewrite

    from jaxsrda.diffsrda.weights import stored_digest

    save_model(tmp_path / "a.npz", small_model(), {})

    def both(arrays, header):
        change(arrays)
        header["sha256"] = stored_digest({n: a for n, a in arrays.items() if n != "scale"}, arrays["scale"])

    rewrite(tmp_path / "a.npz", both)
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path / "a.npz")


def test_a_denoiser_is_trained_in_the_space_of_an_autoencoder(tmp_path, monkeypatch):
    """`train` with init of a model on the grid: its conditioner stays, the denoiser is new and learns the latent."""
    kind = ModelConfig("tiny", nx=NX, ny=NY)
    plain = Model(kind, loud(jax.eval_shape(lambda: models.network(kind).initial(0))), SCALE)
    save_model(tmp_path / "plain.npz", plain, {})
    data = windows(6)
    monkeypatch.setattr(trains, "truths_of", lambda *_: jnp.zeros((16, 2, 3, 3)))
    monkeypatch.setattr(trains, "first_windows", lambda *_: data)
    monkeypatch.setattr(trains, "programs", lambda model, config, *_: training_programs(model, config, data)[0])
    monkeypatch.setattr(trains, "trained_space", lambda *_: (space_of("kl"), {"preset": "kl"}))
    monkeypatch.setattr(trains, "default_climatology", lambda testbed: setup("float32").climatology)
    job = trains.Job(
        (trains.DataConfig(runs=16, layout="lattice:4", extra_layouts=(), testbed=TESTBED),),
        dataclasses.replace(kind, latent="kl"),
        TrainConfig(samples=8, batch=2, part="denoiser"),
        init=str(tmp_path / "plain.npz"),
        cycling=0,
    )
    with jax.numpy_dtype_promotion("standard"):
        fitted, record = trains.train(job, tmp_path / "a.npz")
    assert record["autoencoder"] == {"preset": "kl"} and fitted.model.space is not None
    back, _ = load_model(tmp_path / "a.npz")
    kept, before = flatten(back.params), flatten(load_model(tmp_path / "plain.npz")[0].params)
    same = {name for name in kept if kept[name].shape == before[name].shape and (kept[name] == before[name]).all()}
    assert {name.split(".")[0] for name in same} >= {"stem", "conditioner", "mean_head", "handover"}
    assert kept["head.kernel"].shape[-1] == FRAMES * 3 and not any(n.startswith("head") for n in same)
    guess = FIELD_SCALE * jnp.asarray(data.condition[..., :FRAMES], "float32")
    gain = encoder_gain("kl", space_of("kl"), guess, guess + jnp.asarray(data.correction, "float32"))
    np.testing.assert_allclose(back.space.gain, gain, rtol=1e-4)


def test_a_latent_model_and_no_other_has_an_autoencoder():
    for latent, given in (("kl", None), ("", space_of("kl"))):
        kind = ModelConfig("tiny", nx=NX, ny=NY, latent=latent)
        with pytest.raises(ValueError, match="latent: a model that draws in a latent needs its autoencoder"):
            fit(kind, TrainConfig(samples=2, batch=2), StreamConfig(), None, None, Origin(space=given))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"latent": "jpeg"}, "latent: expected one of vq, vq-ema, kl; got 'jpeg'"),
        ({"latent": "kl", "target": "regression"}, "latent: expected a network of tiny, small, base with target"),
        ({"latent": "kl", "distilled": 1}, "latent: expected a network of .* that is no student"),
        (
            {"latent": "kl", "network": "paper", "target": "direct"},
            "latent: expected a network of .* got paper, direct",
        ),
    ],
)
def test_bad_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{"network": "tiny"} | changes)
