"""From training truths to a weights file: windows, loss, fit with checkpoints, and a test in the real cycle.

`train(Job(...), out)` does all of it and goes on where a kill stopped it.
"""

from jaxsrda.core.lazy import later

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

__getattr__ = later(__name__, _LATER)

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
