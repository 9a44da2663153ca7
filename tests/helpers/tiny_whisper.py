"""A Whisper of random weights with a tokenizer of bytes, saved by Transformers as the published ones are."""

import torch

from reelmill.compat import torchvision

PROMPT = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")


def tiny_whisper(folder):
    """The model; `folder` holds its checkpoint."""
    torchvision()
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration
    from transformers.models.whisper.tokenization_whisper import LANGUAGES, WhisperTokenizer

    special = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES)]
    special += [
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
    ]
    names = [*sorted(ByteLevel.alphabet()), *special]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = WhisperTokenizer(vocabulary, [], additional_special_tokens=special)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    torch.manual_seed(0)
    ids = {"bos_token_id": vocabulary["<|endoftext|>"], "eos_token_id": vocabulary["<|endoftext|>"]}
    ids |= {"pad_token_id": vocabulary["<|endoftext|>"], "decoder_start_token_id": vocabulary["<|startoftranscript|>"]}
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "init_std": 0.3}
    model = WhisperForConditionalGeneration(WhisperConfig(vocab_size=len(names) + 1501, **sizes, **heads, **ids)).eval()
    languages = {f"<|{code}|>": vocabulary[f"<|{code}|>"] for code in LANGUAGES}
    model.generation_config = GenerationConfig(
        **ids, lang_to_id=languages, alignment_heads=[[1, 0]], suppress_tokens=[], begin_suppress_tokens=[]
    )
    model.save_pretrained(folder)
    return model, vocabulary
