"""Preferences and features: read, checked, aligned and split."""
