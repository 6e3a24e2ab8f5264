"""Estimators on tables of cells: they know no engine, file or store."""
