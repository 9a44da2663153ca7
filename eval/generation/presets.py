"""Settings that Emu3's authors draw with, by name."""

from __future__ import annotations

from dataclasses import dataclass, field

from reelmill.config import nearest
from reelmill.errors import ConfigError
from reelmill.eval.generation.sampling import SamplingParams, TokenSampling


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How to draw. `area` is in pixels (None: what the command says), `suffix` is put after each prompt."""

    sampling: SamplingParams = field(default_factory=SamplingParams)
    area: int | None = None
    suffix: str = ""
    negative: str = ""


PRESETS = {
    "none": Preset(),
    # The released script for images, image_generation.py.
    "emu3": Preset(
        sampling=SamplingParams(vision=TokenSampling(top_k=2048), guidance=3.0),
        area=518_400,
        suffix=" masterpiece, film grained, best quality.",
        negative=(
            "lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, fewer digits, cropped, worst "
            "quality, low quality, normal quality, jpeg artifacts, signature, watermark, username, blurry."
        ),
    ),
    # What the paper's figures were measured with: arXiv 2409.18869, appendix B.1.
    "emu3-eval": Preset(sampling=SamplingParams(vision=TokenSampling(top_k=16_384), guidance=5.0), area=518_400),
    # Emu3.5's configuration for stories, of words and pictures in turn.
    "emu3.5-story": Preset(
        sampling=SamplingParams(
            vision=TokenSampling(top_k=10_240), text=TokenSampling(top_k=1024, top_p=0.9), guidance=3.0
        ),
        area=518_400,
    ),
}


def preset(name: str) -> Preset:
    """The preset of that name; ConfigError names the nearest one."""
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}; {nearest(name, PRESETS)}")
    return PRESETS[name]
