"""What to deploy: prices, service-level objectives, and the recommendation that follows from predictions."""
