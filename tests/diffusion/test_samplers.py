"""Samplers on Gaussian laws, whose denoiser, probability flow and posterior steps are known exactly."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import quick_jit

from jaxsrda.diffusion.denoiser import gaussian_denoiser, precondition
from jaxsrda.diffusion.samplers import (
    SAMPLERS,
    Knobs,
    ddim_coefficients,
    evaluations,
    initial_noise,
    sample,
    sample_members,
)
from jaxsrda.diffusion.schedules import VP_SCHEDULE, edm_sigmas, log_snr_sigmas, vp_sigmas

SHAPE, SIZE = (2, 3), 6
KEY = jax.random.key(7)
SQUARE_ROOT = np.random.default_rng(0).normal(size=(SIZE, SIZE)) * 0.4 + 0.5 * np.eye(SIZE)
COVARIANCE = SQUARE_ROOT @ SQUARE_ROOT.T
VARIANCES, VECTORS = np.linalg.eigh(COVARIANCE)
MEAN = np.array([1.0, -0.5, 0.0, 0.7, -1.2, 0.3])
Z_BOUND = 4.5  # standard errors; over the 27 moments of a case one in 5000 would miss it by chance


EXACT = {
    dtype: gaussian_denoiser(*(jnp.asarray(a, dtype) for a in (MEAN.reshape(SHAPE), VECTORS, VARIANCES)))
    for dtype in ("float32", "float64")
}


def exact(dtype="float64"):
    """The denoiser of N(MEAN, COVARIANCE) on samples (2, 3)."""
    return EXACT[dtype]


def flow(x, start, end):
    """x at σ = start carried along the exact probability flow to σ = end."""
    scale = np.sqrt((VARIANCES + end**2) / (VARIANCES + start**2))
    return (MEAN + VECTORS @ (scale * (VECTORS.T @ (np.ravel(x) - MEAN)))).reshape(SHAPE)


def quick_sample(*args, **options):
    """`sample`, compiled fast."""
    return quick_jit(lambda: sample(*args, **options))()


def steps_with(name, x, draws, rows, eta):
    """A sampler's own steps, with given noise (rows, 2, 3) in place of its draws."""

    def step(carry, inputs):
        row, draw = inputs
        knobs = Knobs(eta, jnp.zeros_like(eta))
        return SAMPLERS[name].advance(exact(x.dtype.name), lambda: draw, *carry, row, knobs), None

    return jax.lax.scan(step, (x, jnp.zeros_like(x)), (rows, draws))[0][0]


by_hand = quick_jit(steps_with, static_argnums=0)
responses = quick_jit(jax.jacrev(steps_with, (1, 2)), static_argnums=0)


def rows_of(name, sigmas, dtype="float64"):
    """The rows of a sampler's plan, and no noise for them."""
    rows = tuple(jnp.asarray(a, dtype) for a in SAMPLERS[name].plan(sigmas))
    return rows, jnp.zeros((len(rows[0]), *SHAPE), dtype)


# The law


@pytest.mark.parametrize(
    "sampler, sigmas, options, dtype",
    [
        ("ddim", log_snr_sigmas(250, 0.01, 400.0), {"eta": 0.0}, "float64"),
        ("ddim", log_snr_sigmas(250, 0.01, 400.0), {"eta": 0.5}, "float64"),
        ("ddim", log_snr_sigmas(250, 0.01, 400.0), {"eta": 0.5}, "float32"),
        ("ddim", log_snr_sigmas(250, 0.01, 400.0), {"eta": 1.0}, "float64"),
        ("ddim", vp_sigmas(1000), {"eta": 1.0}, "float32"),  # DDPM
        ("heun", edm_sigmas(60, 0.01, 400.0), {}, "float32"),
        ("heun", edm_sigmas(100, 0.01, 400.0), {"churn": 10.0}, "float64"),
        ("dpmpp-2m", log_snr_sigmas(100, 0.01, 400.0), {}, "float32"),
        ("dpmpp-2m-sde", log_snr_sigmas(200, 0.01, 400.0), {}, "float64"),
        ("dpmpp-2m-sde", edm_sigmas(200, 0.01, 400.0), {}, "float32"),
    ],
)
def test_samples_have_the_laws_mean_and_covariance(sampler, sigmas, options, dtype):
    members = 2000

    @quick_jit
    def draw(key):
        one = functools.partial(sample, shape=SHAPE, sigmas=sigmas, sampler=sampler, dtype=dtype, **options)
        return sample_members(exact(dtype), key, members, one)

    got = draw(KEY)
    assert got.dtype == dtype and got.shape == (members, *SHAPE)
    got = np.asarray(got, float).reshape(members, SIZE)
    variance = np.diag(COVARIANCE)
    mean_error = np.sqrt(variance / members)
    covariance_error = np.sqrt((variance[:, None] * variance + COVARIANCE**2) / members)
    assert abs(got.mean(0) - MEAN).max() > 0
    assert (abs(got.mean(0) - MEAN) < Z_BOUND * mean_error).all()
    assert (abs(np.cov(got.T) - COVARIANCE) < Z_BOUND * covariance_error).all()


def test_few_steps_shrink_the_spread():
    # What the law's test above would see of a sampler that is wrong: 3 steps of first order.
    one = functools.partial(sample, shape=SHAPE, sigmas=edm_sigmas(3), sampler="ddim", eta=0.0)
    got = quick_jit(lambda: sample_members(exact(), KEY, 4000, one))()
    assert np.var(got, 0).sum() < 0.8 * np.trace(COVARIANCE)


def test_mean_is_one_evaluation_at_the_first_level(dtype):
    x = initial_noise(KEY, SHAPE, 300.0, dtype)
    got = quick_sample(exact(dtype), KEY, SHAPE, [300.0, 1.0, 0.0], "mean", dtype=dtype)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, exact(dtype)(x, jnp.asarray(300.0, dtype)), rtol=1e-6)
    np.testing.assert_allclose(got, MEAN.reshape(SHAPE), atol=0.05)


# Orders


def grids(rho):
    """Grids of 64 and 128 steps that end above 0."""
    return [edm_sigmas(steps + 1, 0.05, 10.0, rho)[:-1] for steps in (64, 128)]


@pytest.mark.parametrize("sampler, order", [("ddim", 1), ("heun", 2), ("dpmpp-2m", 2)])
@pytest.mark.parametrize("rho", [3.0, 20.0])
def test_order_along_the_probability_flow(sampler, order, rho):
    x, errors = initial_noise(KEY, SHAPE, 10.0), []
    for sigmas in grids(rho):
        rows, none = rows_of(sampler, sigmas)
        got = by_hand(sampler, x, none, rows, jnp.asarray(0.0))
        errors.append(np.linalg.norm(got - flow(x, 10.0, 0.05)))
    observed = np.log2(errors[0] / errors[1])
    assert abs(observed - order) < 0.2 and errors[1] > 1e-9, (observed, errors)


@pytest.mark.parametrize(
    "sampler, eta, order",
    [
        ("ddim", 0.0, 1),
        ("ddim", 0.5, 1),
        ("ddim", 1.0, 1),
        ("heun", 0.0, 2),
        ("dpmpp-2m", 0.0, 2),
        ("dpmpp-2m-sde", 0.0, 2),
    ],
)
def test_order_of_the_covariance(sampler, eta, order):
    """With a linear denoiser a sample is linear in its noise, so its law follows without drawing any."""
    errors = []
    for sigmas in grids(3.0):
        rows, none = rows_of(sampler, sigmas)
        start = jnp.asarray(MEAN.reshape(SHAPE))
        of_start, of_draws = responses(sampler, start, none, rows, jnp.asarray(eta))
        of_start, of_draws = (np.asarray(j).reshape(SIZE, -1) for j in (of_start, of_draws))
        got = of_start @ (COVARIANCE + 100 * np.eye(SIZE)) @ of_start.T + of_draws @ of_draws.T
        errors.append(np.linalg.norm(got - (COVARIANCE + 0.05**2 * np.eye(SIZE))))
        assert (abs(of_draws).max() > 0.01) == (eta > 0 or sampler.endswith("sde"))
    observed = np.log2(errors[0] / errors[1])
    assert abs(observed - order) < 0.2 and errors[1] > 1e-9, (observed, errors)


@pytest.mark.parametrize("sampler, power", [("dpmpp-2m", 1), ("dpmpp-2m-sde", 2)])
def test_multistep_extrapolates_to_the_middle_of_uneven_steps(sampler, power):
    # For D linear in λ = −ln σ the second step must use D at λ + h/2; the first and last use D at λ.
    rows, none = rows_of(sampler, np.array([8.0, 4.0, 1.0, 0.0]))
    x, memory, states = jnp.ones(SHAPE), none[0], []
    for row in zip(*rows):
        x, memory = SAMPLERS[sampler].advance(
            lambda x, sigma: -jnp.log(sigma) + 0 * x, lambda: none[0], x, memory, row, Knobs(*row[:2])
        )
        states.append(x[0, 0])
    half, quarter = 0.5**power, 0.25**power
    first = half - (1 - half) * np.log(8)
    second = quarter * first - (1 - quarter) * (np.log(4) + np.log(1)) / 2
    np.testing.assert_allclose(states, [first, second, 0.0], atol=1e-14)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp-2m-sde"])
def test_ancestral_steps_keep_the_conditional_mean(sampler):
    # Exact in any number of steps: E[x₀ | x] is a martingale, and the posterior step is linear in it.
    x = initial_noise(KEY, SHAPE, 10.0)
    rows, none = rows_of(sampler, np.array([10.0, 3.0, 0.4]))
    scale = (VARIANCES + 0.4**2) / (VARIANCES + 10.0**2)
    expected = MEAN + VECTORS @ (scale * (VECTORS.T @ (np.ravel(x) - MEAN)))
    got = by_hand(sampler, x, none, rows, jnp.asarray(1.0)).ravel()
    np.testing.assert_allclose(got, expected, atol=1e-12)
    assert abs(by_hand(sampler, x, none + 1, rows, jnp.asarray(1.0)).ravel() - expected).max() > 0.1


@pytest.mark.parametrize("sampler", ["ddim", "heun", "dpmpp-2m"])
def test_without_noise_only_the_start_is_random(sampler, dtype):
    sigmas = edm_sigmas(12, 0.02, 40.0)
    x = initial_noise(KEY, SHAPE, sigmas[0], dtype)
    rows, none = rows_of(sampler, sigmas, dtype)
    expected = by_hand(sampler, x, none, rows, jnp.zeros((), dtype))
    got = quick_sample(exact(dtype), KEY, SHAPE, sigmas, sampler, eta=0.0, dtype=dtype)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, atol={"float32": 2e-5, "float64": 1e-12}[dtype])
    # And η or churn add to it.
    option = {"heun": {"churn": 3.0}}.get(sampler, {"eta": 1.0})
    kicked = quick_sample(exact(dtype), KEY, SHAPE, sigmas, sampler, dtype=dtype, **({"eta": 0.0} | option))
    assert (abs(kicked - got).max() > 0.1) == (sampler != "dpmpp-2m")


# DDIM and DDPM


def test_ddim_of_eta_one_is_the_posterior_step_of_ddpm_everywhere():
    # Ho et al. (2020, arXiv:2006.11239, eqs. 6 and 7), t = 2 … 1000.
    beta = VP_SCHEDULE.betas()
    alpha_bar = np.cumprod(1 - beta)
    now, before, beta = alpha_bar[1:], alpha_bar[:-1], beta[1:]
    of_x0 = np.sqrt(before) * beta / (1 - now)
    of_z = np.sqrt(1 - beta) * (1 - before) / (1 - now)
    variance = (1 - before) / (1 - now) * beta
    sigma = VP_SCHEDULE.sigmas()
    along, kick = ddim_coefficients(jnp.asarray(sigma[1:]), jnp.asarray(sigma[:-1]), jnp.asarray(1.0))
    # x = z/√ᾱ, so z′ = √ᾱ′ ((1 − along) D + along z/√ᾱ + kick ξ).
    np.testing.assert_allclose(np.sqrt(before) * (1 - along), of_x0, rtol=1e-8)
    np.testing.assert_allclose(np.sqrt(before / now) * along, of_z, rtol=1e-10)
    np.testing.assert_allclose(before * kick**2, variance, rtol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_one_step_of_ddim_is_that_of_the_paper(eta, dtype):
    # Song et al. (2021, arXiv:2010.02502, eqs. 12 and 16) in its own variables, on 20000 independent numbers.
    size, t, s = (20_000,), 600, 550
    sigma, next_sigma = VP_SCHEDULE.sigmas()[[t - 1, s - 1]]
    now, before = np.cumprod(1 - VP_SCHEDULE.betas())[[t - 1, s - 1]]
    got = quick_sample(lambda x, sigma: 0.3 * x + 1, KEY, size, [sigma, next_sigma], "ddim", eta, dtype=dtype)
    x = np.asarray(initial_noise(KEY, size, sigma, dtype), float)
    z, clean = np.sqrt(now) * x, 0.3 * x + 1
    noise = (z - np.sqrt(now) * clean) / np.sqrt(1 - now)
    deviation = eta * np.sqrt((1 - before) / (1 - now)) * np.sqrt(1 - now / before)
    expected = np.sqrt(before) * clean + np.sqrt(1 - before - deviation**2) * noise
    left = np.sqrt(before) * np.asarray(got, float) - expected
    if eta == 0:
        # Two programs may differ in the last bit of noise that is drawn in float32, in a few of its numbers.
        np.testing.assert_allclose(left, 0, atol=1e-5 if dtype == "float32" else 1e-6)
        assert dtype == "float32" or np.mean(np.abs(left) < 1e-13) > 0.99
    else:
        left = left / deviation
        for statistic, spread in ((left.mean(), 1), ((left**2).mean() - 1, 2**0.5), ((left * x / sigma).mean(), 1)):
            assert abs(statistic) < Z_BOUND * spread / np.sqrt(20_000)


def test_first_order_sde_is_ddim_of_eta_one():
    # A multistep method has no earlier D on its first step.
    names = ("ddim", "dpmpp-2m-sde")
    one, two = quick_jit(
        lambda: [[sample(exact(), KEY, SHAPE, grid, s) for s in names] for grid in ([3.0, 1.2], [3.0, 1.2, 0.5])]
    )()
    np.testing.assert_allclose(*one, atol=1e-13)
    assert abs(two[0] - two[1]).max() > 1e-3


def test_eta_can_be_differentiated_at_its_ends():
    def loss(eta):
        return sample(exact(), KEY, SHAPE, vp_sigmas(5), eta=eta).sum()

    etas = jnp.array([0.0, 0.5, 1.0, 0.5 + 1e-5, 0.5 - 1e-5])
    values, slopes = quick_jit(jax.vmap(jax.value_and_grad(loss)))(etas)
    assert jnp.isfinite(slopes).all()
    middle = float(values[3] - values[4]) / 2e-5
    assert abs(middle) > 1e-2 and float(slopes[1]) == pytest.approx(middle, rel=1e-6)


# Views of one network


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_all_parametrizations_of_one_denoiser_sample_alike(sampler):
    denoise = exact()

    def predict(target):
        """A variance-preserving network: z = a x and a, to what it should return."""

        def network(z, a):
            sigma = jnp.sqrt((1 - a) * (1 + a)) / a
            x0 = denoise(z / a, sigma)
            return target(x0, (z / a - x0) / sigma, a)

        return network

    def edm_network(scaled, level):
        sigma = jnp.exp(4 * level)
        total = jnp.sqrt(sigma**2 + 0.16)
        x = scaled * total
        return (denoise(x, sigma) - 0.16 / total**2 * x) / (0.4 * sigma / total)

    views = [
        precondition("noise", predict(lambda x0, noise, a: noise)),
        precondition("velocity", predict(lambda x0, noise, a: a * noise - jnp.sqrt(1 - a * a) * x0)),
        precondition("data", predict(lambda x0, noise, a: x0)),
        precondition("edm", edm_network, 0.4),
    ]
    sigmas = vp_sigmas(10)
    expected, *got = quick_jit(lambda: [sample(d, KEY, SHAPE, sigmas, sampler, 0.5) for d in (denoise, *views)])()
    assert abs(expected).max() > 0.1
    for view in got:
        np.testing.assert_allclose(view, expected, atol=1e-8)


# Cost and transformations


@pytest.mark.parametrize(
    "sampler, to_zero, above",
    [("ddim", 8, 7), ("heun", 15, 14), ("dpmpp-2m", 8, 7), ("dpmpp-2m-sde", 8, 7), ("mean", 1, 1)],
)
def test_evaluations(sampler, to_zero, above):
    levels = []

    def denoise(x, sigma):
        jax.debug.callback(lambda s: levels.append(float(s)), sigma, ordered=True)
        return exact()(x, sigma)

    sigmas = edm_sigmas(8)
    for grid, count in ((sigmas, to_zero), (sigmas[:-1], above)):
        levels.clear()
        assert jnp.isfinite(sample(denoise, KEY, SHAPE, grid, sampler)).all()
        jax.effects_barrier()
        assert len(levels) == evaluations(sampler, grid) == count
        assert min(levels) > 0 and levels == sorted(levels, reverse=True)  # no network is asked about σ = 0


def test_a_step_to_zero_returns_the_denoiser():
    got = quick_jit(lambda: [sample(exact(), KEY, SHAPE, [2.0, 0.0], s, 0.7) for s in SAMPLERS])()
    expected = exact()(initial_noise(KEY, SHAPE, 2.0), jnp.asarray(2.0))
    for x in got:
        np.testing.assert_allclose(x, expected, atol=1e-13)


def test_a_sweep_over_eta_compiles_once(dtype):
    traced = []

    def denoise(x, sigma):
        traced.append(x)
        return exact(dtype)(x, sigma)

    @quick_jit
    def sweep(etas):
        return jax.vmap(lambda eta: sample(denoise, KEY, SHAPE, vp_sigmas(6), eta=eta, dtype=dtype))(etas)

    got = sweep(jnp.array([0.0, 0.4, 1.0], dtype))
    count = len(traced)
    again = sweep(jnp.array([0.1, 0.2, 0.3], dtype))
    assert len(traced) == count and got.dtype == dtype and abs(got - again).max() > 1e-3
    one = quick_jit(lambda eta: sample(exact(dtype), KEY, SHAPE, vp_sigmas(6), eta=eta, dtype=dtype))
    for eta, x in zip((0.0, 0.4, 1.0), got):
        np.testing.assert_allclose(x, one(jnp.asarray(eta, dtype)), atol={"float32": 1e-4, "float64": 1e-11}[dtype])


def test_churn_is_traced_and_bounded():
    churned = quick_jit(lambda churn: sample(exact(), KEY, SHAPE, edm_sigmas(6), "heun", churn=churn))
    none, some, much, more = (churned(jnp.asarray(c)) for c in (0.0, 1.0, 3.0, 100.0))
    assert abs(none - some).max() > 1e-2 and abs(some - much).max() > 1e-2
    np.testing.assert_array_equal(much, more)  # γ = √2 − 1 from 6 (√2 − 1) = 2.49 on
    np.testing.assert_allclose(none, quick_sample(exact(), KEY, SHAPE, edm_sigmas(6), "heun"), atol=1e-13)


# Ensembles


def members(count, chunk=None, conditions=None, denoise=None, dtype="float64", **options):
    one = functools.partial(sample, shape=SHAPE, sigmas=vp_sigmas(4), dtype=dtype, **options)

    def draw(conditions):
        return sample_members(denoise or exact(dtype), KEY, count, one, conditions, chunk)

    return quick_jit(draw)(conditions)


def alone(i, dtype="float64", denoise=None):
    """Member i by itself."""
    key = jax.random.fold_in(KEY, i)
    return quick_jit(lambda: sample(denoise or exact(dtype), key, SHAPE, vp_sigmas(4), dtype=dtype))()


def test_a_member_is_the_same_in_any_chunk(dtype):
    tolerance = {"float32": 1e-4, "float64": 1e-12}[dtype]
    whole = members(7, dtype=dtype)
    assert whole.shape == (7, *SHAPE) and whole.dtype == dtype
    flat = np.asarray(whole).reshape(7, -1)
    assert abs(flat[:, None] - flat).max(-1)[~np.eye(7, dtype=bool)].min() > 1e-3
    for chunk in (1, 3, 50) if dtype == "float64" else (3,):
        np.testing.assert_allclose(members(7, chunk, dtype=dtype), whole, atol=tolerance)
    np.testing.assert_allclose(members(3, dtype=dtype), whole[:3], atol=tolerance)
    np.testing.assert_allclose(alone(5, dtype), whole[5], atol=tolerance)


@pytest.mark.parametrize("sampler, eta", [("dpmpp-2m", 0.0), ("ddim", 1.0), ("dpmpp-2m-sde", 0.0), ("heun", 0.0)])
def test_without_noise_the_path_ends_at_the_mean(sampler, eta):
    """Of a law with a linear denoiser: what many samples average to, within their sampling error."""
    options = {"sampler": sampler, "eta": eta}
    quiet = quick_sample(exact(), None, SHAPE, vp_sigmas(4), **options)
    many = members(4000, 500, **options)
    error = many.std(0, ddof=1) / 4000**0.5
    assert np.all(np.abs(many.mean(0) - quiet) < 4.5 * error) and error.max() < 0.03
    assert np.abs(quiet - MEAN.reshape(SHAPE)).max() < 0.05


def test_members_have_their_own_conditions():
    shift = jnp.arange(5.0)

    def denoise(condition, x, sigma):
        return exact()(x - condition["shift"], sigma) + condition["shift"]

    got = members(5, 2, {"shift": shift}, denoise)
    for i in (1, 4):
        np.testing.assert_allclose(
            got[i], alone(i, denoise=functools.partial(denoise, {"shift": shift[i]})), atol=1e-12
        )
    assert abs(got[4] - members(5)[4]).max() > 1


# Errors


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: sample(exact(), KEY, SHAPE, [1.0, 0.0], "dim"), "sampler: expected one of ddim.*did you mean 'ddim'"),
        (lambda: evaluations("euler", [1.0, 0.0]), "sampler: expected one of .*got 'euler'"),
        (lambda: sample(exact(), KEY, SHAPE, [1.0]), r"sigmas: expected at least 2 levels .*got shape \(1,\)"),
        (lambda: sample(exact(), KEY, SHAPE, [[1.0, 0.0]]), r"sigmas: expected .*got shape \(1, 2\)"),
        (lambda: sample(exact(), KEY, SHAPE, [1.0, 1.0, 0.0]), r"sigmas: .*decrease.*got \[1\. 1\. 0\.\]"),
        (lambda: sample(exact(), KEY, SHAPE, [0.0, 1.0]), "sigmas: expected finite levels that decrease"),
        (lambda: sample(exact(), KEY, SHAPE, [1.0, -1.0]), "the last at least 0"),
        (lambda: sample(exact(), KEY, SHAPE, [np.inf, 0.0]), "sigmas: expected finite levels"),
        (lambda: sample(exact(), KEY, SHAPE, [1.0, np.nan]), "sigmas: expected finite levels"),
        (
            lambda: jax.jit(lambda s: sample(exact(), KEY, SHAPE, s))(jnp.array([1.0, 0.0])),
            "sigmas: expected levels known before compilation, got a traced array; make the grid outside jit",
        ),
        (lambda: sample(exact(), KEY, SHAPE, [1.0, 0.0], eta=1.1), "eta: expected a number from 0 to 1, got 1.1"),
        (lambda: sample(exact(), KEY, SHAPE, [1.0, 0.0], eta=jnp.asarray(-0.5)), "eta: expected .*got -0.5"),
        (lambda: sample(exact(), KEY, SHAPE, [1.0, 0.0], eta=np.nan), "eta: expected .*got nan"),
        (lambda: sample(exact(), KEY, SHAPE, [1.0, 0.0], eta=jnp.zeros(3)), r"eta: expected 0 dimensions .*jax\.vmap"),
        (lambda: sample(exact(), KEY, SHAPE, [1.0, 0.0], "heun", churn=-1.0), "churn: expected a number at least 0"),
        (
            lambda: sample(lambda x, s: x[0], KEY, SHAPE, [1.0, 0.0]),
            r"denoiser: expected float64 of shape \(2, 3\), as its input, got float64 of shape \(3,\)",
        ),
        (lambda: sample(lambda x, s: x.astype("float32"), KEY, SHAPE, [1.0, 0.0]), "denoiser: .*got float32"),
        (lambda: members(0), "members: expected at least 1, got 0"),
        (lambda: members(3, 0), "chunk: expected at least 1, got 0"),
        (lambda: members(3, conditions=jnp.zeros(2)), r"conditions: expected a leading axis of 3 .*got shape \(2,\)"),
        (lambda: members(3, conditions={"a": 1.0}), r"conditions: expected a leading axis of 3 .*got shape \(\)"),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()
