"""Saved models, and what they predict for pairs and photos."""
