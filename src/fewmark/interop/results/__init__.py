"""What the importers of tools share: rows in the making, single requests, loads, the original records."""
