"""Constants and presets of the testbed: the one place where the numbers live.

All quantities are non-dimensional.  The testbed is the barotropic ocean-jet instability of
Yasuda & Onishi (2023, doi:10.1029/2023MS003658) as used by Ayapilla, Miyashita, Yasuda & Onishi
(2026, arXiv:2604.21180).
"""

from __future__ import annotations

OTHERS = ("random-moving:128", "lattice:12", "lattice:8+dropout:0.3+silent:0.3", "lattice:6", "lattice:4")
"""Sensor layouts that training meets beside its main one."""
