"""Engines: workers that each hold one device and train one job at a time."""
