"""Text files as tools leave them: CSV, JSON and YAML, and the single cells in them."""
