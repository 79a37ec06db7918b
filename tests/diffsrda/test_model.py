"""The model as a pure object: what it draws, and that its denoiser undoes what training asks of the network."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import GRID, TESTBED, observed, quick_jit, setup

from jaxsrda.cycling.assimilator import Setup
from jaxsrda.cycling.cycle import run_cycles
from jaxsrda.diffsrda import model as models
from jaxsrda.diffsrda.condition import Conditioning, mirror
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.model import Model, ModelConfig, conditional_denoiser, denoiser_part, encode, with_denoiser
from jaxsrda.diffsrda.sampling import make_draw, mean_draw
from jaxsrda.diffusion.denoiser import PARAMETRIZATIONS, preconditioning, training_target
from jaxsrda.diffusion.guidance import Blend
from jaxsrda.experiment.registry import make_diffsrda
from jaxsrda.flow import climatology
from jaxsrda.flow.testbed import Level, jet
from jaxsrda.networks import NETWORKS, NetworkKind, register_network
from jaxsrda.networks.unet import DENOISER, Features
from jaxsrda.observing.observations import join, observe_run
from jaxsrda.observing.sensors import Sensors, predict

NX, NY = 16, 9
UNITS, PAPER = Conditioning(), Conditioning.of(TESTBED, "paper")
FRAMES, CHANNELS, SIGNS = UNITS.frames, UNITS.channels, UNITS.signs
SHAPE = (NX, NY, FRAMES)
SCALE = np.array([0.5, 1.0, 1.5, 2.0, 2.5], np.float32)
LOCAL = 0.75
"""The scale of a fake conditioner."""
KEY = jax.random.key(0)


pytestmark = pytest.mark.usefixtures("smallest")


def normal(*shape, dtype="float32", seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


@functools.cache
def parameters(kind=None):
    """Random weights, biases and heads as loud as all else."""
    kind = ModelConfig("tiny") if kind is None else kind
    leaves, tree = jax.tree.flatten(jax.eval_shape(lambda: models.network(kind).initial(0)))
    rng = np.random.default_rng(1)
    loud = [rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])) for leaf in leaves]
    return jax.tree.unflatten(tree, [jnp.asarray(a, jnp.float32) for a in loud])


def small_model(target="residual", **changes):
    return Model(ModelConfig("tiny", nx=NX, ny=NY, target=target, **changes), parameters(), SCALE)


@functools.cache
def compiled(config):
    return quick_jit(make_draw(small_model(), config))


def configuration(**changes):
    return DiffSRDAConfig(**{"members": 3, "steps": 2, "restart": "mean", "centred": False} | changes)


def drawn(conditions, key=KEY, **changes):
    return compiled(configuration(**changes))(key, conditions)


def close(got, expected, tolerance=1e-5):
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * float(np.abs(expected).max()))


# What is drawn --------------------------------------------------------------------------------


def test_a_draw_has_its_shape_type_and_still_walls(dtype):
    corrections = drawn(normal(1, NX, NY, CHANNELS, dtype=dtype))
    assert corrections.shape == (3, FRAMES, NX, NY) and corrections.dtype == dtype
    assert np.isfinite(corrections).all()
    assert not np.any(corrections[..., [0, -1]]) and np.all(corrections[..., 1:-1] != 0)


def test_a_key_is_a_draw():
    conditions = normal(1, NX, NY, CHANNELS)
    one, same, other = drawn(conditions), drawn(conditions), drawn(conditions, key=jax.random.key(1))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.1
    assert np.abs(one[0] - one[1]).max() > 0.1


@pytest.mark.parametrize("members, chunk", [(3, 2), (5, 1)])
def test_a_member_is_the_same_whatever_the_chunk(members, chunk):
    conditions = normal(1, NX, NY, CHANNELS)
    close(drawn(conditions, members=members, chunk=chunk)[:3], drawn(conditions))


def test_one_condition_for_all_is_the_same_for_each():
    conditions = normal(1, NX, NY, CHANNELS)
    close(drawn(jnp.repeat(conditions, 3, axis=0)), drawn(conditions))


def test_each_member_hears_its_own_condition():
    conditions = normal(3, NX, NY, CHANNELS)
    together = drawn(conditions)
    for i in range(3):
        close(together[i], drawn(conditions[i : i + 1])[i])
    assert np.abs(drawn(conditions[:1])[1] - together[1]).max() > 0.1


def test_the_sampler_mean_draws_nothing():
    """One field whatever the key, in every member."""
    conditions = normal(1, NX, NY, CHANNELS)
    one, other = (drawn(conditions, sampler="mean", key=jax.random.key(seed)) for seed in (0, 1))
    close(other, one)
    close(one, np.asarray(one)[[0, 0, 0]])


def test_eta_is_traced():
    conditions = normal(1, NX, NY, CHANNELS)

    @quick_jit
    def draw(eta):
        return make_draw(small_model(), configuration(members=2, sampler="ddim"), eta=eta)(KEY, conditions)

    still, lively = draw(0.0), draw(1.0)
    assert draw._cache_size() == 1
    assert np.abs(still - lively).max() > 0.1
    close(still, drawn(conditions, members=2, sampler="ddim", eta=0.0))
    close(lively, drawn(conditions, members=2, sampler="ddim"))


@pytest.mark.parametrize("sigmas", ["log", "vp"])
def test_noise_grids_draw(sigmas):
    conditions = normal(1, NX, NY, CHANNELS)
    other, usual = drawn(conditions, sigmas=sigmas, steps=3), drawn(conditions, steps=3)
    assert np.isfinite(other).all() and np.abs(other - usual).max() > 1e-3


def test_the_mean_keeps_the_reflection():
    """The condition of −ω(x, π − y) gives the mirrored mean with the other sign, whatever the weights."""
    conditions = normal(1, NX, NY, CHANNELS)
    mean = drawn(conditions, sampler="mean")
    mirrored = drawn(jnp.asarray(SIGNS, jnp.float32) * conditions[:, :, ::-1], sampler="mean")
    assert np.abs(mean + mean[..., ::-1]).max() > 0.1
    close(mirrored, -mean[..., ::-1])


def test_the_regression_is_the_mean_of_the_conditioner_scaled_and_symmetric(dtype):
    model, conditions = small_model(), normal(2, NX, NY, CHANNELS, dtype=dtype)
    made = make_draw(model, DiffSRDAConfig(prior="lr", restart="mean", sampler="mean", members=2))
    draw = quick_jit(made)
    got = draw(KEY, conditions)
    signs = np.array(SIGNS, dtype)
    means = [
        quick_jit(model.network.encode)(model.params, given).mean
        for given in (conditions, signs * conditions[:, :, ::-1])
    ]
    mean = (np.array(means[0]) - np.array(means[1])[:, :, ::-1]) / 2
    mean[:, :, [0, -1]] = 0
    assert got.shape == (2, FRAMES, NX, NY) and got.dtype == dtype
    close(got, np.moveaxis(mean * SCALE, -1, 1), 1e-6)
    np.testing.assert_array_equal(got, draw(jax.random.key(1), conditions))
    alone = mean_draw(model, 2)
    np.testing.assert_array_equal(got, quick_jit(alone)(KEY, conditions))
    assert (made.members, made.conditioning) == (alone.members, alone.conditioning) == (2, UNITS)


def test_the_mean_of_a_direct_model_is_its_sample_of_one_step():
    """It has no conditioner: D from pure noise, at the highest level."""
    model, conditions = small_model("direct"), normal(1, NX, NY, CHANNELS)
    got = quick_jit(mean_draw(model, 2))(KEY, conditions)
    one_step = quick_jit(make_draw(model, configuration(members=2, steps=1)))(KEY, conditions)
    assert got.shape == (2, FRAMES, NX, NY) and np.abs(got).max() > 0.1
    close(got, one_step)


def test_the_mean_has_as_many_members_as_asked():
    model, conditions = small_model(), normal(1, NX, NY, CHANNELS)
    one, three = (quick_jit(mean_draw(model, count))(KEY, conditions) for count in (1, 3))
    assert one.shape[0] == 1
    np.testing.assert_array_equal(three, np.asarray(one)[[0, 0, 0]])
    with pytest.raises(ValueError, match=rf"conditions: expected .*any, {NX}, {NY}, {CHANNELS}\)"):
        mean_draw(model)(KEY, conditions[..., 1:])


# The denoiser against what training asks ---------------------------------------------------------


def fake(monkeypatch, denoise, mean):
    """A network whose denoiser is a function of (noisy, level) and whose conditioner always says `mean`."""

    def encode(params, condition):
        wide = jnp.broadcast_to(mean, (len(condition), *SHAPE)).astype(condition.dtype)
        return Features(wide, jnp.full_like(wide, LOCAL), (condition[..., :1],))

    built = models.Network(encode, lambda params, noisy, level, features: denoise(noisy, level), None)
    monkeypatch.setattr(models, "network", lambda name: built)


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
@pytest.mark.parametrize("sigma", [0.05, 3.0])
def test_a_network_on_target_denoises_exactly(monkeypatch, parametrization, sigma):
    x0, noise, sigma = normal(*SHAPE, dtype="float64"), normal(*SHAPE, dtype="float64", seed=1), jnp.float64(sigma)
    model = Model(ModelConfig("tiny", nx=NX, ny=NY, parametrization=parametrization, sigma_data=0.7), None, SCALE)
    asked = []

    def on_target(noisy, level):
        asked.append((noisy, level))
        return training_target(parametrization, x0, noise, sigma, 0.7)[None]

    fake(monkeypatch, on_target, jnp.zeros(SHAPE))
    features = model.network.encode(None, normal(1, NX, NY, CHANNELS, dtype="float64"))
    close(conditional_denoiser(model, features)(x0 + sigma * noise, sigma), x0, 1e-12)
    c = preconditioning(parametrization, sigma, 0.7)
    ((noisy, level),) = asked
    close(noisy, (c.scale * (x0 + sigma * noise))[None], 1e-12)
    np.testing.assert_allclose(level, [c.level], rtol=1e-12)


@pytest.mark.parametrize(
    "sampler, target", [("dpmpp-2m", "residual"), ("dpmpp-2m-sde", "direct"), ("heun", "direct"), ("mean", "residual")]
)
def test_a_certain_network_draws_what_it_is_certain_of(monkeypatch, sampler, target):
    """If D is x₀ whatever the noise, a sample is x₀ in the conditioner's scale around its mean; for `direct` x₀."""
    x0, mean = normal(*SHAPE), normal(*SHAPE, seed=1)
    mean = mean - mean[:, ::-1]  # what the average over the reflection leaves as it is
    fake(monkeypatch, lambda noisy, level: x0[None], mean)
    model = Model(ModelConfig("tiny", nx=NX, ny=NY, parametrization="data", target=target), None, SCALE)
    got = quick_jit(make_draw(model, configuration(sampler=sampler)))(KEY, normal(1, NX, NY, CHANNELS))
    # The mean of a residual model is the conditioner's, and nothing is drawn.
    drawn_too = 0 if sampler == "mean" else LOCAL * x0
    expected = np.array(drawn_too + mean if target == "residual" else x0) * SCALE
    expected[:, [0, -1]] = 0
    close(got, np.broadcast_to(np.moveaxis(expected, -1, 0), got.shape))


def test_centred_samples_are_independent_draws_around_the_conditioners_mean():
    """None of them moves: their own mean is off it by what so few samples are."""
    conditions = normal(1, NX, NY, CHANNELS)
    mean = drawn(conditions, sampler="mean")[0]
    free, centred = (
        quick_jit(make_draw(small_model(), configuration(centred=each)).corrections)(KEY, conditions)
        for each in (False, True)
    )
    assert free.mean is None
    close(centred.mean, mean, 1e-4)
    close(centred.samples, free.samples, 1e-6)
    assert np.abs(centred.samples.mean(0) - mean).max() > 1e-3
    one = make_draw(small_model(), configuration(members=1, centred=True, prior="lr")).corrections(KEY, conditions)
    assert one.mean is None  # a single sample is the analysis


# What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        ({"network": "smal"}, "network: expected one of .*did you mean 'small'"),
        ({"target": "residul"}, "target: expected one of residual, direct, regression; got 'residul'"),
        ({"sigma_data": 0.0}, "sigma_data: expected a finite number above 0, got 0.0"),
        ({"network": "4dsrda"}, "target: network 4dsrda can have regression, got residual; choose one"),
        ({"distilled": 3}, "distilled: expected 0 to 2 steps of a network of tiny, small, base, got 3 of small"),
        (
            {"distilled": 1, "network": "paper", "target": "direct"},
            "distilled: expected .* got 1 of paper",
        ),
        ({"distilled": 1, "target": "regression"}, "distilled: a regression draws nothing"),
        ({"network": "paper"}, "target: network paper can have direct, got residual; choose one"),
        (
            {"conditioning": PAPER, "latent": "kl"},
            "conditioning: latent kl needs the first guess of every frame, expected conditioning full, got paper; take",
        ),
        (
            {"conditioning": PAPER, "network": "4dsrda-small", "target": "regression"},
            "conditioning: network 4dsrda-small needs the first guess of every frame, expected conditioning full",
        ),
        ({"priors": ("lr", "duel")}, "prior: expected one of dual, .*, lr; got 'duel'"),
        ({"parametrization": "edn"}, "parametrization: expected one of .*did you mean 'edm'"),
    ],
)
def test_bad_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**change)


def test_a_regression_draws_nothing_but_its_mean():
    model = small_model()
    alone = dataclasses.replace(model, config=dataclasses.replace(model.config, target="regression"))
    conditions, config = normal(1, NX, NY, CHANNELS), configuration(sampler="mean")
    got, expected = (quick_jit(make_draw(each, config))(KEY, conditions) for each in (alone, model))
    np.testing.assert_array_equal(got, expected)
    with pytest.raises(ValueError, match="these weights are a regression, expected sampler mean with them, got dpmpp"):
        make_draw(alone, configuration())


def test_the_paper_network_takes_the_direct_target():
    assert ModelConfig("paper", target="direct").target == "direct"


@pytest.mark.parametrize("target", ["direct", "residual"])
def test_networks_are_built_for_the_papers_condition(target):
    """Five channels, none of them quiet; what is drawn is as large as ever."""
    kind = ModelConfig.of(TESTBED, network="tiny", target=target, conditioning=PAPER)
    assert kind.channels == 5 and kind.frames == 5
    full = dataclasses.replace(kind, conditioning=Conditioning.of(TESTBED))
    first, quiet = (models.network(each).initial(0)["stem"]["kernel"][...] for each in (kind, full))
    assert np.all(first != 0) and not np.all(quiet != 0)
    model = Model(kind, parameters(kind), SCALE)
    got = quick_jit(make_draw(model, configuration()))(KEY, normal(1, *GRID.shape, 5))
    assert got.shape == (3, 5, *GRID.shape) and np.isfinite(got).all() and not np.any(got[..., [0, -1]])


def test_guides_find_the_guess_in_the_papers_condition():
    """What a guide observes of no correction at all is the guess's first frame at the sensors."""
    kind, sets = ModelConfig.of(TESTBED, network="tiny", target="direct", conditioning=PAPER), (Sensors("lattice:4"),)
    model, heard = Model(kind, parameters(kind), SCALE), []
    seen = jax.tree.map(lambda a: a[0] if a.dtype == bool else a[0].astype("float32"), observed())
    seen = seen._replace(variance=jnp.full_like(seen.variance, 1e-6))
    conditions = normal(1, *GRID.shape, 5)
    guess = PAPER.field_scale * conditions[0, ..., 1]

    def listen(denoise, observe, readings, samples):
        heard.append(observe(jnp.zeros(kind.drawn, jnp.float32)))
        return denoise

    make_draw(model, configuration(guidance=listen, guide_on="all", steps=1), sets)(KEY, conditions, seen)
    wanted = predict(GRID, guess, seen, sets)
    np.testing.assert_allclose(heard[0], wanted, atol=1e-4)
    # And projected samples fit the sensors.
    projected = quick_jit(make_draw(model, configuration(guidance="projected", guide_on="all"), sets))
    first = guess + projected(KEY, conditions, seen)[:, 0]
    off = jax.vmap(lambda a: predict(GRID, a, seen, sets))(first) - seen.values
    assert np.abs(off[:, seen.mask]).max() < 0.02 * np.abs((wanted - seen.values)[seen.mask]).max()


def test_a_student_draws_in_its_own_steps_only():
    model = small_model(distilled=1)
    conditions = normal(1, NX, NY, CHANNELS)
    got = quick_jit(make_draw(model, configuration(steps=1)))(KEY, conditions)
    # One step from the highest level to zero is the same for teacher and student.
    close(got, drawn(conditions, steps=1))
    with pytest.raises(ValueError, match="these weights were distilled to 1, expected as many, got 4; say steps 1"):
        make_draw(model, configuration(steps=4))
    with pytest.raises(ValueError, match="sampler: a student's steps are those of dpmpp-2m, got heun; leave it out"):
        make_draw(model, configuration(steps=1, sampler="heun"))
    make_draw(model, configuration(steps=4, sampler="mean"))


def test_a_part_goes_in_where_it_came_from():
    params = parameters()
    part = jax.tree.map(lambda a: 2 * a, denoiser_part(ModelConfig("tiny"), params))
    whole = with_denoiser(params, part)
    assert jax.tree.structure(whole) == jax.tree.structure(params)
    for name in params:
        factor = 2 if name in DENOISER else 1
        for new, old in zip(jax.tree.leaves(whole[name]), jax.tree.leaves(params[name]), strict=True):
            np.testing.assert_array_equal(new, factor * old)


def test_networks_with_a_denoiser_of_their_own():
    assert models.apart() == ["tiny", "small", "base"]
    assert denoiser_part(ModelConfig("paper", target="direct"), parameters()) == {}


@pytest.mark.parametrize("shape", [(1, NX, NY, CHANNELS - 1), (1, NX + 4, NY, CHANNELS), (NX, NY, CHANNELS)])
def test_wrong_conditions_are_refused(shape):
    draw = make_draw(small_model(), configuration())
    with pytest.raises(ValueError, match=rf"conditions: expected .*any, {NX}, {NY}, {CHANNELS}\)"):
        draw(KEY, jnp.zeros(shape))


def test_conditions_for_other_members_are_refused():
    with pytest.raises(ValueError, match="conditions: expected a leading axis of 3 members"):
        jax.eval_shape(make_draw(small_model(), configuration()), KEY, normal(2, NX, NY, CHANNELS))


# Other flows ----------------------------------------------------------------------------------


OTHER = dataclasses.replace(
    TESTBED.vary(beta=2.0),
    forecast=Level("lr", 12, 7, 2e-3, steps=6),
    analysis=Level("hr", 24, 13, 1e-3, steps=6),
    truth=Level("hr", 24, 13, 1e-3, steps=6),
    frames_per_cycle=2,
    frames=6,
    field_scale=2.0,
    error_scale=0.25,
)
"""Other sizes, another β, two frames a cycle and other units."""


def test_a_model_for_a_testbed():
    """Grid, symmetries, cadence and units are the testbed's; options go before them."""
    assert ModelConfig.of(jet()) == ModelConfig()
    kind = ModelConfig.of(OTHER, network="tiny", priors=("lr",))
    assert (kind.nx, kind.ny, kind.frames, kind.channels) == (24, 13, 3, 18) and kind.drawn == (24, 13, 3)
    assert kind.conditioning == Conditioning.of(OTHER) and kind.priors == ("lr",)
    shifted = dataclasses.replace(OTHER, symmetries=("shift",))
    assert ModelConfig.of(shifted).symmetries == ("shift",)
    assert ModelConfig.of(shifted, symmetries=()).symmetries == ()


def test_only_a_flow_with_the_reflection_has_its_mean_reflected():
    conditions, signs = normal(1, NX, NY, CHANNELS), jnp.asarray(SIGNS, jnp.float32)
    for symmetries, kept in ((("shift", "reflection"), True), (("shift",), False), ((), False)):
        model = small_model(symmetries=symmetries)
        mean, mirrored = (
            quick_jit(functools.partial(encode, model))(given).mean for given in (conditions, mirror(conditions, UNITS))
        )
        off = np.abs(mirrored + mean[:, :, ::-1]).max() / np.abs(mean).max()
        assert off < 1e-5 if kept else off > 0.1
        if not kept:
            np.testing.assert_array_equal(mean, quick_jit(model.network.encode)(model.params, conditions).mean)
    np.testing.assert_array_equal(signs * conditions[:, :, ::-1], mirror(conditions, UNITS))


def test_the_scale_is_averaged_over_the_reflection_as_the_mean_is(monkeypatch):
    """½ [s(c) + R s(S R c)] for a network that knows up from down: mirrored flows have mirrored scales."""

    def encode_unevenly(params, condition):
        up = jnp.linspace(0.0, 1.0, NY, dtype=condition.dtype)[:, None]
        mean = condition[..., :FRAMES] + up
        return Features(mean, 1 + up + jnp.square(condition[..., 1 : FRAMES + 1]), (condition[..., :1],))

    monkeypatch.setattr(models, "network", lambda kind: models.Network(encode_unevenly, None, None))
    model = Model(ModelConfig("tiny", nx=NX, ny=NY), None, SCALE)
    conditions = normal(2, NX, NY, CHANNELS)
    mirrored = mirror(conditions, UNITS)
    features = encode(model, conditions)
    plain, other = (encode_unevenly(None, given) for given in (conditions, mirrored))
    close(features.scale, (np.asarray(plain.scale) + np.asarray(other.scale)[:, :, ::-1]) / 2, 1e-6)
    close(features.mean, (np.asarray(plain.mean) - np.asarray(other.mean)[:, :, ::-1]) / 2, 1e-6)
    reflected = encode(model, mirrored)
    close(reflected.scale, np.asarray(features.scale)[:, :, ::-1], 1e-6)
    close(reflected.mean, -np.asarray(features.mean)[:, :, ::-1], 1e-6)
    # Neither is what one gets without the reflection.
    assert np.abs(plain.scale - plain.scale[:, :, ::-1]).max() > 0.5
    np.testing.assert_array_equal(features.levels[0], plain.levels[0])


def cycled(testbed, config, cycles=3):
    """Histories of a loud, untrained model in the cycle: with silent sensors that guide, and with these too."""
    grid, sensors = testbed.grid, (Sensors("lattice:4"), Sensors("lattice:4", "speed", role="guiding"))
    rng = np.random.default_rng(0)
    inside = (np.arange(grid.ny) % (grid.ny - 1) > 0).astype(float)
    truth = jnp.asarray(rng.normal(size=(cycles * testbed.frames_per_cycle, *grid.shape)) * inside, "float32")
    one, other = (
        observe_run(jax.random.key(i), grid, each.placed(grid), truth, testbed.frames_per_cycle, 0.1, each.measure)
        for i, each in enumerate(sensors)
    )
    states = jnp.asarray(rng.normal(size=(2, 2, *grid.spectral_shape)), "float32")
    where = Setup(testbed, climatology.from_runs(grid, states, testbed.symmetries), sensors)
    kind = ModelConfig.of(testbed, network="tiny", priors=("dual", "lr"))
    scale = np.full(kind.frames, 0.1, np.float32)
    method = make_diffsrda(where, config, model=Model(kind, parameters(kind), scale))
    with jax.numpy_dtype_promotion("standard"):
        run = quick_jit(lambda key, seen: run_cycles(method, key, seen, truth, keep="members", testbed=testbed))
        return [run(KEY, join(one, there)) for there in (other._replace(mask=jnp.zeros_like(other.mask)), other)]


@pytest.mark.parametrize("symmetries, prior", [(("shift", "reflection"), "dual"), (("shift",), "lr")])
def test_the_cycle_runs_on_other_flows(symmetries, prior):
    """Two frames a cycle, other sizes, β and units; sensors that guide move the analyses."""
    testbed = dataclasses.replace(OTHER, symmetries=symmetries)
    config = configuration(prior=prior, members=2, guidance=Blend(1.0, (2.0, 1.0), 1))
    plain, guided = cycled(testbed, config)
    for carry, history in (plain, guided):
        assert history.finite.all() and carry.index == 3
        assert history.fields.members.shape == (3, 2, 2, 24, 13)
        assert history.speeds.rate.shape == (3, 3) and history.scores["rmse"].shape == (3, 2)
        assert carry.state.memory.analyses.shape == (1, 2, 24, 13)
    apart = np.abs(plain[1].fields.members - guided[1].fields.members).max((1, 2, 3, 4))
    assert (apart > 1e-3).all()


def test_windows_of_another_cadence_or_grid_are_refused():
    kind = ModelConfig.of(OTHER, network="tiny")
    model = Model(kind, None, np.ones(3, np.float32))
    with pytest.raises(ValueError, match="windows of 3 frames on 24 × 13 points, this testbed has 5 on 32 × 17; train"):
        make_diffsrda(setup(), configuration(), model=model)


def test_a_network_of_ones_own_comes_by_name(monkeypatch):
    """One number for each frame: a mean without a denoiser, built for the sizes of the model."""
    built = []

    class Constant(nnx.Module):
        def __init__(self, sizes, seed):
            built.append(sizes)
            self.frames = sizes.frames
            self.value = nnx.Param(jnp.full(sizes.frames, 0.5, jnp.float32))

        def encode(self, condition):
            mean = jnp.broadcast_to(self.value[...], (*condition.shape[:3], self.frames)).astype(condition.dtype)
            mean = mean + condition[..., : self.frames]
            return Features(mean, jnp.ones_like(mean), ())

    with monkeypatch.context() as registry:
        registry.setitem(NETWORKS, "constant", None)
        registry.delitem(NETWORKS, "constant")  # whatever is registered goes in the end
        register_network("constant", NetworkKind(Constant, ("regression",)))
        kind = ModelConfig.of(OTHER, network="constant", priors=("lr",), target="regression")
        params = models.network(kind).initial(0)
        assert (built[0].frames, built[0].channels, built[0].nx, built[0].ny) == (3, 18, 24, 13)
        assert built[0].quiet == (kind.conditioning.ahead,) and not built[0].latent
        conditions = normal(1, 24, 13, 18)
        got = mean_draw(Model(kind, params, np.array([1, 2, 3], np.float32)), 2)(KEY, conditions)
        # What the reflection leaves of it: the guesses stay, the constant goes.
        expected = np.array(conditions[0, ..., :3]) * np.array([1, 2, 3], np.float32)
        expected[:, [0, -1]] = 0
        close(got, np.broadcast_to(np.moveaxis(expected, -1, 0), got.shape))
        with pytest.raises(ValueError, match="target: network constant can have regression, got residual; choose one"):
            ModelConfig("constant")
        with pytest.raises(ValueError, match="register_network: 'constant' is taken; choose another name"):
            register_network("constant", NETWORKS["constant"])
    with pytest.raises(ValueError, match=r"network: expected one of .*got 'constant'"):
        ModelConfig("constant", target="regression")
