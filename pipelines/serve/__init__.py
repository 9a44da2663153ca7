"""A trained model as a server: a page to draw with, and an OpenAI-compatible API."""
