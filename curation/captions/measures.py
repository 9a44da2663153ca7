"""What can be measured of a caption without a model: length, repetition, and what it has of the alt text.

A recipe bounds these columns in `[captions.bounds]`. Shares of repeated n-grams are those of Gopher's filter (Rae et
al. 2021, appendix A1.1), made for captions: of three words, counted without regard to case.
"""

from __future__ import annotations

import re

from reelmill.curation.captions.checks import n_words

_WORD = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W\d_\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+|\d+")
MEASURES = ("words", "distinct_words", "repeated_trigrams", "alt_overlap")


def measures(caption: str | None, alt: str | None) -> dict[str, float | None]:
    """A caption's values of MEASURES, all None without one.

    `words`: a Chinese character counts as half a word. `distinct_words`: different words over all. `repeated_trigrams`:
    share of the runs of three words that came before; None for fewer than three words. `alt_overlap`: share of the
    different words of the alt text that the caption has; None without one, and where it is the caption.
    """
    found = [word.lower() for word in _WORD.findall(caption or "")]
    if caption is None or not found:
        return dict.fromkeys(MEASURES)
    trigrams = list(zip(found, found[1:], found[2:], strict=False))
    said = {word.lower() for word in _WORD.findall(alt or "")} if alt != caption else set()
    return {
        "words": n_words(caption),
        "distinct_words": len(set(found)) / len(found),
        "repeated_trigrams": 1 - len(set(trigrams)) / len(trigrams) if trigrams else None,
        "alt_overlap": len(said & set(found)) / len(said) if said else None,
    }
