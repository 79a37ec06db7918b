"""Ensemble filters and controls, each an `Assimilator`."""
