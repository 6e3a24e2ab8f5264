"""What the default model is measured against: learners on encoded cells, interpolation."""
