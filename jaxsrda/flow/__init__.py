"""The ocean jet: grid, solver, testbed, forecasts, climatology, and long simulations."""
