"""Named sampling settings of Emu3's and Emu3.5's authors."""

from __future__ import annotations

from dataclasses import dataclass, field

from reelmill.config import nearest
from reelmill.errors import ConfigError
from reelmill.eval.generation.sampling import SamplingParams, TokenSampling


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Sampling settings. `area`: pixels, `max_tokens`: of text and pictures in turn (None: the command's default).
    `suffix`: appended to each prompt."""

    sampling: SamplingParams = field(default_factory=SamplingParams)
    area: int | None = None
    max_tokens: int | None = None
    suffix: str = ""


_TEXT = TokenSampling(top_k=1024, top_p=0.9)


def _emu3_5(
    *,
    guidance: float,
    max_tokens: int,
    area: int,
    vision_top_k: int = 10_240,
    text: TokenSampling = _TEXT,
) -> Preset:
    sampling = SamplingParams(vision=TokenSampling(top_k=vision_top_k), text=text, guidance=guidance)
    return Preset(sampling=sampling, area=area, max_tokens=max_tokens)


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
    # Emu3.5's released configurations (configs/example_config_*.py), one for each task that has one. Those of single
    # pictures are of Emu3.5-Image; the file for Emu3.5 itself has a guidance of 2 for t2i.
    "emu3.5-t2i": _emu3_5(guidance=5.0, max_tokens=5_120, vision_top_k=5_120, area=1_048_576),
    "emu3.5-x2i": _emu3_5(guidance=3.0, max_tokens=5_120, vision_top_k=5_120, area=1_048_576),
    "emu3.5-howto": _emu3_5(
        guidance=3.0, max_tokens=32_768, area=518_400, text=TokenSampling(top_k=200, top_p=0.8, temperature=0.7)
    ),
    "emu3.5-story": _emu3_5(guidance=3.0, max_tokens=32_768, area=518_400),
}


def preset(name: str) -> Preset:
    """The preset of that name; ConfigError names the nearest one."""
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}; {nearest(name, PRESETS)}")
    return PRESETS[name]
