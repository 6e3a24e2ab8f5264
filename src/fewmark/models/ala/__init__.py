"""ALA (arXiv 2505.09319): saturation curves, learned parameters, annealing, error predictor, similarity."""
