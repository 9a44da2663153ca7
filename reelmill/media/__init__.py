"""Media: how untrusted bytes become upright sRGB frames at given times."""
