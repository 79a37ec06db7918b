"""Sensors: where they are, what they measure, and the observations that they make of a truth."""
