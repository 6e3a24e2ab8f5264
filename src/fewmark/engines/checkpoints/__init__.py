"""Where an engine's model comes from: named shapes, configurations, checkpoints, GGUF files."""
