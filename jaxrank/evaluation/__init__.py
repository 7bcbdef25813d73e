"""Metrics, comparisons and calibration of trained trials."""
