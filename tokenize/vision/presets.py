"""Named tokenizer configurations."""

from __future__ import annotations

from reelmill.tokenize.vision.architectures import Config
from reelmill.tokenize.vision.ibq import EMU3_5, IBQConfig
from reelmill.tokenize.vision.movq import EMU3, MoVQConfig

XS = MoVQConfig(
    channels=64,
    channel_multipliers=(1, 1),
    res_blocks=2,
    attention_levels=(),
    mid_attention=False,
    patch=4,
    z_channels=24,
    embed_dim=24,
    norm_groups=8,
    temporal_norm="group",
    temporal_norm_groups=4,
    quantizer="fsq",
    codes=4096,
    fsq_levels=(8, 8, 8, 8),
)
"""`reelmill-tok-xs`: 1.5 M parameters, 4,096 codes, made for one CPU core. A 4-pixel patch stem replaces Emu3's two
finest levels, which cost most there, and attention is left out so that any picture size costs in proportion."""

S = MoVQConfig(
    channels=128,
    channel_multipliers=(1,),
    res_blocks=2,
    attention_levels=(),
    mid_attention=False,
    patch=8,
    z_channels=32,
    embed_dim=32,
    norm_groups=8,
    temporal_norm="group",
    temporal_norm_groups=4,
    quantizer="nearest",
    codes=32768,
    causal=True,
    shortcut=True,
    decoder_blocks=6,
)
"""`reelmill-tok-s`: 5.6 M parameters, Emu3's 32,768 codes, a clip one causal sequence. An 8-pixel patch stem replaces
Emu3's three finest levels: all work is done at 1/8 resolution, where a second of one CPU core learns most. A linear
codec of patches stands beside the network, so that training begins where that ends."""

S16 = IBQConfig(
    channels=96,
    channel_multipliers=(1, 1),
    res_blocks=1,
    attention_levels=(),
    mid_attention=False,
    patch=8,
    z_channels=32,
    embed_dim=32,
    norm_groups=8,
    quantizer="nearest",
    codes=16_384,
    shortcut=True,
    decoder_blocks=2,
)
"""`reelmill-tok16-s`: 2.7 M parameters, 16,384 codes of 16x16 pixels, no time axis, documents of Emu3.5's layout. An
8-pixel patch stem replaces Emu3.5's three finest levels, and the linear codec of 16x16 patches stands beside."""

PRESETS: dict[str, Config] = {
    "reelmill-tok-s": S,
    "reelmill-tok16-s": S16,
    "reelmill-tok-xs": XS,
    "emu3-vision-tokenizer": EMU3,
    "emu3.5-vision-tokenizer": EMU3_5,
}
