"""Result tables and model cards as Markdown, generated from the committed JSON records.

python -m experiments.tables            # write the files
python -m experiments.tables --check    # exit with 1 if a file is out of step; write nothing
"""

from experiments.tables.pages import pages
from experiments.tables.records import ROOT, load

__all__ = ["ROOT", "load", "pages"]
