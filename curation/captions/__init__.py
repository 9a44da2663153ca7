"""Captions: where they come from, what a model sees and is asked, and what is wrong with an answer."""
