"""The accelerator queue: `python -m benchmarks.accelerator OUT MINUTES`, one process, everything in order of worth.

Truths are simulated on the device, then each training job gets its share of the time that is left, makes its own
windows (the model's mean in the loop) and leaves weights and a record that are complete without the rest.  Needs JAX
for the device, Flax, Optax, Orbax, NumPy, rich and xarray alone.  --tiny does the same at the smallest sizes, on a CPU;
--cpu is what two cores can do in an hour or two.
"""
