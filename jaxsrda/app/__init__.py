"""What a person meets: the command line, files in and out, tables, and pictures.

Only here are xarray, matplotlib, tyro and rich used; nothing else imports this room.
"""

import importlib

_LATER = {
    "analysis_dataset": "datasets",
    "evaluate_file": "evaluate",
    "fields_dataset": "datasets",
    "read_fields": "datasets",
    "score_table": "report",
    "write_dataset": "datasets",
}
"""Names whose modules bring large libraries: each is loaded on first use."""


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)


__all__ = [
    "analysis_dataset",
    "evaluate_file",
    "fields_dataset",
    "read_fields",
    "score_table",
    "write_dataset",
]
