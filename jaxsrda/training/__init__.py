"""From training truths to a weights file: windows, loss, fit with checkpoints, and a test in the real cycle.

`train(Job(...), out)` does all of it and goes on where a kill stopped it.
"""

from jaxsrda.core.lazy import later

_LATER = {
    "DataConfig": "dataset",
    "Fitted": "fit",
    "Job": "job",
    "Origin": "stream_run",
    "Sensing": "sources",
    "StreamConfig": "stream",
    "TrainConfig": "loss",
    "Windows": "windows",
    "cycle_windows": "windows",
    "forecast_windows": "windows",
    "residual_covariance": "job",
    "train": "job",
    "training_runs": "truths",
    "window_loss": "loss",
}

__getattr__ = later(__name__, _LATER)

__all__ = [
    "DataConfig",
    "Fitted",
    "Job",
    "Origin",
    "Sensing",
    "StreamConfig",
    "TrainConfig",
    "Windows",
    "cycle_windows",
    "forecast_windows",
    "residual_covariance",
    "train",
    "training_runs",
    "window_loss",
]
