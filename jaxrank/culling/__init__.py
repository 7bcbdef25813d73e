"""Culling of a folder of photos: series, picks and sidecars. Photos are never changed."""
