"""One self-contained HTML page of the results in a folder: scores, series, fields in motion, pictures, provenance.

`found` reads the folder, `charts`, `frames` and `players` draw, `sections` lay out, `write` puts the page together.
"""

from jaxsrda.app.page.found import find_results
from jaxsrda.app.page.write import write_page

__all__ = ["find_results", "write_page"]
