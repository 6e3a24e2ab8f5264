"""Suite files (YAML) and what they mean: cases, from grids, zips, conditions and other suites."""

from fewmark.suites.conditions import matching
from fewmark.suites.load import Suite, load_suite, suite_names
from fewmark.suites.schema import suite_schema

__all__ = ["Suite", "load_suite", "matching", "suite_names", "suite_schema"]
