"""Generation: an engine that draws for many prompts at once, and what users make with it."""

from reelmill.eval.generation.cache import KVCache
from reelmill.eval.generation.engine import Drawn, Engine, Request, continuations, run
from reelmill.eval.generation.images import generate_image, image_codes, image_request
from reelmill.eval.generation.sampling import Draw, Sampling

__all__ = [
    "Draw",
    "Drawn",
    "Engine",
    "KVCache",
    "Request",
    "Sampling",
    "continuations",
    "generate_image",
    "image_codes",
    "image_request",
    "run",
]
