"""Vector quantization: the nearest code, its straight-through gradient, and codebooks that follow what they code.

van den Oord, Vinyals & Kavukcuoglu (2017, arXiv:1711.00937); running averages as in its appendix A.1.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.core import draws


class Codebook(NamedTuple):
    """vectors: the codes, (n, d); counts: running averages of how many vectors of a batch chose each, (n,); sums: of
    what these add up to, (n, d)."""

    vectors: Array
    counts: Array
    sums: Array


def first_codebook(key: Array, codes: int, channels: int) -> Codebook:
    """Codes from N(0, 1), each as if chosen once a batch."""
    vectors = jax.random.normal(key, (codes, channels), jnp.float32)
    return Codebook(vectors, jnp.ones(codes, jnp.float32), jnp.copy(vectors))


def nearest(vectors: Array, z: Array) -> Array:
    """Number of the code nearest to each of z (…, d): argmin_i ‖z − e_i‖², (…,) int32.

    Numbers (d = 1) are looked up in the sorted codes, in log n instead of n comparisons.
    """
    if vectors.shape[1] > 1:
        dots = jnp.matmul(z, vectors.T, precision="highest")
        return jnp.argmin(jnp.sum(vectors * vectors, axis=1) - 2 * dots, axis=-1).astype(jnp.int32)
    codes = vectors[:, 0]
    order = jnp.argsort(codes)
    ranked = codes[order]
    return order[jnp.searchsorted((ranked[1:] + ranked[:-1]) / 2, z[..., 0])].astype(jnp.int32)


def quantize(vectors: Array, z: Array) -> tuple[Array, Array]:
    """The nearest codes of z (…, d), and their numbers (…,); the gradient passes straight through to z."""
    numbers = nearest(vectors, jax.lax.stop_gradient(z))
    return z + jax.lax.stop_gradient(vectors[numbers] - z), numbers


def codebook_losses(vectors: Array, z: Array, numbers: Array) -> tuple[Array, Array]:
    """Mean ‖sg[z] − e‖², which moves the codes, and ‖z − sg[e]‖², the commitment (arXiv:1711.00937, eq. 3)."""
    codes = vectors[numbers]
    still = jax.lax.stop_gradient
    return ((still(z) - codes) ** 2).sum(-1).mean(), ((z - still(codes)) ** 2).sum(-1).mean()


def counted(codebook: Codebook, z: Array, numbers: Array, decay: float) -> Codebook:
    """The running averages one batch later: N ← γN + (1 − γ) n,  m ← γm + (1 − γ) Σ z  (appendix A.1)."""
    flat, chosen = z.reshape(-1, z.shape[-1]), numbers.reshape(-1)
    counts = jnp.zeros_like(codebook.counts).at[chosen].add(1)
    sums = jnp.zeros_like(codebook.sums).at[chosen].add(flat)
    return codebook._replace(
        counts=decay * codebook.counts + (1 - decay) * counts, sums=decay * codebook.sums + (1 - decay) * sums
    )


def follow(codebook: Codebook) -> Codebook:
    """Each code moved to the average of what chose it, m/N; one that nothing chose stays."""
    used = codebook.counts > 1e-3
    mean = codebook.sums / jnp.where(used, codebook.counts, 1)[:, None]
    return codebook._replace(vectors=jnp.where(used[:, None], mean, codebook.vectors))


def restart_dead(codebook: Codebook, key: Array, z: Array, least: float) -> Codebook:
    """Codes chosen less than `least` times a batch, replaced by random vectors of the batch z (…, d).

    Dhariwal et al. (2020, arXiv:2005.00341, section 3.1).  They count as chosen once, so they are given time.
    """
    flat = jax.lax.stop_gradient(z).reshape(-1, z.shape[-1])
    fresh = flat[draws.integers(key, (len(codebook.counts),), 0, len(flat))]
    dead = codebook.counts < least
    return Codebook(
        jnp.where(dead[:, None], fresh, codebook.vectors),
        jnp.where(dead, 1.0, codebook.counts).astype(codebook.counts.dtype),
        jnp.where(dead[:, None], fresh, codebook.sums),
    )


def tallied(numbers: Array, codes: int) -> Array:
    """How often each of the codes occurs among the numbers, (codes,)."""
    return jnp.zeros(codes, jnp.float32).at[numbers.reshape(-1)].add(1)


def usage(counts: Array) -> tuple[Array, Array]:
    """Fraction of the codes that occur at all, and the perplexity exp(−Σ p ln p) of their counts (codes,)."""
    share = counts / counts.sum()
    entropy = -jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1)), 0))
    return (counts > 0).mean(dtype=jnp.float32), jnp.exp(entropy)
