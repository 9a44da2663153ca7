"""Named sampling settings of Emu3's and Emu3.5's authors."""

from __future__ import annotations

from dataclasses import dataclass, field

from reelmill.config import nearest
from reelmill.errors import ConfigError
from reelmill.eval.generation.sampling import SamplingParams, TokenSampling


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Sampling settings. `area`: pixels (None: the command's default). `suffix`: appended to each prompt."""

    sampling: SamplingParams = field(default_factory=SamplingParams)
    area: int | None = None
    suffix: str = ""


PRESETS = {
    "none": Preset(),
    # The released script for images, image_generation.py.
    "emu3": Preset(
        sampling=SamplingParams(
            vision=TokenSampling(top_k=2048),
            guidance=3.0,
            negative=(
                "lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, fewer digits, cropped, "
                "worst quality, low quality, normal quality, jpeg artifacts, signature, watermark, username, blurry."
            ),
        ),
        area=518_400,
        suffix=" masterpiece, film grained, best quality.",
    ),
    # The settings of the paper's measurements: arXiv 2409.18869, appendix B.1.
    "emu3-eval": Preset(sampling=SamplingParams(vision=TokenSampling(top_k=16_384), guidance=5.0), area=518_400),
    # Emu3.5's released configuration for stories of text and pictures.
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
