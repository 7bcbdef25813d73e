"""Picks of a folder, and the marks that photo programs keep. Neither JAX nor PyTorch."""
