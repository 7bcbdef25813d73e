"""A search from start to end: prepare, train, evaluate, report, resume."""
