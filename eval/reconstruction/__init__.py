"""How well a vision tokenizer reconstructs: `Evaluation`."""

from reelmill.eval.reconstruction.evaluation import EMU3, Evaluation, FileScore, Kind, Quality, Summary

__all__ = ["EMU3", "Evaluation", "FileScore", "Kind", "Quality", "Summary"]
