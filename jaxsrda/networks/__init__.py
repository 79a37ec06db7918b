"""Networks in Flax NNX, applied as pure functions of their parameters."""
