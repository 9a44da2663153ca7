"""What `import reelmill` offers (docs/python.md); `reelmill/__init__.py` imports it when it is asked for."""
