"""Annotations of narrated videos: what models are asked about stories and scenes, and what is wrong with answers."""
