"""Sine and cosine × Fourier transforms: matrix products, FFTs on the doubled domain, half-length FFTs.

    python -m benchmarks.studies.transforms --out benchmarks/results/transforms.json

Each variant keeps the spectral form that suits it (so none pays for another's layout) and is first
checked against the matrix products of `jaxsrda.flow.grid`.  Timed: one inverse and one forward
transform, inside a scan, variants alternating; the least and the median of the
rounds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxsrda
from benchmarks.machine import machine
from benchmarks.studies.solver import compiled, seconds
from jaxsrda.core.linalg import matmul
from jaxsrda.core.provenance import stamped
from jaxsrda.flow.grid import bases

LEVELS = {level.name: level for level in jaxsrda.jet().levels}
"""Levels by name."""


class Variant(NamedTuple):
    """Transforms of one field, and the way from the matrix form's amplitudes to the variant's own."""

    to_own: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[Array], Array]
    forward: Callable[[Array], Array]


def complex_amplitudes(grid: jaxsrda.ChannelGrid, amplitudes: np.ndarray) -> np.ndarray:
    """g_k with field = Re Σ g_k exp(ikx), (K+1, L), from rows c_0, c_k, s_k."""
    k = grid.kmax
    return np.concatenate([amplitudes[:1], amplitudes[1 : k + 1] - 1j * amplitudes[k + 1 :]])


def matrices(grid: jaxsrda.ChannelGrid, sine: bool) -> Variant:
    """The transforms of `jaxsrda.flow.grid`."""
    basis = bases(grid)
    out, back = (basis.sine, basis.sine_inv) if sine else (basis.cosine, basis.cosine_inv)
    return Variant(
        lambda amplitudes: amplitudes,
        lambda hat: matmul(basis.fourier, matmul(hat, out)),
        lambda field: matmul(basis.fourier_inv, matmul(field, back)),
    )


def doubled(grid: jaxsrda.ChannelGrid, sine: bool) -> Variant:
    """Real FFTs on [0, 2π) × [0, 2π), fields continued oddly (sine) or evenly (cosine) across the wall."""
    nx, ny, n = grid.nx, grid.ny, 2 * (grid.ny - 1)
    k = np.rint(np.fft.fftfreq(nx) * nx)
    kept = (abs(k)[:, None] <= grid.kmax) & (np.arange(ny) >= 1) & (np.arange(ny) <= grid.lmax)

    def to_own(amplitudes):
        own = np.zeros((nx, ny), complex)
        # sin(ly) is (−i/2) e^{ily} + c.c., cos(ly) is (1/2) e^{ily} + c.c.
        g = complex_amplitudes(grid, amplitudes) * (-0.5j if sine else 0.5) * nx * n
        mirrored = np.conj(complex_amplitudes(grid, amplitudes)[1:]) * (-0.5j if sine else 0.5) * nx * n
        own[0, 1 : grid.lmax + 1] = g[0]
        own[1 : grid.kmax + 1, 1 : grid.lmax + 1] = g[1:] / 2
        own[-1 : -grid.kmax - 1 : -1, 1 : grid.lmax + 1] = mirrored / 2
        return own

    def forward(field):
        inside = field[:, -2:0:-1]
        whole = jnp.concatenate([field, -inside if sine else inside], axis=1)
        return jnp.where(kept, jnp.fft.rfft2(whole), 0)

    return Variant(to_own, lambda hat: jnp.fft.irfft2(hat, s=(nx, n))[:, :ny], forward)


def sine_sums(f: Array) -> Array:
    """F_l = Σ_j f_j sin(πjl/n), l = 0 … n − 1, of f_0 … f_{n−1} on the last axis by one real FFT of length n.

    With y_j = sin(πj/n)(f_j + f_{n−j}) + (f_j − f_{n−j})/2 and Y its sums with e^{+2πijk/n}:
    F_2k = Im Y_k, F_{2k+1} − F_{2k−1} = Re Y_k, F_1 = Y_0/2.
    """
    n = f.shape[-1]
    weight = jnp.asarray(np.sin(np.pi * np.arange(n) / n), f.dtype)
    mirrored = jnp.concatenate([f[..., :1], f[..., :0:-1]], axis=-1)
    auxiliary = (weight * (f + mirrored) + (f - mirrored) / 2).at[..., 0].set(0)
    y = jnp.fft.rfft(auxiliary)[..., : n // 2]
    odd = jnp.cumsum(y.real.at[..., 0].multiply(0.5), axis=-1)
    return jnp.stack([-y.imag, odd], axis=-1).reshape(f.shape)


def cosine_sums(f: Array) -> Array:
    """F_l = (f_0 + (−1)^l f_n)/2 + Σ_{0<j<n} f_j cos(πjl/n), l = 0 … n − 1, of f_0 … f_n, by one real FFT of length n.

    With y_j = (f_j + f_{n−j})/2 − sin(πj/n)(f_j − f_{n−j}): F_2k = Re Y_k, F_{2k+1} − F_{2k−1} = Im Y_k,
    and F_1 summed outright.
    """
    n = f.shape[-1] - 1
    angle = np.pi * np.arange(n) / n
    mirrored = f[..., :0:-1]
    y = jnp.fft.rfft((f[..., :-1] + mirrored) / 2 - jnp.asarray(np.sin(angle), f.dtype) * (f[..., :-1] - mirrored))
    y = y[..., : n // 2]
    first = (f[..., :-1] * jnp.asarray(np.where(angle > 0, np.cos(angle), 0.5), f.dtype)).sum(-1) - f[..., -1] / 2
    odd = jnp.cumsum(jnp.concatenate([first[..., None], -y.imag[..., 1:]], axis=-1), axis=-1)
    return jnp.stack([y.real, odd], axis=-1).reshape(*f.shape[:-1], n)


def half_length(grid: jaxsrda.ChannelGrid, sine: bool) -> Variant:
    """Real FFTs of length nx in x and, with pre- and post-processing, of length ny − 1 in y."""
    nx, n = grid.nx, grid.ny - 1

    def inverse(hat):
        rows = jnp.fft.irfft(jnp.pad(hat, ((0, nx // 2 - grid.kmax), (0, 0))), n=nx, axis=0)
        pad = jnp.pad(rows, ((0, 0), (1, n - 1 - grid.lmax)))  # modes 0 … n − 1
        if sine:
            return jnp.pad(sine_sums(pad), ((0, 0), (0, 1)))
        # The sums over modes 0 … n (both ends empty) at points 0 … n − 1, and at the far wall (−1)^l.
        signs = jnp.asarray(np.where(np.arange(n) % 2, -1.0, 1.0), rows.dtype)
        return jnp.concatenate([cosine_sums(jnp.pad(pad, ((0, 0), (0, 1)))), (pad * signs).sum(-1)[:, None]], axis=1)

    def forward(field):
        sums = sine_sums(field[:, :-1]) if sine else cosine_sums(field)
        return jnp.fft.rfft(sums[:, 1 : grid.lmax + 1] * (2 / n), axis=0)[: grid.kmax + 1]

    def to_own(amplitudes):
        own = complex_amplitudes(grid, amplitudes) * nx / 2
        own[0] *= 2
        return own

    return Variant(to_own, inverse, forward)


VARIANTS = {"matrices": matrices, "doubled": doubled, "half_length": half_length}


def relative(a, b) -> float:
    """Largest difference over the largest value."""
    return float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max())


def compare(level: str, batch: int, sine: bool, rounds: int) -> dict:
    """Errors against the matrix form, and microseconds a field of one inverse and one forward transform."""
    grid = LEVELS[level].grid
    rng = np.random.default_rng(0)
    amplitudes = rng.normal(size=grid.spectral_shape)
    # A field with modes beyond the 2/3 rule, as products have.
    field = rng.normal(size=grid.shape)
    if sine:
        field[:, [0, -1]] = 0
    exact = matrices(grid, sine)
    exact_field, exact_hat = exact.inverse(jnp.asarray(amplitudes)), np.asarray(exact.forward(jnp.asarray(field)))
    row: dict = {"level": level, "batch": batch, "basis": "sine" if sine else "cosine", "error": {}, "error32": {}}
    programs, repeats = {}, {}
    for name, make in VARIANTS.items():
        variant = make(grid, sine)
        own = variant.to_own(amplitudes)
        errors = (
            relative(variant.inverse(jnp.asarray(own)), exact_field),
            relative(variant.forward(jnp.asarray(field)), variant.to_own(exact_hat)),
        )
        if max(errors) > 1e-10:
            raise AssertionError(
                f"{name} at {level}, {row['basis']}: differs from the matrix form by {max(errors):.2g}"
            )
        row["error"][name] = max(errors)
        own32 = jnp.asarray(own, jnp.complex64 if np.iscomplexobj(own) else jnp.float32)
        row["error32"][name] = max(
            relative(variant.inverse(own32), exact_field),
            relative(variant.forward(jnp.asarray(field, jnp.float32)), variant.to_own(exact_hat)),
        )

        def pair(hat, _, variant=variant):
            return jax.vmap(lambda one: variant.forward(variant.inverse(one)))(hat), None

        hats = jnp.broadcast_to(own32, (batch, *own32.shape))
        once = seconds(compiled(lambda h, pair=pair: pair(h, None)[0], hats)[0], hats)
        repeats[name] = int(np.clip(0.05 / once, 1, 200))
        program, _ = compiled(lambda h, pair=pair, n=repeats[name]: jax.lax.scan(pair, h, length=n)[0], hats)
        programs[name] = (program, hats)
    times: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(rounds):
        for name, (program, hats) in programs.items():
            times[name].append(seconds(program, hats) / repeats[name] / batch)
    row["microseconds"] = {name: 1e6 * float(np.median(values)) for name, values in times.items()}
    # Other work on the machine can only slow a program down: the least is the fairest comparison.
    row["microseconds_least"] = {name: 1e6 * min(values) for name, values in times.items()}
    row["fastest"] = min(row["microseconds_least"], key=row["microseconds_least"].get)
    return row


def main() -> None:
    """Compare the variants at every level, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    results: dict = stamped({"machine": machine(), "transforms": []})
    print(
        f"{'level':6} {'batch':>5} {'basis':7}" + "".join(f"{name:>14}" for name in VARIANTS) + "   µs a field, float32"
    )
    for level in options.levels:
        for batch in (1, 4 if level == "uhr" else 100):
            for sine in (True, False):
                row = compare(level, batch, sine, options.rounds)
                results["transforms"].append(stamped(row))
                numbers = "".join(f"{row['microseconds_least'][name]:14.1f}" for name in VARIANTS)
                print(f"{level:6} {batch:5} {row['basis']:7}{numbers}   {row['fastest']}", flush=True)
    results["machine"]["load_after"] = machine()["load"]
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
