"""Intervals from the errors of left-out cells."""
