"""Questions of their own, a script each with a record in results/: `python -m benchmarks.studies.NAME --help`."""
