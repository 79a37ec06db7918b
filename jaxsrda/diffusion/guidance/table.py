"""Guides by name, and what each of them approximates.

The sampler knows nothing of it, and no training either.  `observe` is any differentiable function A of a sample,
through a decoder or not, J its Jacobian at the estimate D = D(x_σ, σ); y the values, R the variances of their noise.

    name     estimate                                       error of D is taken as        exact if x₀ is Gaussian
    blend    D + blur(J⁺ α d),  α = γ/(γ + R)                one number, blurred           no
    lifted   D + V Jᵀ (R + J V Jᵀ)⁻¹ d,  V = r² I            white, r² = s²σ²/(s² + σ²)    and white
    diffpir  the same with V = σ²/λ I                       white                         no
    oi       the same with V = (S⁻¹ + σ⁻² I)⁻¹               what a given S leaves         with covariance S
    mmps     the same with V = σ² ∂D/∂x                     Tweedie's covariance          yes
    pigdm    D + σ² (∂D/∂x)ᵀ Jᵀ (R + r² J Jᵀ)⁻¹ d            white, r² as in lifted        and white
    sda      D + σ² (∂D/∂x)ᵀ Jᵀ (R + γσ² I)⁻¹ d              one number for each sensor    no
    dps      D + ζσ² (∂D/∂x)ᵀ Jᵀ R⁻¹ d                       nothing                       no
    projected: nothing at the steps; each sample's misfit is interpolated onto it in the end

with d = y − A(D).  Where an inverse is written, a few steps of conjugate gradients are taken: "exact" means with as
many as there are sensors, and enough steps of the sampler, which makes its next noise from the estimate as corrected.
Sensors of infinite variance count for nothing.  A guide of your own is a function of the same arguments.

Measured on six dimensions with three sensors (tests/diffusion/test_guidance.py, 3000 samples), off by how many of the
posterior's standard deviations the mean is, and the samples' variance along what is observed over the posterior's:
blend (γ = 0.1) 0.8 and 0.01, diffpir (λ = 1) 0.2 and 0.8, sda (γ = s²) 0.5 and 1.0, dps (ζ = 0.1) 1.1 and 2.9 for a
white prior; these and lifted 1.7 to 2.8 deviations for one with variances from 0.05 to 2, pigdm 1.3; mmps none with
four iterations, with its one 0.4 (and 1.4 of the variance) and 0.6.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxsrda.core.checks import check_choice
from jaxsrda.diffusion.guidance.blend import Blend, Projected
from jaxsrda.diffusion.guidance.gain import OI, DiffPIR, Lifted
from jaxsrda.diffusion.guidance.gradient import DPS, MMPS, SDA, PiGDM
from jaxsrda.diffusion.guidance.guide import Guide

GUIDES: dict[str, type] = {
    "blend": Blend,
    "lifted": Lifted,
    "diffpir": DiffPIR,
    "oi": OI,
    "mmps": MMPS,
    "pigdm": PiGDM,
    "sda": SDA,
    "dps": DPS,
    "projected": Projected,
}
"""Guides by name."""


def guide(name: str, **options: Any) -> Guide | None:
    """The guide called `name` with some of its options, None for `none`.

    ValueError for an unknown name and for an option that this guide does not have.
    """
    check_choice("guidance", name, ("none", *GUIDES))
    kind = GUIDES.get(name)
    known = [field.name for field in dataclasses.fields(kind)] if kind is not None else []
    for option in options:
        if option not in known:
            have = f"whose options are {', '.join(known)}" if known else "which has no options"
            raise ValueError(f"{option}: not an option of guidance {name}, {have}; leave it out")
    return None if kind is None else kind(**options)
