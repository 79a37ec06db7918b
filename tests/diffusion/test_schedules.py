"""Noise levels against their formulas, in the variance-preserving and the variance-exploding view."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrda.diffusion.schedules import (
    VP_SCHEDULE,
    VPSchedule,
    edm_sigmas,
    log_snr_sigmas,
    noise_level,
    sigma_grid,
    vp_sigmas,
)


def test_the_schedule_is_the_product_of_its_steps():
    alpha_bar, expected = 1.0, []
    for t in range(1000):
        alpha_bar *= 1 - (1e-4 + (0.02 - 1e-4) * t / 999)
        expected.append(np.sqrt((1 - alpha_bar) / alpha_bar))
    got = VP_SCHEDULE.sigmas()
    assert got.shape == (1000,) and got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-11)
    assert alpha_bar == pytest.approx(4.0358e-5, rel=1e-4)  # the published schedule's end
    np.testing.assert_allclose(VPSchedule(steps=1, beta_start=0.2, beta_end=0.5).sigmas(), [0.5])


def test_noise_level_is_the_root_of_alpha_bar(dtype):
    alpha_bar = np.cumprod(1 - VP_SCHEDULE.betas())
    np.testing.assert_allclose(noise_level(VP_SCHEDULE.sigmas()), np.sqrt(alpha_bar), rtol=1e-11)
    got = noise_level(jnp.asarray([0.0, 0.75], dtype))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, [1, 0.8], rtol=1e-6)
    assert noise_level(0.75) == pytest.approx(0.8)


def test_edm_grid_is_uniform_in_its_root():
    got = edm_sigmas(5, 0.01, 50.0, rho=3.0)
    root = got[:-1] ** (1 / 3)
    np.testing.assert_allclose(np.diff(root), (0.01 ** (1 / 3) - 50 ** (1 / 3)) / 4, rtol=1e-10)
    np.testing.assert_allclose(got[[0, 4]], [50, 0.01], rtol=1e-10)
    # The third of 18 levels, by hand from eq. 5.
    by_hand = (80 ** (1 / 7) + 2 / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    assert edm_sigmas(18)[2] == pytest.approx(by_hand, rel=1e-12)


def test_log_grid_is_uniform_in_log():
    got = log_snr_sigmas(7, 0.01, 50.0)
    np.testing.assert_allclose(np.diff(np.log(got[:-1])), -np.log(5000) / 6, rtol=1e-12)
    np.testing.assert_allclose(got[[0, 6]], [50, 0.01], rtol=1e-12)


def test_vp_grid_takes_levels_of_the_schedule():
    full = VP_SCHEDULE.sigmas()
    np.testing.assert_array_equal(vp_sigmas(20), np.append(full[np.arange(1000, 0, -50) - 1], 0))
    np.testing.assert_array_equal(vp_sigmas(1000), np.append(full[::-1], 0))
    np.testing.assert_array_equal(vp_sigmas(1), [full[-1], 0])
    short = VPSchedule(steps=10)
    np.testing.assert_array_equal(vp_sigmas(4, short), np.append(short.sigmas()[[9, 7, 4, 2]], 0))
    for steps in (3, 7, 30, 333, 999):  # steps that do not divide 1000
        index = np.searchsorted(full, vp_sigmas(steps)[:-1])
        np.testing.assert_array_equal(full[index], vp_sigmas(steps)[:-1])
        assert set(np.diff(index)) <= {-(1000 // steps), -(1000 // steps) - 1}


@pytest.mark.parametrize("name", ["edm", "vp", "log"])
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_every_grid_decreases_to_zero(name, steps):
    got = sigma_grid(name, steps)
    assert isinstance(got, np.ndarray) and got.dtype == np.float64
    assert got.shape == (steps + 1,) and got[-1] == 0 and np.all(np.diff(got) < 0) and np.isfinite(got).all()
    assert got[0] == pytest.approx(VP_SCHEDULE.sigmas()[-1] if name == "vp" else 80)


def test_a_grid_by_name_is_that_grid():
    np.testing.assert_array_equal(sigma_grid("edm", 5, 0.1, 9.0, 3.0), edm_sigmas(5, 0.1, 9.0, 3.0))
    np.testing.assert_array_equal(sigma_grid("log", 5, 0.1, 9.0), log_snr_sigmas(5, 0.1, 9.0))
    short = VPSchedule(steps=10)
    np.testing.assert_array_equal(sigma_grid("vp", 5, schedule=short), vp_sigmas(5, short))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: sigma_grid("edn", 5), "grid: expected one of edm, vp, log; got 'edn'; did you mean 'edm'"),
        (lambda: sigma_grid("edm", 0), "steps: expected at least 1, got 0"),
        (lambda: sigma_grid("log", -1), "steps: expected at least 1, got -1"),
        (lambda: vp_sigmas(0), "steps: expected at least 1, got 0"),
        (lambda: vp_sigmas(1001), "steps: expected at most the schedule's 1000, got 1001; take fewer"),
        (lambda: edm_sigmas(5, 0.0), "sigma_min: expected a finite number above 0, got 0.0"),
        (lambda: edm_sigmas(5, 0.1, np.inf), "sigma_max: expected a finite number above 0, got inf"),
        (lambda: log_snr_sigmas(5, 2.0, 1.0), "sigma_min: expected a number below sigma_max = 1.0, got 2.0"),
        (lambda: edm_sigmas(5, rho=0.0), "rho: expected a finite number above 0"),
        (lambda: VPSchedule(steps=0), "steps: expected at least 1, got 0"),
        (lambda: VPSchedule(beta_start=0.0), "expected 0 < beta_start ≤ beta_end < 1, got 0.0 and 0.02"),
        (lambda: VPSchedule(beta_start=0.1, beta_end=0.05), "expected 0 < beta_start ≤ beta_end < 1"),
        (lambda: VPSchedule(beta_end=1.0), "expected 0 < beta_start ≤ beta_end < 1"),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()
