"""Duplicates: perceptual hashes, who looks like whom, and which of them stays."""
