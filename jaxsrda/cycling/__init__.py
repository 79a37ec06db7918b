"""The assimilation cycle: the contract of a method, the scan that runs it, and sweeps over settings."""
