"""Recipes of curation and of training, listed and shown: `recipe`."""
