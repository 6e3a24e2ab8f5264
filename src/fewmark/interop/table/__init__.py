"""The canonical table in memory: from cells, to measurements and back."""
