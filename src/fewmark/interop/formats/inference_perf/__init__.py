"""Results of inference-perf: its stages, its summary, its single requests."""
