"""Claim: the endpoint captioner works with a third-party server and a vision model, offline.

`transformers serve` with a tiny Qwen2-VL of random weights: it sees the pictures and answers nonsense, so this tests
the protocol (chat API, data URIs, 12 pictures a request, several requests at a time), not captions.

    python3 -m venv serve-env
    serve-env/bin/pip install transformers==5.23.0 torch torchvision accelerate fastapi uvicorn openai pillow
    serve-env/bin/python bench/caption_server.py tiny-qwen2-vl --port 8011
    reelmill caption run out/sample --source endpoint --url http://127.0.0.1:8011/v1 --model tiny-qwen2-vl \\
        --set captions.frames.short_side=112 --set captions.max_tokens=24 --set captions.endpoint.concurrency=2

It needs an environment of its own: transformers and its server are not part of reelmill.
"""

import argparse
import os
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")

import torch

SPECIALS = ("im_start", "im_end", "vision_start", "vision_end", "image_pad", "video_pad", "endoftext")
TEMPLATE = """{% for message in messages %}<|im_start|>{{ message['role'] }}
{% for part in message['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>\
{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def import_torchvision():
    """torchvision, even if its native operators do not load with a CPU build of torch."""
    try:
        import torchvision
    except RuntimeError:
        fragment = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            fragment.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        globals()["_fragment"] = fragment  # a registration lives as long as its object
        import torchvision  # noqa: F401


def words():
    """A vocabulary that decodes to words, so that answers look like text: bytes, then syllables."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    syllables = [f"Ġ{a}{b}" for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "el", "or")]
    return letters + syllables


def build(folder: Path) -> None:
    """Write config, random weights, tokenizer and processor of a tiny Qwen2-VL."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    vocabulary = {word: n for n, word in enumerate(words())}
    bpe = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    names = [f"<|{name}|>" for name in SPECIALS]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", additional_special_tokens=names
    )
    ids = dict(zip(SPECIALS, tokenizer.convert_tokens_to_ids(names), strict=True))
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32_768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
        "bos_token_id": ids["endoftext"], "eos_token_id": ids["im_end"], "pad_token_id": ids["endoftext"],
    }  # fmt: skip
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2}
    config = Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
    )
    torch.manual_seed(0)
    model = Qwen2VLForConditionalGeneration(config)
    model.save_pretrained(folder)
    images, videos = Qwen2VLImageProcessor(), Qwen2VLVideoProcessor()
    Qwen2VLProcessor(images, tokenizer, videos, chat_template=TEMPLATE).save_pretrained(folder)
    print(f"{folder}: {sum(p.numel() for p in model.parameters()):,} random parameters")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=8011)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    import_torchvision()
    if not (arguments.folder / "config.json").is_file():
        build(arguments.folder)
    from torchvision.transforms.v2.functional import pil_to_tensor
    from transformers import image_processing_backends
    from transformers.cli.serve import Serve
    from transformers.image_utils import load_image

    # torchvision's own JPEG decoder is one of the native operators that may not load; PIL reads the same bytes.
    image_processing_backends.load_image_as_tensor = lambda url, *_, **__: pil_to_tensor(load_image(url).convert("RGB"))
    Serve(force_model=str(arguments.folder), device="cpu", host="127.0.0.1", port=arguments.port)


if __name__ == "__main__":
    main()
