"""The canonical table in memory: identity of its rows, repeats, metrics, columns, precision."""
