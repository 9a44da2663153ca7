"""Train and export a decoder: `train`, `export`."""
