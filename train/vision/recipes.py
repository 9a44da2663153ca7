"""Recipes of vision tokenizers: each a function that returns a `TokenizerRecipe`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from reelmill.config import nearest
from reelmill.errors import ConfigError
from reelmill.tokenize.vision.presets import PRESETS
from reelmill.train.saver import CheckpointConfig
from reelmill.train.vision.config import TokenizerOptimizerConfig, TokenizerRecipe
from reelmill.train.vision.data import DataConfig
from reelmill.train.vision.losses import LossConfig


def reelmill_tok_s() -> TokenizerRecipe:
    """The shipped tokenizer from nothing, with half of its decoder: about an hour of one CPU core."""
    return TokenizerRecipe(
        name="reelmill-tok-s",
        model=replace(PRESETS["reelmill-tok-s"], decoder_blocks=3),
        data=DataConfig(pictures=3, clips=1, latents=(1, 4, 1), sizes=(96, 64, 96), cache_gb=6.0),
        loss=LossConfig(lpips=0.05, lpips_start=3_000, quantizer=10.0),
        optimizer=TokenizerOptimizerConfig(lr=1e-3, final_lr=1e-5),
        steps=4_400,
        ema=0.999,
        revive_every=250,
        fit=160_000,
    )


def reelmill_tok_s_decoder() -> TokenizerRecipe:
    """The decoder alone, at its whole depth, for PSNR and SSIM; the codes of what it begins with stay."""
    return TokenizerRecipe(
        name="reelmill-tok-s",
        model=PRESETS["reelmill-tok-s"],
        data=DataConfig(pictures=5, clips=1, latents=(1, 4, 1), sizes=(96, 64, 96), cache_gb=4.0),
        loss=LossConfig(lpips=0.01, ssim=0.3),
        optimizer=TokenizerOptimizerConfig(lr=1e-3, final_lr=1e-5),
        steps=3_000,
        ema=0.999,
        init="reelmill-tok-s",
        train_only="decoder",
    )


def reelmill_tok_s_finetune() -> TokenizerRecipe:
    """All of it goes on from a tokenizer that is there: the shipped one on other media, or what becomes it.

    Such small crops learn most in a second, and shift the colors of larger pictures: end with some hundred steps on
    crops as large as what will be encoded, as the last stage in docs/tokenizer.md does.
    """
    return TokenizerRecipe(
        name="reelmill-tok-s",
        model=PRESETS["reelmill-tok-s"],
        data=DataConfig(pictures=4, clips=1, latents=(1, 4, 1), sizes=(96, 64, 96), cache_gb=4.0),
        loss=LossConfig(lpips=0.02, ssim=0.3, quantizer=10.0),
        optimizer=TokenizerOptimizerConfig(lr=8e-4, final_lr=8e-6),
        steps=6_000,
        ema=0.999,
        revive_every=25,
        init="reelmill-tok-s",
    )


def reelmill_tok_xs() -> TokenizerRecipe:
    """The small one of recipe `sample`: 4,096 codes, every 4 frames by themselves."""
    return TokenizerRecipe(
        name="reelmill-tok-xs",
        model=PRESETS["reelmill-tok-xs"],
        data=DataConfig(pictures=6, clips=1, latents=(2,), sizes=(64, 64, 96)),
        optimizer=TokenizerOptimizerConfig(lr=2e-3, final_lr=2e-5),
        steps=7_000,
    )


def reelmill_tok16_s() -> TokenizerRecipe:
    """The shipped one of Emu3.5's kind (16x, no time axis) from nothing, on small crops: first of two stages."""
    return TokenizerRecipe(
        name="reelmill-tok16-s",
        model=PRESETS["reelmill-tok16-s"],
        data=DataConfig(pictures=8, clips=0, sizes=(128,), cache_gb=1.5),
        loss=LossConfig(ssim=0.1, quantizer=2.5),
        optimizer=TokenizerOptimizerConfig(lr=1e-3, final_lr=2e-5),
        steps=5_000,
        ema=0.999,
        revive_every=50,
        fit=160_000,
    )


def reelmill_tok16_s_decoder() -> TokenizerRecipe:
    """Its second stage: the decoder alone, on crops nearly as large as what will be decoded, with LPIPS."""
    return TokenizerRecipe(
        name="reelmill-tok16-s",
        model=PRESETS["reelmill-tok16-s"],
        data=DataConfig(pictures=4, clips=0, sizes=(192,), cache_gb=1.5),
        loss=LossConfig(lpips=0.1, ssim=0.2),
        optimizer=TokenizerOptimizerConfig(lr=5e-4, final_lr=5e-6),
        steps=700,
        ema=0.998,
        init="reelmill-tok16-s",
        train_only="decoder",
    )


def emu3_vision_tokenizer() -> TokenizerRecipe:
    """Emu3's own architecture and objective at full size, for GPUs: L2, LPIPS, adversary, commitment, end to end.

    Disclosed (arXiv 2409.18869, section 2.2): the terms, images and videos together, the start from a MoVQGAN of 270 M
    parameters. Not disclosed, and taken from MoVQGAN's public training (256 pixels, LPIPS 0.1, adversary 0.1, Adam 1e-4
    with betas 0.5 and 0.9, average 0.9999): all weights and rates. Batch, steps and revival are chosen here.
    """
    return TokenizerRecipe(
        name="emu3-vision-tokenizer",
        model=PRESETS["emu3-vision-tokenizer"],
        data=DataConfig(pictures=8, clips=2, latents=(1,), sizes=(256,), short_side=512, real_clips=1.0, workers=8),
        loss=LossConfig(
            l1=0.0, l2=1.0, edges=0.0, colour=0.0, flicker=0.0, lpips=0.1, adversarial=0.1, adversarial_start=10_000,
            quantizer=1.0,
        ),
        optimizer=TokenizerOptimizerConfig(
            lr=1e-4, final_lr=1e-6, beta1=0.5, beta2=0.9, weight_decay=0.0, warmup_steps=1_000, discriminator_lr=1e-4
        ),
        steps=500_000,
        ema=0.9999,
        revive_every=500,
        precision="bfloat16",
        checkpoint=CheckpointConfig(every=5_000, keep=2),
    )  # fmt: skip


def emu3_5_vision_tokenizer() -> TokenizerRecipe:
    """Emu3.5's own architecture and objective at full size, for GPUs: pictures alone, index backpropagation.

    Disclosed (arXiv 2510.26583, sections 2.3 and 5.2): the terms (reconstruction, quantizer, LPIPS, adversary, entropy,
    features of siglip-large-patch16-256 distilled into the decoder), Adam at 1e-4 with betas 0.5 and 0.9, 15,000 steps
    of warm-up, 500,000 steps, batch 256: 32 ranks of 8 pictures. Weights are those of the public IBQ tokenizers' own
    (L1 1.0, LPIPS 1.0, adversary 0.1 from the start, quantizer 1.0, entropy 0.05, 256 pixels), which has none for
    SigLIP's features: 0.5 is chosen here, as are the end of the cosine and the average.
    """
    return TokenizerRecipe(
        name="emu3.5-vision-tokenizer",
        model=PRESETS["emu3.5-vision-tokenizer"],
        data=DataConfig(
            pictures=8, clips=0, sizes=(256,), short_side=512, real_clips=0.0, video_stills=0.0, workers=8
        ),
        loss=LossConfig(
            l1=1.0, l2=0.0, edges=0.0, colour=0.0, flicker=0.0, lpips=1.0, adversarial=0.1, quantizer=1.0, entropy=0.05,
            semantic=0.5, semantic_model="siglip-large-patch16-256",
        ),
        optimizer=TokenizerOptimizerConfig(
            lr=1e-4, final_lr=1e-6, beta1=0.5, beta2=0.9, weight_decay=0.0, warmup_steps=15_000, discriminator_lr=1e-4
        ),
        steps=500_000,
        ema=0.9999,
        precision="bfloat16",
        parallel="fsdp",
        checkpoint=CheckpointConfig(every=5_000, keep=2),
    )  # fmt: skip


RECIPES: dict[str, Callable[[], TokenizerRecipe]] = {
    "reelmill-tok-s": reelmill_tok_s,
    "reelmill-tok-s-decoder": reelmill_tok_s_decoder,
    "reelmill-tok-s-finetune": reelmill_tok_s_finetune,
    "reelmill-tok-xs": reelmill_tok_xs,
    "reelmill-tok16-s": reelmill_tok16_s,
    "reelmill-tok16-s-decoder": reelmill_tok16_s_decoder,
    "emu3-vision-tokenizer": emu3_vision_tokenizer,
    "emu3.5-vision-tokenizer": emu3_5_vision_tokenizer,
}


def recipe(name: str) -> TokenizerRecipe:
    """The recipe of that name; ConfigError names the nearest one."""
    if name not in RECIPES:
        raise ConfigError(f"no tokenizer recipe {name!r}; {nearest(name, RECIPES)}")
    return RECIPES[name]()
