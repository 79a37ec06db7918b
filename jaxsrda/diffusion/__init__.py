"""Diffusion models as functions: noise levels, denoisers and samplers, whatever network is behind them."""
