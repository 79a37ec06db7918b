"""How good an analysis is: scores of points, spectra, fit to observations, and sums of them over frames."""
