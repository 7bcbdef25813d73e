"""Hyperparameters, catalogues and search spaces: parsed, checked and frozen."""
