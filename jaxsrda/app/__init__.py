"""What a person meets: the command line, files in and out, tables, and pictures.

Only here are xarray, matplotlib, tyro and rich used; nothing else imports this room.
"""

from jaxsrda.core.lazy import later

_LATER = {
    "analysis_dataset": "datasets",
    "evaluate_file": "evaluate",
    "fields_dataset": "datasets",
    "layout_from_file": "sensor_files",
    "observations_from_file": "sensor_files",
    "read_fields": "fields",
    "score_table": "report",
    "write_dataset": "datasets",
    "write_page": "page",
}

__getattr__ = later(__name__, _LATER)

__all__ = [
    "analysis_dataset",
    "evaluate_file",
    "fields_dataset",
    "layout_from_file",
    "observations_from_file",
    "read_fields",
    "score_table",
    "write_dataset",
    "write_page",
]
