"""Draw and ask: `generate`, `ask`."""
