"""Real published measurements, packaged with their licence and citation; and a small made-up table for examples."""

from fewmark.datasets.catalogue import describe, load, names
from fewmark.datasets.example import example

__all__ = ["describe", "example", "load", "names"]
