"""Generation: an engine that runs many requests at once, and what users make with it."""

from reelmill.eval.generation.engine import Engine, continuations, run
from reelmill.eval.generation.paged_cache import kv_cache
from reelmill.eval.generation.presets import PRESETS, Preset, preset
from reelmill.eval.generation.preview import draft_preview, preview, rows_so_far
from reelmill.eval.generation.prompts import (
    begun,
    chat_request,
    image_request,
    interleaved_request,
    task_picture_request,
    task_request,
    text_request,
    visual_request,
)
from reelmill.eval.generation.request import PictureDraft, Request, SampledToken
from reelmill.eval.generation.sampling import SamplingParams, TokenSampling
from reelmill.eval.generation.studio import Clip, GenerationProgress, Studio, latents_in

__all__ = [
    "PRESETS",
    "Clip",
    "Engine",
    "GenerationProgress",
    "PictureDraft",
    "Preset",
    "Request",
    "SampledToken",
    "SamplingParams",
    "Studio",
    "TokenSampling",
    "begun",
    "chat_request",
    "continuations",
    "draft_preview",
    "image_request",
    "interleaved_request",
    "kv_cache",
    "latents_in",
    "preset",
    "preview",
    "rows_so_far",
    "run",
    "task_picture_request",
    "task_request",
    "text_request",
    "visual_request",
]
