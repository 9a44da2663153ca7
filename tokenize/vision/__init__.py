"""Vision tokenizers: pictures and clips to codes and back (`load`, `names`, `VisionTokenizer`)."""

from reelmill.tokenize.vision.tokenizer import (
    INT8,
    Codes,
    Frames,
    RunConfig,
    VisionTokenizer,
    load,
    load_by_fingerprint,
    names,
    save,
)

__all__ = ["INT8", "Codes", "Frames", "RunConfig", "VisionTokenizer", "load", "load_by_fingerprint", "names", "save"]
