"""From training truths to a weights file: windows, loss, fit with checkpoints, and a test in the real cycle.

`train(Job(...), out)` does all of it and goes on where a kill stopped it.
"""

import importlib

_LATER = {
    "DataConfig": "dataset",
    "Fitted": "fit",
    "Job": "job",
    "Origin": "fit",
    "TrainConfig": "loss",
    "WindowSet": "dataset",
    "Windows": "windows",
    "cycle_windows": "windows",
    "forecast_windows": "windows",
    "residual_covariance": "job",
    "train": "job",
    "training_runs": "truths",
    "training_windows": "dataset",
    "window_loss": "loss",
}
"""Names whose modules bring large libraries: each is loaded on first use."""


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)


__all__ = [
    "DataConfig",
    "Fitted",
    "Job",
    "Origin",
    "TrainConfig",
    "WindowSet",
    "Windows",
    "cycle_windows",
    "forecast_windows",
    "residual_covariance",
    "train",
    "training_runs",
    "training_windows",
    "window_loss",
]
