"""Preferences: candidates drawn, the voting page, other voters, pairs and win rates (`prefer`)."""
