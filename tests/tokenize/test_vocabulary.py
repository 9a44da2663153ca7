"""The id space and the text tokenizers."""

import base64
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.errors import ConfigError, DataError, WeightsError
from reelmill.tokenize.text import QwenTokenizer, load
from reelmill.tokenize.vocabulary import Vocabulary

QWEN, BYTES = Vocabulary(), Vocabulary("bytes", 4096)

SPECIAL_STRINGS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|extra_200|>",
    "<|extra_203|>",
    "<|extra_204|>",
    "<|image token|>",
    "<|image start|>",
    "<|image end|>",
    "<|visual token 000000|>",
]


def test_emu3s_ids_to_the_id():
    assert QWEN.size == 184_622
    assert (QWEN.text_size, QWEN.vision_start, QWEN.vision_stop) == (151_643, 151_854, 184_622)
    assert (QWEN.pad, QWEN.bos, QWEN.eos, QWEN.eol, QWEN.eof) == (151_643, 151_849, 151_850, 151_846, 151_847)
    assert (QWEN.img, QWEN.boi, QWEN.eoi) == (151_851, 151_852, 151_853)
    assert Vocabulary(codes=131_072).size == 282_926


def test_the_bytes_vocabulary_has_the_same_specials_in_the_same_order():
    shift = QWEN.text_size - BYTES.text_size
    for role in ("pad", "bos", "eos", "eol", "eof", "img", "boi", "eoi", "vision_start"):
        assert getattr(QWEN, role) - shift == getattr(BYTES, role)
    assert BYTES.size == 256 + 211 + 4096


def test_names():
    assert [QWEN.name(token) for token in (15, 151_643, 151_646, 151_848, 151_849, 151_852, 151_854, 184_621)] == [
        "text 15",
        "PAD",
        "<|extra_0|>",
        "<|extra_202|>",
        "BOS",
        "BOI",
        "code 0",
        "code 32767",
    ]
    assert "outside" in QWEN.name(184_622)
    assert "outside" in QWEN.name(-1)


def test_is_vision():
    ids = np.array([[0, BYTES.eoi], [BYTES.vision_start, BYTES.vision_stop - 1], [BYTES.vision_stop, -1]])
    assert BYTES.is_vision(ids).tolist() == [[False, False], [True, True], [False, False]]


def test_json_and_equality():
    for vocab in (QWEN, BYTES):
        assert Vocabulary.from_json(vocab.to_json()) == vocab
        assert hash(Vocabulary.from_json(vocab.to_json().encode())) == hash(vocab)
    assert Vocabulary(codes=131_072) != QWEN


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        "",
        "{",
        "[]",
        "null",
        '{"text": "qwen"}',
        '{"text": "gpt", "codes": 2}',
        '{"text": [], "codes": 2}',
        '{"text": "qwen", "codes": "2"}',
        '{"text": "qwen", "codes": 0}',
        '{"text": "qwen", "codes": 1, "x": 1}',
    ],
)
def test_json_that_is_no_vocabulary(data):
    with pytest.raises(DataError, match="Not a vocabulary"):
        Vocabulary.from_json(data)


@pytest.mark.parametrize(
    ("text", "codes"), [("gpt", 10), ("bytes", 0), ("bytes", -1), ("qwen", 2**31), ("bytes", True)]
)
def test_impossible_vocabularies(text, codes):
    with pytest.raises(ConfigError):
        Vocabulary(text, codes)


def test_known_qwen_ids():
    """Ids of Qwen's published vocabulary: one id a digit, `*` is 9, and words with their leading space."""
    assert QWEN.tokenizer.encode("64*64") == [21, 19, 9, 21, 19]
    assert QWEN.tokenizer.encode("0123456789") == list(range(15, 25))
    assert QWEN.tokenizer.encode("hello world") == [14990, 1879]
    assert QWEN.tokenizer.decode([14990, 1879]) == "hello world"
    assert QWEN.tokenizer.size == QWEN.text_size


@pytest.mark.parametrize("vocab", [QWEN, BYTES], ids=["qwen", "bytes"])
@settings(deadline=None)
@given(
    text=st.text()
    | st.lists(st.sampled_from([*SPECIAL_STRINGS, " ", "\n", "é", "e\u0301", "ﬁ", "가", "a"])).map("".join)
)
def test_any_text_round_trips(vocab, text):
    tokenizer = vocab.tokenizer
    ids = tokenizer.encode(text)
    assert all(0 <= token < vocab.text_size for token in ids)
    assert tokenizer.decode(ids) == tokenizer.normalise(text)
    assert tokenizer.normalise(text) == (unicodedata.normalize("NFC", text) if vocab is QWEN else text)


@pytest.mark.parametrize("vocab", [QWEN, BYTES], ids=["qwen", "bytes"])
def test_lone_surrogates_are_replaced(vocab):
    tokenizer = vocab.tokenizer
    assert tokenizer.decode(tokenizer.encode("a\ud800b\udc00")) == "a\ufffdb\ufffd"
    assert tokenizer.decode(tokenizer.encode("\ud83d\ude00")) == "😀"


def test_invalid_utf8_decodes_to_replacement_characters():
    assert load("bytes").decode([0xFF, 65]) == "\ufffdA"


@pytest.mark.parametrize(
    "text",
    [
        " " * 2_000_000,
        " " * 1_500_000 + "x",
        "\n \t" * 500_000,
        "a" * 1_000_000,
        "\u00a0" * 1_200_000,
        "a" + "\u0301\u0316" * 100_000,
        "é" * 500_000,
        "!" * 1_000_000,
    ],
    ids=[
        "blanks",
        "blanks-x",
        "mixed-blanks",
        "letters",
        "no-break-blanks",
        "marks",
        "accents",
        "marks-of-exclamation",
    ],
)
def test_hostile_text_neither_crashes_nor_stalls_the_tokenizer(text):
    tokenizer = load("qwen")
    began = time.process_time()
    ids = tokenizer.encode(text)
    assert time.process_time() - began < 5
    assert tokenizer.decode(ids) == tokenizer.normalise(text)


def test_long_decomposed_text_is_composed_throughout():
    text = "cafe\u0301 " * 5_000
    assert load("qwen").normalise(text) == "café " * 5_000


def test_fingerprints_differ_and_stay():
    assert load("qwen").fingerprint != load("bytes").fingerprint
    assert len(load("qwen").fingerprint) == 64
    assert load("qwen") is load("qwen")


def test_unknown_text_tokenizer():
    with pytest.raises(ConfigError, match="gpt"):
        load("gpt")


def test_a_damaged_rank_file(tmp_path):
    path = tmp_path / "qwen.tiktoken"
    path.write_bytes(b"".join(base64.b64encode(bytes([n])) + b" %d\n" % n for n in range(256)))
    with pytest.raises(WeightsError, match="256 BPE ranks"):
        QwenTokenizer(path)
