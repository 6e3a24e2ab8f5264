"""The parent's side of a worker: launching, talking, time limits, keeping one warm."""
