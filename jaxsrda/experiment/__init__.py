"""The twin experiment: truth, observations, method, cycle and result."""
