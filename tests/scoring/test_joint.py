"""Joint scores against independent oracles; noise that points cannot tell from fields is told from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scoringrules
from helpers import quick_jit

from jaxsrda.flow.grid import ChannelGrid, to_physical
from jaxsrda.scoring import joint
from jaxsrda.scoring.joint import JOINT_SCORES, block_means, differences, energy_score, laplacian, variogram_score
from jaxsrda.scoring.point import SCORES, Scored, crps, frame_scores

GRID = ChannelGrid(32, 17)
TOLERANCE = {"float32": 2e-4, "float64": 1e-10}


def fields(seed, *shape, dtype="float64"):
    """Independent normal numbers on GRID, zero on the walls."""
    values = np.random.default_rng(seed).normal(size=(*shape, *GRID.shape))
    values[..., [0, -1]] = 0.0
    return jnp.asarray(values, dtype)


# Functionals


def test_block_means_are_means_of_blocks():
    field = fields(0, 3)
    found = block_means(field, 8)
    assert found.shape == (3, 4, 2)
    np.testing.assert_allclose(found[1, 2, 0], field[1, 16:24, :8].mean(), rtol=1e-12)
    np.testing.assert_allclose(found[2, 0, 1], field[2, :8, 8:16].mean(), rtol=1e-12)


def test_differences_are_the_gradient_times_the_spacing():
    field = fields(1, 2)
    np.testing.assert_allclose(differences(field)[:, 4], field[:, 5] - field[:, 4])
    np.testing.assert_allclose(differences(field)[:, -1], field[:, 0] - field[:, -1])


def test_the_laplacian_of_a_mode_is_minus_its_wavenumber_squared():
    hat = jnp.zeros(GRID.spectral_shape).at[3, 4].set(1.0)
    mode = to_physical(GRID, hat)
    found = laplacian(mode[None])[0]
    ratio = float(jnp.vdot(found, mode) / jnp.vdot(mode, mode))
    np.testing.assert_allclose(found, ratio * mode, atol=1e-10)
    x, y = (np.asarray(a)[:, None] if i == 0 else np.asarray(a) for i, a in enumerate((GRID.x, GRID.y)))
    smooth = np.sin(2 * x) * np.sin(3 * y)
    np.testing.assert_allclose(laplacian(jnp.asarray(smooth)[None])[0], -13 * smooth, atol=1e-8)


# Scores


@pytest.mark.parametrize("members", [1, 2, 7])
def test_the_energy_score_is_that_of_scoringrules(dtype, members):
    """Of whole fields as vectors, scaled from the norm to the root mean square; the fair estimator."""
    ensemble, truth = fields(2, members, dtype=dtype), fields(3, dtype=dtype)
    x, y = np.asarray(ensemble, float).reshape(members, -1), np.asarray(truth, float).ravel()
    skill = np.linalg.norm(x - y, axis=1).mean()
    pairs = np.linalg.norm(x[:, None] - x, axis=-1).sum() / max(1, 2 * members * (members - 1))
    wanted = (skill - pairs) / np.sqrt(y.size)
    found = energy_score(ensemble, truth)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, wanted, rtol=TOLERANCE[dtype])
    if members > 1:  # the oracle's own estimator has M² in the place of M (M − 1)
        biased = scoringrules.es_ensemble(y, x) / np.sqrt(y.size)
        np.testing.assert_allclose(biased, (skill - pairs * (members - 1) / members) / np.sqrt(y.size), rtol=1e-10)


def test_the_energy_score_is_fair():
    """Few members and many have the same expectation."""
    many = fields(4, 4000)
    truth = fields(5, 500)
    scores = {
        members: np.mean(
            [energy_score(many[i * members : (i + 1) * members], truth[i]) for i in range(4000 // members // 4)]
        )
        for members in (2, 8)
    }
    np.testing.assert_allclose(scores[2], scores[8], rtol=0.01)


@pytest.mark.parametrize("order", [0.5, 1.0])
def test_the_variogram_score_is_that_of_scoringrules(dtype, order, monkeypatch):
    """With all pairs of one row of points, each once."""
    monkeypatch.setattr(joint, "VARIOGRAM_STEPS", (1,))
    ensemble, truth = fields(6, 5, dtype=dtype), fields(7, dtype=dtype)
    x, y = np.asarray(ensemble, float), np.asarray(truth, float)

    def pairs(a, b):  # of two-point fields, both orders of which the oracle counts
        values = [
            scoringrules.vs_ensemble(np.stack([a[0], b[0]]), np.stack([m, n], -1), p=order) / 2
            for a, b, m, n in zip(a, b, x[:, 0].T, x[:, 1].T)
        ]
        return np.mean(values)

    # One pair of neighbours along x in the first column, by the oracle and by hand.
    by_hand = np.mean((np.abs(y[1] - y[0]) ** order - (np.abs(x[:, 1] - x[:, 0]) ** order).mean(0)) ** 2)
    np.testing.assert_allclose(pairs(y[0][:, None], y[1][:, None]), by_hand, rtol=1e-10)
    parts = [np.roll(x, -1, 1) - x, np.diff(x, axis=2)], [np.roll(y, -1, 0) - y, np.diff(y, axis=1)]
    wanted = np.mean([((np.abs(b) ** order - (np.abs(a) ** order).mean(0)) ** 2).mean() for a, b in zip(*parts)])
    np.testing.assert_allclose(variogram_score(ensemble, truth, order), wanted, rtol=TOLERANCE[dtype])


def test_scores_by_name_are_those_of_their_functionals(dtype):
    ensemble, truth, first = fields(8, 6, dtype=dtype), fields(9, dtype=dtype), fields(10, 7, dtype=dtype)
    of = Scored(ensemble, truth, None, None, (first[1:], first[0]))
    near = {"rtol": TOLERANCE[dtype]}
    for size in (4, 8):
        wanted = crps(block_means(ensemble, size), block_means(truth, size))
        np.testing.assert_allclose(JOINT_SCORES[f"crps_block{size}"](of), wanted, **near)
        blocks = np.asarray(block_means(ensemble, size), float)
        np.testing.assert_allclose(
            JOINT_SCORES[f"variance_block{size}"](of), 7 / 6 * blocks.var(0, ddof=1).mean(), **near
        )
        error = (blocks.mean(0) - np.asarray(block_means(truth, size), float)) ** 2
        np.testing.assert_allclose(JOINT_SCORES[f"error_block{size}"](of), error.mean(), **near)
    np.testing.assert_allclose(
        JOINT_SCORES["crps_gradient"](of), crps(differences(ensemble), differences(truth)), **near
    )
    np.testing.assert_allclose(
        JOINT_SCORES["crps_laplacian"](of), crps(laplacian(ensemble), laplacian(truth[None])[0]), **near
    )
    np.testing.assert_allclose(JOINT_SCORES["crps_change"](of), crps(ensemble - first[1:], truth - first[0]), **near)
    estimate = np.asarray(laplacian(ensemble.mean(0)[None]) - laplacian(truth[None]), float)
    np.testing.assert_allclose(JOINT_SCORES["laplacian_rmse"](of), np.sqrt((estimate**2).mean()), **near)
    # An analysis that members are draws around takes the place of their mean.
    analysed = of._replace(analysis=truth)
    assert JOINT_SCORES["error_block4"](analysed) == JOINT_SCORES["laplacian_rmse"](analysed) == 0
    blocks = np.asarray(block_means(ensemble, 4), float)
    np.testing.assert_allclose(JOINT_SCORES["variance_block4"](analysed), blocks.var(0, ddof=1).mean(), **near)


def test_the_change_needs_the_first_frame():
    with pytest.raises(ValueError, match="crps_change: expected the first frame of the cycle, got none"):
        JOINT_SCORES["crps_change"](Scored(fields(0, 2), fields(1)))


def test_all_joint_scores_are_computed_on_request():
    ensemble, truth = fields(11, 3), fields(12)
    wanted = SCORES | JOINT_SCORES
    found = quick_jit(lambda e, t: frame_scores(e, t, None, None, (e, t), wanted))(ensemble, truth)
    assert set(found) == set(wanted) and set(frame_scores(ensemble, truth)) == set(SCORES)
    assert all(jnp.isfinite(value) for value in found.values())


def test_noise_that_points_cannot_tell_is_told():
    """Truths smooth in x; members alike have the CRPS of white noise of their size, and better joint scores."""
    rng = np.random.default_rng(13)
    smooth = rng.normal(size=(41, 4, GRID.ny)).repeat(8, axis=1)
    truth, alike, white = (
        jnp.asarray(smooth[0]),
        jnp.asarray(smooth[1:]),
        jnp.asarray(rng.normal(size=(40, *GRID.shape))),
    )
    one, other = (Scored(e, truth, None, None, (e * 0, truth * 0)) for e in (alike, white))
    np.testing.assert_allclose(crps(alike, truth), crps(white, truth), rtol=0.1)
    for name in ("variogram", "crps_block8", "crps_gradient"):
        assert JOINT_SCORES[name](one) < 0.9 * JOINT_SCORES[name](other), name
    # White noise is underdispersed in the means of blocks: its members' means are all near zero.
    ratio = [JOINT_SCORES["variance_block8"](of) / JOINT_SCORES["error_block8"](of) for of in (one, other)]
    assert 0.6 < ratio[0] < 1.6 and ratio[1] < 0.2


def test_gradients_are_finite_where_members_agree():
    same = jnp.ones((3, *GRID.shape))
    for score in (energy_score, variogram_score):
        assert jnp.isfinite(jax.grad(lambda e, score=score: score(e, 0.5 * same[0]))(same)).all()
