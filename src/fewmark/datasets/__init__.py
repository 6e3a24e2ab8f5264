"""Real published measurements, packaged with their licence and citation."""

from fewmark.datasets.catalogue import describe, load, names

__all__ = ["describe", "load", "names"]
