"""What every room uses: checks, linear algebra, parameter trees, files, the cache, records."""
