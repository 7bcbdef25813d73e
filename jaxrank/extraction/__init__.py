"""From photos to feature blocks. PyTorch is imported only for the network blocks."""
