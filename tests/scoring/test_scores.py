"""Scores against independent oracles, and calibrated and miscalibrated ensembles told apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import scoringrules

from jaxsrda.flow.grid import ChannelGrid, energy, enstrophy, shells, to_physical, to_spectral
from jaxsrda.flow.testbed import jet
from jaxsrda.scoring import fit as fit_module
from jaxsrda.scoring import point, spectra
from jaxsrda.scoring import tally as tally_module
from jaxsrda.scoring.aims import aim

GRID = ChannelGrid(32, 17)
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def fields(seed, *shape, dtype="float64", scale=3.0):
    """Independent normal numbers on GRID, zero on the walls."""
    values = np.random.default_rng(seed).normal(scale=scale, size=(*shape, *GRID.shape))
    values[..., [0, -1]] = 0.0
    return jnp.asarray(values, dtype)


# Fields


def test_field_errors_match_numpy(dtype):
    a, b = fields(0, dtype=dtype), fields(1, dtype=dtype)
    x, y = np.asarray(a, float), np.asarray(b, float)
    np.testing.assert_allclose(point.maer(a, b), abs(x - y).sum() / abs(y).sum(), rtol=TOLERANCE[dtype])
    np.testing.assert_allclose(point.rmse(a, b), np.sqrt(((x - y) ** 2).mean()), rtol=TOLERANCE[dtype])
    np.testing.assert_allclose(
        point.correlation(a, a + b), np.corrcoef(x.ravel(), (x + y).ravel())[0, 1], rtol=10 * TOLERANCE[dtype]
    )
    assert point.maer(a, b).dtype == point.rmse(a, b).dtype == point.mssim_loss(a, b).dtype == dtype
    assert point.correlation(a, jnp.ones_like(a)) == 0


@pytest.mark.parametrize("data_range", [None, 7.0])
def test_mssim_matches_scipy(dtype, data_range):
    a = np.asarray(fields(0))
    b = a + 0.3 * np.asarray(fields(1)) + 0.5

    def mean(f):
        return scipy.ndimage.gaussian_filter(f, 1.5, radius=5)[5:-5, 5:-5]

    span = np.ptp(jet().vorticity_range) if data_range is None else data_range
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    expected = 1 - np.mean((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    got = point.mssim_loss(jnp.asarray(a, dtype), jnp.asarray(b, dtype), data_range)
    assert 0.01 < expected < 1
    np.testing.assert_allclose(got, expected, rtol=10 * TOLERANCE[dtype])
    assert abs(point.mssim_loss(fields(0, dtype=dtype), fields(0, dtype=dtype))) < 1e-6


# Ensembles


@pytest.mark.parametrize("members", [1, 2, 7, 33])
def test_crps_matches_scoringrules_and_the_double_sum(dtype, members):
    ensemble, truth = fields(0, members, dtype=dtype) + 2.0, fields(1, dtype=dtype)
    x, y = np.asarray(ensemble, float), np.asarray(truth, float)
    expected = abs(x - y).mean()
    if members > 1:
        pairs = sum(abs(a - b).mean() for a in x for b in x)
        expected -= pairs / (2 * members * (members - 1))
        reference = scoringrules.crps_ensemble(y, x, m_axis=0, estimator="fair", backend="numpy")
        np.testing.assert_allclose(expected, reference.mean(), rtol=1e-12)
    got = jax.jit(point.crps)(ensemble, truth)
    np.testing.assert_allclose(got, expected, rtol=TOLERANCE[dtype])
    assert got.dtype == dtype


def test_crps_is_fair_and_proper():
    # The expected fair CRPS of a calibrated ensemble does not depend on its size: σ/√π for a normal law.
    truth, ensemble = fields(0, 60, scale=1.0)[:, :, 1:-1], fields(1, 40, 60, scale=1.0)[:, :, :, 1:-1]
    score = jax.jit(jax.vmap(point.crps, in_axes=(1, 0)))
    few, many = score(ensemble[:3], truth).mean(), score(ensemble, truth).mean()
    np.testing.assert_allclose([few, many], np.pi**-0.5, rtol=0.02)
    assert score(ensemble + 0.5, truth).mean() > many * 1.1
    assert score(ensemble * 0.5, truth).mean() > many * 1.05
    assert score(ensemble * 2.0, truth).mean() > many * 1.05


def test_crps_keeps_nan_visible():
    assert jnp.isnan(point.crps(fields(0, 5).at[2, 3, 4].set(jnp.nan), fields(1)))


def test_spread_matches_numpy(dtype):
    ensemble, truth = fields(0, 6, dtype=dtype), fields(1, dtype=dtype)
    x, y = np.asarray(ensemble, float), np.asarray(truth, float)
    deviation, error = x.std(0, ddof=1), abs(x.mean(0) - y)
    expected = np.sqrt((deviation**2).mean())
    tolerance = 10 * TOLERANCE[dtype]
    np.testing.assert_allclose(point.spread(ensemble), expected, rtol=tolerance)
    np.testing.assert_allclose(
        point.spread_skill(ensemble, truth), np.sqrt(7 / 6) * expected / np.sqrt((error**2).mean()), rtol=tolerance
    )
    np.testing.assert_allclose(
        point.error_spread_correlation(ensemble, truth),
        np.corrcoef(deviation.ravel(), error.ravel())[0, 1],
        rtol=tolerance,
    )


def test_error_spread_correlation_finds_where_the_error_is():
    scale = jnp.linspace(0.1, 3, GRID.nx)[:, None]
    ensemble, truth = scale * fields(0, 20), scale * fields(1)
    assert point.error_spread_correlation(ensemble, truth) > 0.5
    assert point.error_spread_correlation(ensemble[:, ::-1], truth) < 0


@pytest.mark.parametrize("known", [True, False], ids=["around a known mean", "around their own"])
def test_a_perfect_gaussian_scores_its_exact_value(known):
    """CRPS 1/√π and spread–skill 1, for independent members, whether the analysis is the law's mean or theirs."""
    rng, shape = np.random.default_rng(3), (256, 257)
    centre = rng.normal(size=shape)
    truth = jnp.asarray(centre + rng.normal(size=shape))
    members = jnp.asarray(centre + rng.normal(size=(30, *shape)))
    analysis = jnp.asarray(centre) if known else None
    got = point.frame_scores(members, truth, 10.0, analysis)
    error = 3 / truth.size**0.5
    assert abs(got["crps"] - np.pi**-0.5) < error * 0.6 and abs(got["spread_skill"] - 1) < error
    np.testing.assert_allclose(got["rmse"], 1 if known else (1 + 1 / 30) ** 0.5, atol=error)
    grid = ChannelGrid(*shape)
    sums = tally_module.summarize(tally_module.frame_tally(jax.random.key(0), grid, members, truth, analysis), grid)
    np.testing.assert_allclose(sums["spread_skill"], got["spread_skill"], rtol=1e-6)
    # Members that are moved so that their mean is the law's are too close to it, and look better than perfect.
    moved = members - members.mean(0) + centre
    assert point.crps(moved, truth) < np.pi**-0.5 - 0.005


def test_scores_are_of_the_analysis_where_one_is_given():
    ensemble, truth, analysis = fields(0, 4), fields(1), fields(2)
    got = point.frame_scores(ensemble, truth, 7.0, analysis)
    for name, score in (("maer", point.maer), ("rmse", point.rmse)):
        np.testing.assert_allclose(got[name], score(analysis, truth))
    np.testing.assert_allclose(got["mssim_loss"], point.mssim_loss(analysis, truth, 7.0))
    np.testing.assert_allclose(got["spread_skill"], point.spread(ensemble) / point.rmse(analysis, truth))
    correlation = point.correlation(ensemble.std(0, ddof=1), jnp.abs(analysis - truth))
    np.testing.assert_allclose(got["error_spread_correlation"], correlation)
    plain = point.frame_scores(ensemble, truth, 7.0)
    assert all(got[name] == plain[name] for name in ("crps", "spread")) and got["rmse"] != plain["rmse"]
    sums = tally_module.frame_tally(jax.random.key(0), GRID, ensemble, truth, analysis)
    np.testing.assert_allclose(sums.squared_error, ((analysis - truth) ** 2).mean())
    np.testing.assert_allclose(sums.variance, point.member_variance(ensemble).mean())


def test_a_score_of_ones_own_is_one_more_entry(monkeypatch):
    monkeypatch.setitem(point.SCORES, "bias", lambda of: (of.best - of.truth).mean())
    ensemble, truth = fields(0, 4), fields(1)
    got = point.frame_scores(ensemble, truth)
    assert list(got)[-1] == "bias" and len(got) == 8
    np.testing.assert_allclose(got["bias"], (ensemble - truth).mean())


def test_the_span_of_vorticity_reaches_the_structural_similarity():
    ensemble, truth = fields(0, 4), fields(1)
    got = point.frame_scores(ensemble, truth, 7.0)
    np.testing.assert_allclose(got["mssim_loss"], point.mssim_loss(ensemble.mean(0), truth, 7.0))
    usual = point.frame_scores(ensemble, truth)
    assert abs(got["mssim_loss"] - usual["mssim_loss"]) > 1e-3
    assert all(got[name] == usual[name] for name in got if name != "mssim_loss")


def test_variance_over_members(dtype):
    ensemble = fields(0, 5, dtype=dtype)
    expected = np.asarray(ensemble, float).var(0, ddof=1)
    np.testing.assert_allclose(point.member_variance(ensemble), expected, rtol=1e-4, atol=1e-7)
    assert point.member_variance(ensemble).dtype == dtype
    np.testing.assert_array_equal(point.member_variance(ensemble[:1]), 0)
    assert point.check_ensemble(ensemble, ensemble[0]) == 5
    with pytest.raises(ValueError, match=r"ensemble: expected 3 dimensions .*one member is ensemble\[None\]"):
        point.check_ensemble(ensemble[0], ensemble[0])


def test_one_member(dtype):
    truth = fields(1, dtype=dtype)
    got = jax.jit(point.frame_scores)(fields(0, 1, dtype=dtype), truth)
    assert got["spread"] == got["spread_skill"] == got["error_spread_correlation"] == 0
    np.testing.assert_allclose(got["crps"], jnp.abs(fields(0, dtype=dtype) - truth).mean(), rtol=1e-6)


def test_frame_scores_are_the_scores(dtype):
    ensemble, truth = fields(0, 5, dtype=dtype), fields(1, dtype=dtype)
    expected = {
        "maer": point.maer(ensemble.mean(0), truth),
        "mssim_loss": point.mssim_loss(ensemble.mean(0), truth),
        "rmse": point.rmse(ensemble.mean(0), truth),
        "crps": point.crps(ensemble, truth),
        "spread": point.spread(ensemble),
        "spread_skill": point.spread_skill(ensemble, truth),
        "error_spread_correlation": point.error_spread_correlation(ensemble, truth),
    }
    jitted = jax.jit(point.frame_scores)(ensemble, truth)
    assert set(jitted) == set(expected)
    for name, value in expected.items():
        assert value.shape == () and value.dtype == dtype == jitted[name].dtype
        np.testing.assert_allclose(jitted[name], value, rtol=10 * TOLERANCE[dtype], err_msg=name)


# Tallies

FRAMES, MEMBERS = 24, 19

tally = jax.jit(tally_module.frame_tally, static_argnums=1)
summarize = jax.jit(tally_module.summarize, static_argnums=1)


@jax.jit
def tally_frames(keys, ensembles, truths):
    tallies = jax.vmap(tally_module.frame_tally, in_axes=(0, None, 0, 0))(keys, GRID, ensembles, truths)
    return jax.tree.map(lambda leaf: leaf.sum(0, dtype=leaf.dtype), tallies)


def summary_of(ensembles, truths):
    return summarize(tally_frames(jax.random.split(jax.random.key(1), FRAMES), ensembles, truths), GRID)


@pytest.fixture(scope="module")
def calibrated():
    """A predictable part that all share, and independent draws of one law around it."""
    common = fields(0, FRAMES)
    return common[:, None] + fields(1, FRAMES, MEMBERS), common + fields(2, FRAMES)


def rank_pvalue(histogram):
    points = FRAMES * GRID.nx * (GRID.ny - 2)
    return scipy.stats.chisquare(np.asarray(histogram) * points).pvalue


def test_a_calibrated_ensemble_is_found_calibrated(calibrated):
    got = summary_of(*calibrated)
    assert got["frames"] == FRAMES
    assert rank_pvalue(got["rank_histogram"]) > 1e-3
    np.testing.assert_allclose(got["spread_skill"], 1, atol=0.02)
    np.testing.assert_allclose(got["coverage_nominal"], [0.5, 0.8, 0.9, 0.95])
    np.testing.assert_allclose(got["coverage_expected"], [0.5, 0.8, 0.9, 0.9])  # 19 members reach 0.9
    np.testing.assert_allclose(got["coverage_observed"], got["coverage_expected"], atol=0.015)
    np.testing.assert_allclose(got["density_members"], got["density_truth"], atol=0.01)
    np.testing.assert_allclose(got["density_truth"].sum() * 0.5, 1)
    np.testing.assert_allclose(got["structure_members"], got["structure_truth"], rtol=0.08)
    assert got["energy_distance_members"] < 1 < got["energy_distance_mean"]  # the mean is too smooth
    assert np.all(got["enstrophy_mean"][1:] < got["enstrophy_truth"][1:])


def test_calibrated_events_are_reliable(calibrated):
    """Against the exact frequencies: members above the threshold are binomial given the common part."""
    got = {name: np.asarray(value) for name, value in summary_of(*calibrated).items()}
    common, above = np.linspace(-18, 18, 4001)[:, None], np.arange(MEMBERS + 1)
    density = scipy.stats.norm.pdf(common, scale=3)
    for row, threshold in enumerate(tally_module.THRESHOLDS):
        chance = scipy.stats.norm.sf(threshold, common, 3)
        joint = density * scipy.stats.binom.pmf(above, MEMBERS, chance)
        bins = np.floor(10 * above / MEMBERS + 0.5)
        for bin in range(tally_module.PROBABILITY_BINS):
            here, count = bins == bin, got["event_count"][row, bin]
            forecast = (joint * above)[:, here].sum() / joint[:, here].sum() / MEMBERS
            expected = (joint * chance)[:, here].sum() / joint[:, here].sum()
            assert abs(forecast - got["event_forecast"][row, bin]) < 0.02
            assert abs(expected - got["event_observed"][row, bin]) < 4 * np.sqrt(expected * (1 - expected) / count)
    # The diagonal: where the event is as likely as not, sampling does not bend the curve.
    np.testing.assert_allclose(got["event_observed"][1:3, 4:7], got["event_forecast"][1:3, 4:7], atol=0.07)


def test_miscalibration_is_detected(calibrated):
    ensembles, truths = calibrated
    mean = ensembles.mean(1, keepdims=True)

    biased = summary_of(ensembles + 2.0, truths)
    assert biased["rank_histogram"][0] > 3 * biased["rank_histogram"][-1]  # the truth lies below
    assert np.all(biased["coverage_observed"] < biased["coverage_expected"] - 0.02)

    narrow = summary_of(mean + 0.5 * (ensembles - mean), truths)
    np.testing.assert_allclose(narrow["spread_skill"], 0.5, atol=0.02)
    assert narrow["rank_histogram"][0] > 2 / (MEMBERS + 1) < narrow["rank_histogram"][-1]
    assert np.all(narrow["coverage_observed"] < narrow["coverage_expected"] - 0.1)
    # Overconfident: events forecast for certain fail to occur more often than for the calibrated.
    assert np.all(narrow["event_observed"][:, -1] < 0.96)

    wide = summary_of(mean + 2.0 * (ensembles - mean), truths)
    np.testing.assert_allclose(wide["spread_skill"], 2, atol=0.08)
    assert wide["rank_histogram"][0] < 0.5 / (MEMBERS + 1)
    assert np.all(wide["coverage_observed"] >= wide["coverage_expected"] + 0.05)


def test_reliability_counts(dtype):
    ensemble, truth = fields(0, 4, dtype=dtype), fields(1, dtype=dtype)
    got = summarize(tally(jax.random.key(0), GRID, ensemble, truth), GRID)
    for row, threshold in enumerate(tally_module.THRESHOLDS):
        probability = (np.asarray(ensemble)[:, :, 1:-1] > threshold).mean(0)
        occurred = np.asarray(truth)[:, 1:-1] > threshold
        for forecast, bin in ((0, 0), (0.25, 3), (0.5, 5), (0.75, 8), (1, 10)):
            here = probability == forecast
            assert float(got["event_count"][row, bin]) == here.sum()
            if here.any():
                np.testing.assert_allclose(got["event_forecast"][row, bin], forecast, rtol=1e-6)
                np.testing.assert_allclose(got["event_observed"][row, bin], occurred[here].mean(), rtol=1e-6)


def test_ties_are_broken_at_random(calibrated):
    ensembles, truths = (jnp.round(x / 4) * 4 for x in calibrated)
    assert rank_pvalue(summary_of(ensembles, truths)["rank_histogram"]) > 1e-3


def test_ranks_and_histograms_match_numpy(dtype):
    ensemble, truth = fields(0, 10, dtype=dtype, scale=6.0), fields(1, dtype=dtype, scale=6.0)
    got = tally(jax.random.key(0), GRID, ensemble, truth)
    x, y = np.asarray(ensemble)[:, :, 1:-1], np.asarray(truth)[:, 1:-1]
    np.testing.assert_array_equal(got.ranks, np.bincount((x < y).sum(0).ravel(), minlength=11))
    edges = np.linspace(-14.25, 14.25, 58)
    assert abs(x).max() > 14.25  # the end bins hold what lies beyond
    for row, values in enumerate((y, x[:8])):
        np.testing.assert_array_equal(got.histogram[row], np.histogram(np.clip(values, -14.2, 14.2), edges)[0])


def test_spectra_add_up_to_energy_and_enstrophy(dtype):
    inside = shells(GRID) <= min(GRID.kmax, GRID.lmax)
    amplitudes = jax.vmap(lambda f: to_spectral(GRID, f))(fields(0, 5, dtype=dtype))
    amplitudes = amplitudes * jnp.asarray(inside, dtype)
    ensemble = jax.vmap(lambda a: to_physical(GRID, a))(amplitudes)
    got = tally(jax.random.key(0), GRID, ensemble[1:], ensemble[0])
    for sums, total in ((got.energy, energy), (got.enstrophy, enstrophy)):
        each = [total(GRID, a) for a in amplitudes]
        expected = [each[0], total(GRID, amplitudes[1:].mean(0)), np.mean(each[1:])]
        np.testing.assert_allclose(sums.sum(1), expected, rtol=20 * TOLERANCE[dtype])


def test_structure_functions_of_one_mode(dtype):
    # ω = A cos(kx) sin(ly): ω(x + r) − ω(x) = −2A sin(kr/2) sin(kx + kr/2) sin(ly).
    amplitude, k, l = 2.5, 3, 2  # noqa: E741
    wave = amplitude * np.cos(k * GRID.x)[:, None] * np.sin(l * GRID.y)
    truth = jnp.asarray(wave, dtype)
    got = summarize(tally(jax.random.key(0), GRID, jnp.stack([truth, 2 * truth] * 2), truth), GRID)
    r = 2 * np.pi / GRID.nx * np.array([1, 2, 4, 8])  # below half of 32
    np.testing.assert_allclose(got["separation"], r, rtol=1e-6)
    interior = (GRID.ny - 1) / (GRID.ny - 2)  # sin² and sin⁴ vanish on the walls
    second = 2 * amplitude**2 * np.sin(k * r / 2) ** 2 * 0.5 * interior
    fourth = 16 * amplitude**4 * np.sin(k * r / 2) ** 4 * (3 / 8) ** 2 * interior
    tolerance = 10 * TOLERANCE[dtype]
    np.testing.assert_allclose(got["structure_truth"][1], second, rtol=tolerance)
    np.testing.assert_allclose(got["structure_truth"][3], fourth, rtol=tolerance)
    for p in range(1, 5):
        np.testing.assert_allclose(
            got["structure_members"][p - 1], (1 + 2**p) / 2 * got["structure_truth"][p - 1], rtol=tolerance
        )
        step = np.roll(wave, -4, axis=0) - wave
        np.testing.assert_allclose(
            got["structure_truth"][p - 1, 2], (abs(step) ** p)[:, 1:-1].mean(), rtol=tolerance, atol=1e-6
        )


def test_merged_halves_equal_the_whole(dtype):
    keys = jax.random.split(jax.random.key(0), 4)
    ensembles, truths = fields(0, 4, 4, dtype=dtype), fields(1, 4, dtype=dtype)

    def step(carry, inputs):
        key, ensemble, truth = inputs
        return tally_module.merge(carry, tally_module.frame_tally(key, GRID, ensemble, truth)), None

    @jax.jit
    def scan(*inputs):
        return jax.lax.scan(step, tally_module.empty_tally(GRID, 4, dtype), inputs)[0]

    one, two, three, four = (tally(keys[i], GRID, ensembles[i], truths[i]) for i in range(4))
    whole, halves = (
        scan(keys, ensembles, truths),
        tally_module.merge(tally_module.merge(one, two), tally_module.merge(three, four)),
    )
    assert whole.frames == 4 and whole.ranks.sum() == 4 * GRID.nx * (GRID.ny - 2)
    for name, a, b in zip(tally_module.Tally._fields, whole, halves):
        assert a.dtype in (jnp.int32, dtype)
        np.testing.assert_allclose(a, b, rtol=10 * TOLERANCE[dtype], err_msg=name)
    plain = summarize(whole, GRID)
    expected = np.sqrt(5 / 4 * np.mean(np.var(ensembles, axis=1, ddof=1, dtype=float)))
    expected /= np.sqrt(np.mean((np.asarray(ensembles, float).mean(1) - np.asarray(truths, float)) ** 2))
    np.testing.assert_allclose(plain["spread_skill"], expected, rtol=10 * TOLERANCE[dtype])


def test_jit_changes_nothing():
    arrays = jax.random.key(0), GRID, fields(0, 4), fields(1)
    plain, jitted = tally_module.frame_tally(*arrays), tally(*arrays)
    for name, a, b in zip(tally_module.Tally._fields, plain, jitted):
        np.testing.assert_allclose(a, b, rtol=1e-12, err_msg=name)
    plain, jitted = tally_module.summarize(plain, GRID), summarize(jitted, GRID)
    for name, value in plain.items():
        np.testing.assert_allclose(value, jitted[name], rtol=1e-12, err_msg=name)


def test_one_member_has_no_interval():
    got = summarize(tally_module.empty_tally(GRID, 1)._replace(ranks=jnp.asarray([3, 7], jnp.int32)), GRID)
    assert np.all(got["coverage_expected"] == 1) and np.all(got["coverage_observed"] == 1)


def test_log_spectral_distance():
    reference = jnp.asarray([0.0, 1.0, 2.0, 4.0])
    spectrum = reference.at[0].set(9.0) * jnp.asarray([1.0, 10.0, 1.0, 0.1])
    np.testing.assert_allclose(spectra.log_spectral_distance(spectrum, reference), np.sqrt(200 / 3))
    assert spectra.log_spectral_distance(reference, reference) == 0
    empty = spectra.log_spectral_distance(jnp.zeros(4), reference, floor=1e-6)
    np.testing.assert_allclose(empty, np.sqrt(np.mean((60 + 10 * np.log10([1 / 4, 1 / 2, 1])) ** 2)))


# Observations and seeds


def test_observation_fit(dtype):
    rng = np.random.default_rng(0)
    values, predicted = rng.normal(size=6), rng.normal(size=(5, 6))
    variance, mask = rng.uniform(0.5, 2, size=6), np.array([1, 1, 0, 1, 0, 1], bool)
    innovation, total = values - predicted.mean(0), variance + predicted.var(0, ddof=1)
    values[2], predicted[:, 4], variance[2] = np.nan, np.inf, np.nan  # sensors that are off

    def fit(mask, variance):
        y, hx = jnp.asarray(values, dtype), jnp.asarray(predicted, dtype)
        return jax.jit(fit_module.observation_fit)(y, hx, jnp.asarray(mask), variance)

    got = fit(mask, jnp.asarray(variance, dtype))
    assert got["count"] == 4 and got["rmse"].dtype == got["chi2"].dtype == dtype
    np.testing.assert_allclose(got["rmse"], np.sqrt((innovation[mask] ** 2).mean()), rtol=10 * TOLERANCE[dtype])
    np.testing.assert_allclose(got["chi2"], (innovation**2 / total)[mask].mean(), rtol=10 * TOLERANCE[dtype])
    none = fit(np.zeros(6, bool), 0.01)
    assert [float(none[name]) for name in ("rmse", "chi2", "count")] == [0, 0, 0]


def test_chi2_is_one_for_consistent_innovations():
    rng = np.random.default_rng(0)
    background, truth = rng.normal(size=(200, 4000)), rng.normal(size=4000)
    values = truth + 0.5 * rng.normal(size=4000)
    arrays = (jnp.asarray(values), jnp.asarray(background), jnp.ones(4000, bool))
    np.testing.assert_allclose(fit_module.observation_fit(*arrays, 0.25)["chi2"], 1, atol=0.08)
    assert fit_module.observation_fit(*arrays, 1.0)["chi2"] < 0.7


def test_bootstrap_interval():
    values = np.random.default_rng(1).normal([0, 10, 20], size=(40, 3))
    mean, low, high = fit_module.bootstrap_interval(values)
    error = values.std(0, ddof=1) / np.sqrt(40)
    np.testing.assert_allclose(mean, values.mean(0))
    np.testing.assert_allclose(low, mean - 1.96 * error, atol=0.1 * 4 * error.max())
    np.testing.assert_allclose(high, mean + 1.96 * error, atol=0.1 * 4 * error.max())
    np.testing.assert_array_equal(low, fit_module.bootstrap_interval(values, seed=0)[1])
    assert np.all(fit_module.bootstrap_interval(values, level=0.5)[1] > low)
    assert fit_module.bootstrap_interval([4.0]) == (4.0, 4.0, 4.0)
    assert np.isnan(fit_module.bootstrap_interval([1.0, np.nan])).all()  # a failed seed is not dropped


def test_bootstrap_interval_covers():
    # 25 values: the percentile interval holds the true mean in about 93 % of experiments.
    draws = np.random.default_rng(2).normal(size=(25, 600))
    _, low, high = fit_module.bootstrap_interval(draws)
    assert 0.89 < np.mean((low < 0) & (high > 0)) < 0.97


# Errors


def test_wrong_shapes_and_values_raise():
    ensemble, truth = fields(0, 3), fields(1)
    with pytest.raises(ValueError, match=r"estimate: expected shape \(32, 17\), got \(31, 17\)"):
        point.maer(truth[1:], truth)
    with pytest.raises(ValueError, match="truth: expected 2 dimensions"):
        point.rmse(ensemble, ensemble)
    with pytest.raises(ValueError, match="at least 11 points a side"):
        point.mssim_loss(truth[:10], truth[:10])
    for score in (point.crps, point.spread_skill, point.error_spread_correlation, point.frame_scores):
        with pytest.raises(ValueError, match="ensemble: expected 3 dimensions"):
            score(truth, truth)
        with pytest.raises(ValueError, match="ensemble: expected shape"):
            jax.jit(score)(ensemble[:, 1:], truth)
    with pytest.raises(ValueError, match="ensemble: expected 3 dimensions"):
        point.spread(truth)
    with pytest.raises(ValueError, match=r"truth: expected shape \(32, 17\)"):
        tally_module.frame_tally(jax.random.key(0), GRID, ensemble[:, 2:], truth[2:])
    with pytest.raises(ValueError, match="one grid and ensemble size"):
        tally_module.merge(tally_module.empty_tally(GRID, 3), tally_module.empty_tally(GRID, 4))
    with pytest.raises(ValueError, match="tallied on this grid"):
        tally_module.summarize(tally_module.empty_tally(GRID, 3), ChannelGrid(64, 33))
    with pytest.raises(ValueError, match="spectrum: expected shape"):
        spectra.log_spectral_distance(jnp.ones(3), jnp.ones(4))
    with pytest.raises(ValueError, match="predicted: expected shape"):
        fit_module.observation_fit(jnp.ones(3), jnp.ones((2, 4)), jnp.ones(3, bool), 0.1)
    with pytest.raises(ValueError, match="mask: expected shape"):
        fit_module.observation_fit(jnp.ones(3), jnp.ones((2, 3)), jnp.ones(2, bool), 0.1)
    with pytest.raises(ValueError, match="variance: expected shape"):
        fit_module.observation_fit(jnp.ones(3), jnp.ones((2, 3)), jnp.ones(3, bool), jnp.ones(2))
    for values in (3.0, []):
        with pytest.raises(ValueError, match="at least one value"):
            fit_module.bootstrap_interval(values)
    with pytest.raises(ValueError, match="level: expected a number between 0 and 1"):
        fit_module.bootstrap_interval([1.0, 2.0], level=95)


def test_every_score_has_an_aim_or_none():
    wanted = {"maer": "least", "crps_block4": "least", "energy_distance_mean": "least", "spread_skill": "one"}
    wanted |= {"spread_skill_block8": "one", "observation_chi2_background": "one", "error_spread_correlation": "most"}
    wanted |= {"spread": "", "observation_chi2_analysis": "", "variance_block4": "", "error_block4": ""}
    assert {name: aim(name) for name in wanted} == wanted
