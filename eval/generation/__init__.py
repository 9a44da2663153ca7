"""Generation: an engine that draws for many prompts at once, and what users make with it."""

from reelmill.eval.generation.cache import KVCache
from reelmill.eval.generation.engine import Engine, continuations, run
from reelmill.eval.generation.preview import preview, rows_so_far
from reelmill.eval.generation.prompts import chat_request, free_request, image_request, visual_request, words_request
from reelmill.eval.generation.request import Drawn, Request
from reelmill.eval.generation.sampling import Draw, Sampling
from reelmill.eval.generation.studio import Clip, Studio, latents_in

__all__ = [
    "Clip",
    "Draw",
    "Drawn",
    "Engine",
    "KVCache",
    "Request",
    "Sampling",
    "Studio",
    "chat_request",
    "continuations",
    "free_request",
    "image_request",
    "latents_in",
    "preview",
    "rows_so_far",
    "run",
    "visual_request",
    "words_request",
]
