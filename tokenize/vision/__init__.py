"""Vision tokenizers: pictures and clips to codes and back (`load`, `names`, `VisionTokenizer`)."""

from reelmill.tokenize.vision.tokenizer import Codes, Frames, VisionTokenizer, load, names, save

__all__ = ["Codes", "Frames", "VisionTokenizer", "load", "names", "save"]
