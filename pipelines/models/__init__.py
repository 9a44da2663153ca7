"""Weights and sample media of the registry: `models list`, `pull`, `verify`."""
