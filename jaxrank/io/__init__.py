"""Files: atomic writes and strict reads, independent of photos and models."""
