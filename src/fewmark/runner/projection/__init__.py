"""Generations cut short, and what they say of whole ones."""
