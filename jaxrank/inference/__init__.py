"""Saved models: storage, evaluation on pairs, ranking of photos, and export."""
