"""Media: how untrusted bytes become upright sRGB frames at given times."""

READS_AS = 2
"""Raised when the pixels, the times or the damage that are read of a file change: scores depend on it."""
