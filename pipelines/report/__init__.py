"""`reelmill report`: one self-contained page about a run folder, and its dataset card."""
