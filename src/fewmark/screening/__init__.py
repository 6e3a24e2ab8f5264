"""The rules that find faulty or suspect rows and say why, one file a rule. Nothing is ever deleted."""

from fewmark.screening.base import Finding, Rule, apply
from fewmark.screening.poorer_copy import copies
from fewmark.screening.screen import RULES, screen

__all__ = ["RULES", "Finding", "Rule", "apply", "copies", "screen"]
