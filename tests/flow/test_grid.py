"""Transforms, derivatives, inversion, symmetries and regridding against closed forms on the grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrda.flow import grid as grids
from jaxsrda.flow.grid import ChannelGrid, bases, regrid, regrid_hat, to_physical, to_spectral

LR, HR = ChannelGrid(32, 17), ChannelGrid(128, 65)
ODD = ChannelGrid(30, 20)  # neither a power of two nor a multiple of three throughout
GRIDS = pytest.mark.parametrize("grid", [LR, HR, ODD], ids=str)
TOLERANCE = {"float32": 3e-6, "float64": 1e-13}


def amplitudes(grid, seed=0, dtype="float64"):
    """Random amplitudes that fall off with the wavenumber."""
    values = np.random.default_rng(seed).normal(size=grid.spectral_shape) / bases(grid).k2 ** 0.25
    return jnp.asarray(values, dtype)


def close(got, expected, dtype, factor=1.0):
    """Equal up to rounding of the largest value."""
    got, expected = np.asarray(got, float), np.asarray(expected, float)
    np.testing.assert_allclose(got, expected, rtol=0, atol=factor * TOLERANCE[dtype] * abs(expected).max())


def modes(grid, k, l, phase=0.0):  # noqa: E741
    """cos(kx + phase) sin(ly) on the grid's points."""
    return np.cos(k * grid.x + phase)[:, None] * np.sin(l * grid.y)


def area_mean(grid, field):
    """Area mean of a field on the grid by the trapezoidal rule, half weight on the walls."""
    field = np.asarray(field, float)
    return (field[:, 1:-1].sum() + field[:, [0, -1]].sum() / 2) / (grid.nx * (grid.ny - 1))


# The grid


def test_coordinates_and_resolved_modes():
    assert LR.shape == (32, 17) and (LR.kmax, LR.lmax) == (10, 10) and LR.spectral_shape == (21, 10)
    assert (HR.kmax, HR.lmax) == (42, 42)
    np.testing.assert_allclose(np.diff(HR.x), HR.spacing[0])
    np.testing.assert_allclose(np.diff(HR.y), HR.spacing[1])
    assert HR.x[0] == HR.y[0] == 0 and HR.y[-1] == np.pi
    np.testing.assert_allclose(HR.x[-1] + HR.spacing[0], 2 * np.pi)
    # The levels nest: every point of the coarse grid is one of the fine grid's.
    np.testing.assert_allclose(HR.x[::4], LR.x)
    np.testing.assert_allclose(HR.y[::4], LR.y)


def test_grids_are_static_and_hashable():
    assert hash(ChannelGrid(32, 17)) == hash(LR) and ChannelGrid(32, 17) == LR != HR
    assert bases(ChannelGrid(32, 17)) is bases(LR)  # one set of matrices a grid
    traced = jax.jit(to_physical, static_argnums=0)
    np.testing.assert_allclose(traced(LR, amplitudes(LR)), to_physical(LR, amplitudes(LR)), rtol=0, atol=1e-13)


@pytest.mark.parametrize("nx, ny", [(31, 17), (2, 17), (0, 17), (-4, 17), (32, 3), (32, 0)])
def test_bad_grids_raise(nx, ny):
    with pytest.raises(ValueError, match=f"expected an even nx of at least 4 and ny of at least 4, got {nx} × {ny}"):
        ChannelGrid(nx, ny)


def test_wrong_shapes_raise_with_the_remedy():
    omega_hat, omega = amplitudes(LR), to_physical(LR, amplitudes(LR))
    functions = {
        to_physical: (LR,),
        grids.dx_hat: (LR,),
        grids.streamfunction_hat: (LR,),
        grids.velocity: (LR,),
        grids.reflect_hat: (LR,),
        grids.energy: (LR,),
        grids.spectra: (LR,),
        regrid_hat: (LR, HR),
    }
    for function, arguments in functions.items():
        with pytest.raises(ValueError, match=r"omega_hat: expected 2 dimensions .*jax\.vmap"):
            function(*arguments, omega_hat[None])
        with pytest.raises(ValueError, match=r"omega_hat: expected shape \(21, 10\), got \(20, 10\)"):
            function(*arguments, omega_hat[1:])
    with pytest.raises(ValueError, match=r"omega_hat: expected 2 dimensions .*jax\.vmap"):
        grids.shift_hat(LR, omega_hat[None], 0.5)
    for function, arguments in ((to_spectral, (LR,)), (regrid, (LR, HR))):
        with pytest.raises(ValueError, match=r"omega: expected 2 dimensions \(32, 17\), got shape \(1, 32, 17\).*vmap"):
            function(*arguments, omega[None])
        with pytest.raises(ValueError, match=r"omega: expected shape \(32, 17\), got \(32, 16\)"):
            function(*arguments, omega[:, 1:])
    with pytest.raises(ValueError, match=r"regridding method: expected one of .*did you mean 'bicubic'"):
        regrid(LR, HR, omega, "bicubik")


# Transforms


@GRIDS
def test_round_trips(grid, dtype):
    omega_hat = amplitudes(grid, dtype=dtype)
    omega = to_physical(grid, omega_hat)
    assert omega.dtype == omega_hat.dtype == dtype
    close(to_spectral(grid, omega), omega_hat, dtype)
    close(to_physical(grid, to_spectral(grid, omega)), omega, dtype)
    assert np.all(omega[:, [0, -1]] == 0)


@GRIDS
def test_amplitudes_are_those_of_the_modes(grid, dtype):
    for k, l in ((0, 1), (1, 2), (grid.kmax, grid.lmax)):  # noqa: E741
        for row, phase in ((k, 0.0), (grid.kmax + k, -np.pi / 2)):  # cos kx, sin kx
            if k == 0 and phase:
                continue
            expected = np.zeros(grid.spectral_shape)
            expected[row, l - 1] = 2.5
            close(to_spectral(grid, jnp.asarray(2.5 * modes(grid, k, l, phase), dtype)), expected, dtype)


@GRIDS
def test_modes_beyond_two_thirds_are_dropped(grid, dtype):
    kept = modes(grid, 1, 1)
    beyond = modes(grid, grid.kmax + 1, 1, 0.3) + modes(grid, 2, grid.lmax + 1) + modes(grid, grid.nx // 2, 2)
    got = to_physical(grid, to_spectral(grid, jnp.asarray(kept + beyond, dtype)))
    close(got, kept, dtype)


def test_vmap_equals_loop(dtype):
    batch = jnp.stack([amplitudes(LR, seed, dtype) for seed in range(3)])
    many = jax.vmap(lambda a: to_spectral(LR, to_physical(LR, a)))(batch)
    for got, one in zip(many, batch):
        close(got, one, dtype)


# Derivatives and inversion


@GRIDS
def test_derivative_in_x_of_modes(grid, dtype):
    for k, l in ((0, 2), (3, 1), (grid.kmax, 3)):  # noqa: E741
        field = jnp.asarray(modes(grid, k, l, 0.4), dtype)
        got = to_physical(grid, grids.dx_hat(grid, to_spectral(grid, field)))
        expected = -k * np.sin(k * grid.x + 0.4)[:, None] * np.sin(l * grid.y)
        np.testing.assert_allclose(got, expected, rtol=0, atol=4 * TOLERANCE[dtype] * max(k, 1))


@GRIDS
def test_velocity_of_modes(grid, dtype):
    # ω = A cos(kx + a) sin(ly), ψ = −ω/κ²: u = −∂ψ/∂y = A l cos(kx + a) cos(ly)/κ², v = ∂ψ/∂x.
    for k, l in ((0, 1), (3, 2), (grid.kmax, grid.lmax)):  # noqa: E741
        omega_hat = to_spectral(grid, jnp.asarray(1.5 * modes(grid, k, l, 0.4), dtype))
        wave = k * grid.x + 0.4
        scale = 1.5 / (k**2 + l**2)
        u, v = grids.velocity(grid, omega_hat)
        psi = to_physical(grid, grids.streamfunction_hat(grid, omega_hat))
        tolerance = {"rtol": 0, "atol": 10 * TOLERANCE[dtype] * scale * max(k, l)}
        np.testing.assert_allclose(u, scale * l * np.cos(wave)[:, None] * np.cos(l * grid.y), **tolerance)
        np.testing.assert_allclose(v, scale * k * np.sin(wave)[:, None] * np.sin(l * grid.y), **tolerance)
        np.testing.assert_allclose(psi, -scale * np.cos(wave)[:, None] * np.sin(l * grid.y), **tolerance)


@GRIDS
def test_inversion_undoes_the_laplacian(grid, dtype):
    psi_hat = amplitudes(grid, 3, dtype)
    omega_hat = -psi_hat * jnp.asarray(bases(grid).k2, dtype)
    close(grids.streamfunction_hat(grid, omega_hat), psi_hat, dtype)


# Energy and spectra


@GRIDS
def test_energy_and_enstrophy_match_quadrature(grid, dtype):
    omega_hat = amplitudes(grid, dtype=dtype)
    u, v = (np.asarray(f, float) for f in grids.velocity(grid, omega_hat))
    omega = np.asarray(to_physical(grid, omega_hat), float)
    rtol = 10 * TOLERANCE[dtype]
    np.testing.assert_allclose(grids.energy(grid, omega_hat), area_mean(grid, u**2 + v**2) / 2, rtol=rtol)
    np.testing.assert_allclose(grids.enstrophy(grid, omega_hat), area_mean(grid, omega**2) / 2, rtol=rtol)
    # Of one mode by hand: ω = 2 cos(3x) sin(4y) has ⟨ω²⟩/2 = 1/2 and E = enstrophy/κ² = 1/50.
    one = to_spectral(grid, jnp.asarray(2 * modes(grid, 3, 4), dtype))
    np.testing.assert_allclose([grids.enstrophy(grid, one), grids.energy(grid, one)], [0.5, 0.02], rtol=rtol)


@GRIDS
def test_spectra_sum_and_shells(grid, dtype):
    omega_hat = amplitudes(grid, dtype=dtype)
    last = min(grid.kmax, grid.lmax)
    inside = jnp.asarray(grids.shells(grid) <= last, dtype)
    kinetic, enstrophy = grids.spectra(grid, omega_hat)
    assert kinetic.shape == enstrophy.shape == (last + 1,)
    rtol = 10 * TOLERANCE[dtype]
    np.testing.assert_allclose(kinetic.sum(), grids.energy(grid, omega_hat * inside), rtol=rtol)
    np.testing.assert_allclose(enstrophy.sum(), grids.enstrophy(grid, omega_hat * inside), rtol=rtol)
    assert 0 < float(inside.mean()) < 1  # the corners are not counted
    kinetic, enstrophy = grids.spectra(grid, to_spectral(grid, jnp.asarray(modes(grid, 3, 4, 0.2), dtype)))
    np.testing.assert_allclose(kinetic, np.eye(last + 1)[5] * 0.125 / 25, atol=1e-2 * TOLERANCE[dtype])
    np.testing.assert_allclose(enstrophy, np.eye(last + 1)[5] * 0.125, atol=TOLERANCE[dtype])


# Symmetries


@GRIDS
def test_shift_and_reflection_match_the_physical_ones(grid, dtype):
    omega_hat = amplitudes(grid, dtype=dtype)
    omega = np.asarray(to_physical(grid, omega_hat))
    for points in (1, 5, -3):
        moved = grids.shift_hat(grid, omega_hat, jnp.asarray(points * grid.spacing[0], dtype))
        close(to_physical(grid, moved), np.roll(omega, points, axis=0), dtype, 10)
    close(to_physical(grid, grids.reflect_hat(grid, omega_hat)), -omega[:, ::-1], dtype)
    # Between grid points: two halves are one whole, and energy stays.
    half = jnp.asarray(grid.spacing[0] / 2, dtype)
    once = grids.shift_hat(grid, omega_hat, half)
    close(to_physical(grid, grids.shift_hat(grid, once, half)), np.roll(omega, 1, axis=0), dtype, 10)
    np.testing.assert_allclose(grids.energy(grid, once), grids.energy(grid, omega_hat), rtol=10 * TOLERANCE[dtype])


# Regridding


def full_field(grid, seed=0, dtype="float64"):
    """A field with every mode below the Nyquist wavenumbers, far beyond those the solver keeps."""
    rng = np.random.default_rng(seed)
    k, l = np.arange(grid.nx // 2), np.arange(1, grid.ny - 1)  # noqa: E741
    cos, sin = np.cos(np.outer(grid.x, k)), np.sin(np.outer(grid.x, k))
    in_y = np.sin(np.outer(l, grid.y))
    field = (cos @ rng.normal(size=(len(k), len(l))) + sin @ rng.normal(size=(len(k), len(l)))) @ in_y
    return jnp.asarray(field, dtype)


def test_spectral_regrid_up_and_back_is_exact(dtype):
    omega = full_field(LR, dtype=dtype)
    up = regrid(LR, HR, omega)
    close(regrid(HR, LR, up), omega, dtype, 3)
    close(up[::4, ::4], omega, dtype, 3)  # no shift: the nested points keep their values
    assert np.all(np.asarray(up)[:, [0, -1]] == 0) and up.dtype == dtype


def test_spectral_regrid_down_is_truncation(dtype):
    low = np.asarray(regrid(LR, HR, full_field(LR)))  # all that the coarse grid can hold
    high = modes(HR, 16, 3) + modes(HR, 2, 16) + modes(HR, 40, 41, 0.3) + modes(HR, 25, 1)
    close(regrid(HR, LR, jnp.asarray(low + high, dtype)), low[::4, ::4], dtype, 3)


@pytest.mark.parametrize("source, target", [(HR, LR), (LR, HR), (ODD, LR), (LR, ODD), (LR, ChannelGrid(64, 17))])
def test_regrid_hat_agrees_with_regrid(source, target, dtype):
    """For fields of modes that both grids keep, truncating amplitudes and regridding the field are one."""
    omega_hat = amplitudes(source, dtype=dtype)
    keep = (bases(source).k <= target.kmax) & (bases(source).l <= target.lmax)
    omega_hat = omega_hat * jnp.asarray(keep, dtype)
    got = regrid_hat(source, target, omega_hat)
    assert got.shape == target.spectral_shape
    close(to_physical(target, got), regrid(source, target, to_physical(source, omega_hat)), dtype, 3)
    np.testing.assert_array_equal(regrid_hat(target, source, got), omega_hat)


def test_regrid_hat_keeps_the_low_modes_only():
    omega_hat = amplitudes(HR)
    got = regrid_hat(HR, LR, omega_hat)
    back = regrid_hat(LR, HR, got)
    keep = (bases(HR).k <= LR.kmax) & (bases(HR).l <= LR.lmax)
    np.testing.assert_array_equal(back, np.where(keep, omega_hat, 0))


def test_bicubic_is_third_order():
    def error(n):
        source, target = ChannelGrid(2 * n, n + 1), ChannelGrid(14 * n, 7 * n + 1)  # never only nodes

        def field(grid):
            return jnp.asarray(modes(grid, 2, 3, 0.3) + 0.5 * modes(grid, 3, 1))

        return np.abs(regrid(source, target, field(source), "bicubic") - field(target)).max()

    errors = [error(n) for n in (16, 32, 64)]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(orders >= 2.8) and errors[-1] < 2e-3, (orders, errors)


def test_bicubic_is_periodic_and_odd(dtype):
    omega = full_field(LR, dtype=dtype)
    up = regrid(LR, HR, omega, "bicubic")
    close(up[::4, ::4], omega, dtype)  # it interpolates
    close(regrid(LR, HR, jnp.roll(omega, 3, 0), "bicubic"), np.roll(up, 12, 0), dtype)  # periodic in x
    close(regrid(LR, HR, -omega[:, ::-1], "bicubic"), -np.asarray(up)[:, ::-1], dtype)  # both walls alike
    assert np.all(np.asarray(up)[:, [0, -1]] == 0)
    # Odd about the wall: sin y is smooth across it, so the first cell is as good as the inner ones.
    wave = jnp.asarray(modes(LR, 0, 1), dtype)
    error = np.abs(np.asarray(regrid(LR, HR, wave, "bicubic")) - modes(HR, 0, 1))
    assert error[:, 1:4].max() < 1.5 * error[:, 4:-4].max() + 1e-5


def test_block_means(dtype):
    omega = full_field(HR, dtype=dtype)
    got = regrid(HR, LR, omega, "block")
    means = np.asarray(omega, float)[:, :-1].reshape(32, 4, 16, 4).mean((1, 3))
    close(got[:, :-1], means, dtype)
    assert np.all(got[:, -1] == 0)
    uneven = regrid(HR, ChannelGrid(64, 17), omega, "block")
    close(uneven[:, :-1], np.asarray(omega, float)[:, :-1].reshape(64, 2, 16, 4).mean((1, 3)), dtype)


@pytest.mark.parametrize("target", [ChannelGrid(30, 17), ChannelGrid(32, 16), ChannelGrid(256, 129)], ids=str)
def test_block_means_need_sizes_that_divide(target):
    with pytest.raises(
        ValueError, match=r"block means need .* to divide the source's 128 and 64; use method='spectral'"
    ):
        regrid(HR, target, full_field(HR), "block")
