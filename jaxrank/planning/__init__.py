"""Which trials are trained together, and what that costs."""
