"""From training truths to weights: windows, loss, fit, checkpoints."""
