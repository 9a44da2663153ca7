"""What `reelmill prefer` does: candidates drawn, the voting page, other voters, pairs and win rates."""
