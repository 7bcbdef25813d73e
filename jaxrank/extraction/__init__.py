"""Extraction of feature blocks from photos. PyTorch is imported only for the network blocks."""
