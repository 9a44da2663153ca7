"""A causal language model of Transformers, made here and trained for moments."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from reelmill.compat import torchvision

BEGIN, UNKNOWN = "<s>", "<unk>"


def write_small_model(folder: Path, texts: Sequence[str], *, steps: int = 60, begins: bool = True) -> None:
    """Write a model of a few thousand parameters that has read the texts in a row, and its tokenizer of words."""
    torchvision()
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    text = " ".join(texts)
    splitter = pre_tokenizers.Whitespace()
    words = sorted({word for word, _ in splitter.pre_tokenize_str(text)})
    vocabulary = {word: number for number, word in enumerate([BEGIN, UNKNOWN, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = splitter
    known = {"bos_token": BEGIN} if begins else {}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=UNKNOWN, **known).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    ids = torch.tensor([[0, *tokenizer.encode(text).ids]])
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
