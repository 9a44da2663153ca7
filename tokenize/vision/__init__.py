"""Vision tokenizers: pictures and clips to codes and back (`load`, `names`, `VisionTokenizer`)."""

from reelmill.tokenize.vision.tokenizer import VisionTokenizer, load, names, save

__all__ = ["VisionTokenizer", "load", "names", "save"]
