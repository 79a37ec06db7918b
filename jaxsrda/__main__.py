"""`python -m jaxsrda` and the `jaxsrda` command."""

import sys

from jaxsrda.app.cli.main import main


def entry() -> None:
    """Run the command line and exit with its code."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
