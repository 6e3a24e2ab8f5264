"""Reproducing a paper's evaluation: figures and the page."""
