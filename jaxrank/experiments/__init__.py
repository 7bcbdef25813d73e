"""Hyperparameters and the catalogue: from text to checked, frozen values."""
