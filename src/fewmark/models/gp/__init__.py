"""Gaussian processes: kernels, the posterior, marginal likelihood, noise."""
