"""What generated tokens read at least: of Emu3's 8B as docs/gpu.md has it, and of small models as they are stored."""

import pytest
import torch
from shareable import shareable_folder
from toy_run import VOCAB

from reelmill.eval.generation import SamplingParams, image_request, loading
from reelmill.eval.generation.floor import cache_bytes, weight_bytes
from reelmill.tokenize.documents import Grammar
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder
from reelmill.train.recipes import recipe


def test_a_picture_of_emu3s_8b():
    """32 layers of 8 heads of keys and values of 128; 90 rows of 90 codes, whose ends cost no reading of their own."""
    config = recipe("emu3_stage1").model
    vocab = Vocabulary("bytes", 32_768)
    config.vocab_size = vocab.size
    with torch.device("meta"):
        model = Decoder(config).to(torch.bfloat16)
    projections = 4096 * (2 * 4096 + 2 * 1024 + 3 * 14_336)
    assert weight_bytes(model, vocab) == 2 * (32 * (projections + 2 * 4096) + 32_768 * 4096)
    sampling = SamplingParams(guidance=3.0)
    asked = image_request(Grammar(vocab, one_block=True), "a mill", 90, 90, sampling=sampling)
    new = asked.max_new_tokens
    tokens = sum(len(prompt) + number for prompt in asked.prompts for number in range(new))
    assert cache_bytes(model, [asked]) == 2 * 32 * 8 * 128 * 2 * tokens


@pytest.mark.parametrize(("kind", "each"), [("float32", 4), ("bfloat16", 2), ("int8", 1)])
def test_weights_count_as_they_are_stored(tmp_path, kind, each):
    model = loading.load_model(shareable_folder(tmp_path), "reelmill-tok-xs", weights=kind).model
    linear = [m.weight for m in model.layers.modules() if isinstance(m, torch.nn.Linear)]
    numbers, rows = sum(w.numel() for w in linear), sum(len(w) for w in linear)
    usual = 2 if kind == "bfloat16" else 4
    others = sum(p.numel() for name, p in model.layers.named_parameters() if "norm" in name) + VOCAB.codes * 24
    scales = 4 * rows if kind == "int8" else 0
    assert weight_bytes(model, VOCAB) == each * numbers + scales + usual * others
