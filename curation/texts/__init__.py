"""Texts: bytes become characters, characters are cleaned and masked, long texts are divided, words are counted."""
