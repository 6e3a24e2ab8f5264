"""Simulated annealing over training subsets (ALA, Algorithm 3)."""
