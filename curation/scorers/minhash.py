"""MinHash of texts: texts that share most of their five words in a row agree in most of its values.

Broder, "On the resemblance and containment of documents" (1997), with datatrove's parameters and arithmetic:
shingles of 5 words of the simplified text, 112 permutations, in 14 buckets of 8. Two texts of Jaccard similarity s
agree in some bucket with probability 1 - (1 - s^8)^14, which is 0.5 at s = 0.69.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from reelmill.curation.interfaces import Sample, Scorer
from reelmill.curation.texts.words import split_words

WORDS = 5
BUCKETS, ROWS = 14, 8
MAX_KEPT = 1 << 15
_PRIME = np.uint64((1 << 61) - 1)
_BLANK = ord(" ")
_NUMBER = re.compile(r"\d+(?:[.,،٫]\d+)?")

Hashes = npt.NDArray[np.uint64]


class MinHash(Scorer):
    """`minhash`: of each of the 112 smallest hashes the last 16 bits, then 64 bits for each bucket, hex digits; NULL
    for a text of fewer than five words."""

    columns: ClassVar = {"minhash": "VARCHAR"}
    kinds: ClassVar = ("text",)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample."""
        return [{"minhash": self._minhash(sample.text or "")} for sample in samples]

    def _minhash(self, text: str) -> str | None:
        found = shingles(text)
        if not len(found):
            return None
        least = signature(found)
        buckets = [hashlib.sha1(bucket.tobytes(), usedforsecurity=False) for bucket in least.reshape(BUCKETS, ROWS)]
        return (least.astype("<u2").tobytes() + b"".join(bucket.digest()[:8] for bucket in buckets)).hex()


def shingles(text: str) -> Hashes:
    """Hashes of all five words in a row of a simplified text."""
    simple = simplified(text)
    words = simple if simple.isascii() else " ".join(split_words(simple))  # what is left of ASCII are words and blanks
    data = words.encode()
    blanks = np.flatnonzero(np.frombuffer(data, np.uint8) == _BLANK)
    begins, ends = [0, *(blanks + 1).tolist()], [*blanks[WORDS - 1 :].tolist(), len(data)]
    if len(begins) < WORDS:
        return np.zeros(0, np.uint64)
    grams = {data[begin:end] for begin, end in zip(begins, ends, strict=False)}
    digests = b"".join([hashlib.sha1(gram, usedforsecurity=False).digest() for gram in grams])
    return np.frombuffer(digests, np.uint8).reshape(-1, 20)[:, :8].copy().view("<u8").ravel().astype(np.uint64)


def signature(found: Hashes) -> Hashes:
    """The smallest hash of a text's shingles under each of 112 permutations."""
    least = np.full(BUCKETS * ROWS, np.iinfo(np.uint64).max, np.uint64)
    for start in range(0, len(found), 512):  # 0.4 MiB at a time, which a processor's cache holds
        hashes = found[start : start + 512] * _FACTORS[:, None]
        hashes += _ADDENDS[:, None]
        np.minimum(least, _modulo_prime(hashes).min(axis=1), out=least)
    return least


def _modulo_prime(values: Hashes) -> Hashes:
    """`values % _PRIME`, in place, without division: 2^61 is 1 modulo 2^61 - 1, so that the upper bits can be added."""
    upper = values >> np.uint64(61)
    values &= _PRIME
    values += upper
    np.subtract(values, _PRIME, out=upper)  # below zero is above all others
    np.minimum(values, upper, out=values)
    return values


class _Table(dict[int, str]):
    """What becomes of each character in `str.translate`, found when it is first met; rare ones are not kept."""

    def __init__(self, becomes: Callable[[str], str]) -> None:
        super().__init__()
        self._becomes = becomes

    def __missing__(self, code: int) -> str:
        found = self._becomes(chr(code))
        if len(self) < MAX_KEPT:
            self[code] = found
        return found


_WITHOUT_MARKS = _Table(lambda c: " " if unicodedata.category(c)[0] in "PSC" else c)
_WITHOUT_ACCENTS = _Table(lambda c: "" if unicodedata.category(c) == "Mn" else c)


def simplified(text: str) -> str:
    """Lower case, without punctuation, accents and differences of numbers and blanks."""
    text = _NUMBER.sub("0", text.lower()).translate(_WITHOUT_MARKS)
    if not text.isascii():
        text = unicodedata.normalize("NFD", text).translate(_WITHOUT_ACCENTS)
    return " ".join(text.split())


def _permutations() -> tuple[Hashes, Hashes]:
    """Datatrove's, seed 1."""
    rng = np.random.RandomState(1)
    size = (1, BUCKETS * ROWS)
    return (
        rng.randint(1, int(_PRIME), dtype=np.uint64, size=size)[0],
        rng.randint(0, int(_PRIME), dtype=np.uint64, size=size)[0],
    )


_FACTORS, _ADDENDS = _permutations()
