"""The transformers engine: models, placement, generation."""
