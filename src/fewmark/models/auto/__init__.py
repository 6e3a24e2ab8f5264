"""The default model: Gaussian processes over all deployments on a roofline of published facts."""
