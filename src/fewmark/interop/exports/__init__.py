"""The canonical table out, in the formats of other tools: one file a format, a registry, an entry-point group."""

from fewmark.interop.exports.base import CELLS, MEASUREMENTS, PREDICTIONS, Exporter
from fewmark.interop.exports.registry import exporter_names, make_exporter

__all__ = ["CELLS", "MEASUREMENTS", "PREDICTIONS", "Exporter", "exporter_names", "make_exporter"]
