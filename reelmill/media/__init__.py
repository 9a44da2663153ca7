"""Media: how untrusted bytes become upright sRGB frames at given times."""

READS_AS = 2
"""Raised when the pixels or times of a file that was read before change: it is part of what scores depend on."""
