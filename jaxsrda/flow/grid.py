"""The channel grid, its real Fourier × sine basis, and everything linear on it.

A field is ω[nx, ny] on x_i = 2πi/nx, y_j = πj/(ny−1), both walls included.  Its spectral form is
the *real* array ω_hat[2K+1, L] of amplitudes in

    ω(x, y) = Σ_l sin(l y) [ c_0l + Σ_k (c_kl cos kx + s_kl sin kx) ],   rows c_0, c_1…c_K, s_1…s_K,

with K = nx // 3 and L = 2(ny−1) // 3, the modes that the 2/3 rule keeps.  ψ and v share this basis;
u = −∂ψ/∂y lives on cosines.  The transforms are products with the truncated basis matrices: they use
the wall symmetry (no doubled domain), skip the dealiased modes, need no complex numbers, and run
at the speed of matrix products, which on CPU beats FFTs up to 256 × 129; only at 1024 × 513 are
FFTs ahead, by less than a factor of two (`benchmarks/studies/transforms.py`).  All functions take one field;
map over more with `jax.vmap`.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core.checks import check_choice, check_shape
from jaxsrda.core.linalg import matmul


@dataclasses.dataclass(frozen=True)
class ChannelGrid:
    """A channel [0, 2π) × [0, π] of nx × ny points, both walls counted; static and hashable.

    Raises ValueError for fewer than 4 points in either direction or an odd nx.
    """

    nx: int
    ny: int

    def __post_init__(self):
        if self.nx < 4 or self.nx % 2 or self.ny < 4:
            raise ValueError(
                f"ChannelGrid: expected an even nx of at least 4 and ny of at least 4, got {self.nx} × {self.ny}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of a field, (nx, ny)."""
        return self.nx, self.ny

    @property
    def kmax(self) -> int:
        """Largest wavenumber kept in x, nx // 3."""
        return self.nx // 3

    @property
    def lmax(self) -> int:
        """Largest wavenumber kept in y, 2(ny − 1) // 3."""
        return 2 * (self.ny - 1) // 3

    @property
    def spectral_shape(self) -> tuple[int, int]:
        """Shape of a field's spectral form, (2 kmax + 1, lmax)."""
        return 2 * self.kmax + 1, self.lmax

    @property
    def x(self) -> np.ndarray:
        """Coordinates (nx,) in x."""
        return 2 * np.pi * np.arange(self.nx) / self.nx

    @property
    def y(self) -> np.ndarray:
        """Coordinates (ny,) in y, walls at both ends."""
        return np.pi * np.arange(self.ny) / (self.ny - 1)

    @property
    def spacing(self) -> tuple[float, float]:
        """Grid spacings (dx, dy)."""
        return 2 * np.pi / self.nx, np.pi / (self.ny - 1)


class Bases(NamedTuple):
    """Basis matrices of a grid, float64 on the host; `*_inv` project a field on the basis."""

    fourier: np.ndarray  # (nx, 2K+1)
    fourier_dx: np.ndarray  # (nx, 2K+1), x-derivative of the basis
    fourier_inv: np.ndarray  # (2K+1, nx)
    dx_fourier_inv: np.ndarray  # (2K+1, nx), amplitudes of ∂g/∂x from g
    sine: np.ndarray  # (L, ny)
    cosine: np.ndarray  # (L, ny)
    sine_inv: np.ndarray  # (ny, L)
    cosine_inv: np.ndarray  # (ny, L)
    k: np.ndarray  # (2K+1, 1) wavenumber in x of each row
    l: np.ndarray  # (1, L) wavenumber in y of each column  # noqa: E741
    k2: np.ndarray  # (2K+1, L) k² + l²


@functools.cache
def bases(grid: ChannelGrid) -> Bases:
    """The basis matrices of `grid` (cached; numpy float64)."""
    k = np.arange(1, grid.kmax + 1)
    l = np.arange(1, grid.lmax + 1)  # noqa: E741
    fourier = fourier_basis(grid, grid.x)
    cos_kx, sin_kx = fourier[:, 1 : grid.kmax + 1], fourier[:, grid.kmax + 1 :]
    fourier_dx = np.concatenate([np.zeros((grid.nx, 1)), -k * sin_kx, k * cos_kx], axis=1)
    sine, cosine = np.sin(np.outer(l, grid.y)), np.cos(np.outer(l, grid.y))
    sine[:, [0, -1]] = 0.0  # sin(lπ) is zero, not 1e-16
    norm = np.full((2 * grid.kmax + 1, 1), 2.0 / grid.nx)
    norm[0] = 1.0 / grid.nx
    wall_half = np.ones(grid.ny)
    wall_half[[0, -1]] = 0.5
    rows = np.concatenate([[0], k, k]).astype(float)[:, None]
    columns = l.astype(float)[None, :]
    return Bases(
        fourier=fourier,
        fourier_dx=fourier_dx,
        fourier_inv=fourier.T * norm,
        # <∂g/∂x, φ> = −<g, ∂φ/∂x>: the derivative falls on the basis.
        dx_fourier_inv=-fourier_dx.T * norm,
        sine=sine,
        cosine=cosine,
        sine_inv=sine.T * 2 / (grid.ny - 1),
        cosine_inv=(cosine * wall_half).T * 2 / (grid.ny - 1),
        k=rows,
        l=columns,
        k2=rows**2 + columns**2,
    )


def fourier_basis(grid: ChannelGrid, x: np.ndarray) -> np.ndarray:
    """Rows of 1, cos kx, sin kx at the points `x`: (points, 2 kmax + 1)."""
    kx = np.outer(x, np.arange(1, grid.kmax + 1))
    return np.concatenate([np.ones((len(x), 1)), np.cos(kx), np.sin(kx)], axis=1)


def to_spectral(grid: ChannelGrid, omega: Array) -> Array:
    """Amplitudes ω_hat[2K+1, L] of a field ω[nx, ny]; modes beyond the 2/3 rule are dropped."""
    check_shape("omega", omega, grid.shape)
    basis = bases(grid)
    return matmul(basis.fourier_inv, matmul(omega, basis.sine_inv))


def to_physical(grid: ChannelGrid, omega_hat: Array) -> Array:
    """The field ω[nx, ny] of the amplitudes ω_hat[2K+1, L]; zero on both walls."""
    check_shape("omega_hat", omega_hat, grid.spectral_shape)
    basis = bases(grid)
    return matmul(basis.fourier, matmul(omega_hat, basis.sine))


def dx_hat(grid: ChannelGrid, omega_hat: Array) -> Array:
    """Amplitudes of ∂ω/∂x: cos kx → −k sin kx, sin kx → k cos kx."""
    check_shape("omega_hat", omega_hat, grid.spectral_shape)
    k = jnp.asarray(bases(grid).k[1 : grid.kmax + 1], omega_hat.dtype)
    cos, sin = omega_hat[1 : grid.kmax + 1], omega_hat[grid.kmax + 1 :]
    return jnp.concatenate([jnp.zeros_like(omega_hat[:1]), k * sin, -k * cos])


def streamfunction_hat(grid: ChannelGrid, omega_hat: Array) -> Array:
    """Amplitudes of ψ with ∇²ψ = ω and ψ = 0 on the walls: ψ_hat = −ω_hat / (k² + l²)."""
    check_shape("omega_hat", omega_hat, grid.spectral_shape)
    return -omega_hat * jnp.asarray(1 / bases(grid).k2, omega_hat.dtype)


def velocity(grid: ChannelGrid, omega_hat: Array) -> tuple[Array, Array]:
    """Velocities u = −∂ψ/∂y and v = ∂ψ/∂x, each [nx, ny], of the amplitudes ω_hat[2K+1, L]."""
    basis = bases(grid)
    psi_hat = streamfunction_hat(grid, omega_hat)
    u_hat = -psi_hat * jnp.asarray(basis.l, omega_hat.dtype)
    u = matmul(basis.fourier, matmul(u_hat, basis.cosine))
    v = matmul(basis.fourier_dx, matmul(psi_hat, basis.sine))
    return u, v


def shift_hat(grid: ChannelGrid, omega_hat: Array, distance: Array) -> Array:
    """Amplitudes of ω(x − distance, y): a symmetry of the testbed."""
    check_shape("omega_hat", omega_hat, grid.spectral_shape)
    angle = jnp.asarray(bases(grid).k[1 : grid.kmax + 1], omega_hat.dtype) * distance
    cos, sin = omega_hat[1 : grid.kmax + 1], omega_hat[grid.kmax + 1 :]
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.concatenate([omega_hat[:1], cos * c - sin * s, sin * c + cos * s])


def reflect_hat(grid: ChannelGrid, omega_hat: Array) -> Array:
    """Amplitudes of −ω(x, π − y): a symmetry of the testbed, (−1)^l per column."""
    check_shape("omega_hat", omega_hat, grid.spectral_shape)
    return omega_hat * jnp.asarray(np.where(bases(grid).l % 2, -1.0, 1.0), omega_hat.dtype)


def mode_weights(grid: ChannelGrid, dtype) -> Array:
    """Area mean of the squared basis functions, (2K+1, 1): 1/2 for row 0, 1/4 for the others."""
    weights = np.full((2 * grid.kmax + 1, 1), 0.25)
    weights[0] = 0.5
    return jnp.asarray(weights, dtype)


def energy(grid: ChannelGrid, omega_hat: Array) -> Array:
    """Kinetic energy, the area mean of (u² + v²)/2 = Σ ω_hat² w / (2 (k² + l²))."""
    return energy_spectrum_modes(grid, omega_hat).sum()


def enstrophy(grid: ChannelGrid, omega_hat: Array) -> Array:
    """Enstrophy, the area mean of ω²/2."""
    return 0.5 * jnp.sum(omega_hat**2 * mode_weights(grid, omega_hat.dtype))


def energy_spectrum_modes(grid: ChannelGrid, omega_hat: Array) -> Array:
    """Kinetic energy of each mode, (2K+1, L)."""
    check_shape("omega_hat", omega_hat, grid.spectral_shape)
    inverse_k2 = jnp.asarray(1 / bases(grid).k2, omega_hat.dtype)
    return 0.5 * omega_hat**2 * mode_weights(grid, omega_hat.dtype) * inverse_k2


@functools.cache
def shells(grid: ChannelGrid) -> np.ndarray:
    """Shell number round(√(k² + l²)) of each mode, (2K+1, L) integers."""
    return np.rint(np.sqrt(bases(grid).k2)).astype(np.int32)


def spectra(grid: ChannelGrid, omega_hat: Array) -> tuple[Array, Array]:
    """Kinetic-energy and enstrophy spectra by shells of total wavenumber.

    E(κ) = Σ over modes with round(√(k² + l²)) = κ, for κ = 0 … min(kmax, lmax): two arrays of
    min(kmax, lmax) + 1 numbers.  The channel's own basis is used; an FFT across walls is not.
    """
    count = min(grid.kmax, grid.lmax) + 1
    index = jnp.asarray(shells(grid).ravel())
    modes = energy_spectrum_modes(grid, omega_hat)
    enstrophy_modes = modes * jnp.asarray(bases(grid).k2, omega_hat.dtype)
    # Out-of-range shells (the corners) are dropped.
    total = functools.partial(jax.ops.segment_sum, segment_ids=index, num_segments=int(shells(grid).max()) + 1)
    return total(modes.ravel())[:count], total(enstrophy_modes.ravel())[:count]


# Regridding -----------------------------------------------------------------------------------


def regrid_hat(source: ChannelGrid, target: ChannelGrid, omega_hat: Array) -> Array:
    """Amplitudes on `target` from those on `source` by truncation or zero padding (exact, no shift)."""
    check_shape("omega_hat", omega_hat, source.spectral_shape)
    k = min(source.kmax, target.kmax)
    rows = [omega_hat[:1], omega_hat[1 : k + 1], omega_hat[source.kmax + 1 : source.kmax + 1 + k]]
    pad = ((0, target.kmax - k), (0, 0))
    kept = jnp.concatenate([rows[0], jnp.pad(rows[1], pad), jnp.pad(rows[2], pad)])[:, : target.lmax]
    return jnp.pad(kept, ((0, 0), (0, target.lmax - kept.shape[1])))


def regrid(source: ChannelGrid, target: ChannelGrid, omega: Array, method: str = "spectral") -> Array:
    """A field ω[nx, ny] on `source` brought to `target`.

    method: `spectral` keeps the Fourier × sine modes below both grids' Nyquist wavenumbers (exact both
    ways, no shift); `bicubic` is cubic convolution, periodic in x and odd about the walls; `block`
    averages blocks of source points, which shifts the grid by half a coarse cell (the paper's
    choice, arXiv:2604.21180) and needs sizes that divide.  Raises ValueError otherwise.
    """
    check_choice("regridding method", method, REGRIDDING)
    check_shape("omega", omega, source.shape)
    in_x, in_y = REGRIDDING[method](source, target)
    return matmul(in_x, matmul(omega, in_y.T))


@functools.cache
def spectral_matrices(source: ChannelGrid, target: ChannelGrid) -> tuple[np.ndarray, np.ndarray]:
    """Matrices (target.nx, source.nx) and (target.ny, source.ny) that truncate or pad the spectrum."""
    k = np.arange(1, min(source.nx, target.nx) // 2)[:, None]
    difference = target.x[:, None] - source.x[None, :]
    in_x = (1 + 2 * np.cos(k[:, :, None] * difference).sum(0)) / source.nx
    l = np.arange(1, min(source.ny, target.ny) - 1)  # noqa: E741
    in_y = np.sin(np.outer(target.y, l)) @ np.sin(np.outer(l, source.y)) * 2 / (source.ny - 1)
    in_y[[0, -1]] = 0.0
    return in_x, in_y


@functools.cache
def bicubic_matrices(source: ChannelGrid, target: ChannelGrid, parity: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """Matrices of cubic convolution: Keys (1981, doi:10.1109/TASSP.1981.1163711), a = −1/2, third order.

    parity: of the field about the walls, −1 for odd (ω, ψ, v) and 1 for even (u).
    """

    def kernel(s: np.ndarray) -> np.ndarray:
        s = np.abs(s)
        near = 1.5 * s**3 - 2.5 * s**2 + 1
        far = -0.5 * s**3 + 2.5 * s**2 - 4 * s + 2
        return np.where(s <= 1, near, np.where(s < 2, far, 0.0))

    in_x, in_y = np.zeros((target.nx, source.nx)), np.zeros((target.ny, source.ny))
    last = source.ny - 1
    at_x = np.arange(target.nx) * source.nx / target.nx
    at_y = np.arange(target.ny) * last / (target.ny - 1)
    for offset in range(-1, 3):
        node = np.floor(at_x).astype(int) + offset
        in_x[np.arange(target.nx), node % source.nx] += kernel(at_x - node)
        node = np.floor(at_y).astype(int) + offset
        mirrored = np.where(node < 0, -node, np.where(node > last, 2 * last - node, node))
        in_y[np.arange(target.ny), mirrored] += np.where(mirrored == node, 1, parity) * kernel(at_y - node)
    if parity < 0:
        in_y[[0, -1]] = 0.0
    return in_x, in_y


@functools.cache
def block_matrices(source: ChannelGrid, target: ChannelGrid) -> tuple[np.ndarray, np.ndarray]:
    """Matrices of means over blocks of source points; the far wall stays zero."""
    ratio_x, ratio_y = source.nx // target.nx, (source.ny - 1) // (target.ny - 1)
    if (target.nx * ratio_x, (target.ny - 1) * ratio_y) != (source.nx, source.ny - 1):
        raise ValueError(
            f"regrid: block means need {target.nx} and {target.ny - 1} to divide the source's {source.nx} and "
            f"{source.ny - 1}; use method='spectral'"
        )
    in_x = np.kron(np.eye(target.nx), np.full((1, ratio_x), 1 / ratio_x))
    in_y = np.zeros((target.ny, source.ny))
    in_y[:-1, :-1] = np.kron(np.eye(target.ny - 1), np.full((1, ratio_y), 1 / ratio_y))
    return in_x, in_y


REGRIDDING = {"spectral": spectral_matrices, "bicubic": bicubic_matrices, "block": block_matrices}
