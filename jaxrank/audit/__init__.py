"""Audit: checks that the labels belong to the photos."""

# Default time limit of an audit, in seconds; its permutation test takes the longest.
SECONDS = 30.0
