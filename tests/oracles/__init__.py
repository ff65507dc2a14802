"""Slow and simple float64 re-implementations that import nothing of heedmap."""
