"""What a run learns: the interface of an objective, those that there are, their registry."""
