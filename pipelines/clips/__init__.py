"""Kept clips for trainers that want pixels: `clips export`."""
