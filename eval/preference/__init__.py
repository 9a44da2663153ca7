"""Preferences: candidates, votes, and the pairs that follow from them."""
