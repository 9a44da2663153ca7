"""C4's filters of texts (Raffel et al. 2020, section 2.2), as datatrove runs them: by the lines that C4 would keep.

They are made for English. The text stays whole: what is measured is how much of it C4 would have kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from reelmill.curation.interfaces import Sample, Scorer

_CITATIONS = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
_ENDS = (".", "?", "!", '"', "'")
_POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_LONGEST_WORD = 1000
_LEAST_WORDS = 3
_SENTENCE = re.compile(r"""[.!?]+["'”’)\]]*(?=\s|$)""")


class C4(Scorer):
    """`c4_sentences`: sentences in lines that C4 keeps, those that end like a sentence, have three words or more, and
    speak neither of Javascript nor of cookies; `c4_kept`: the share of the text's characters in these lines;
    `c4_lorem_ipsum`, `c4_curly_bracket`: whether such a line has one, for which C4 drops the text.
    """

    columns: ClassVar = {
        "c4_sentences": "BIGINT",
        "c4_kept": "DOUBLE",
        "c4_lorem_ipsum": "BOOLEAN",
        "c4_curly_bracket": "BOOLEAN",
    }
    kinds: ClassVar = ("text",)

    @dataclass
    class Config:
        """Which of C4's filters apply."""

        terminal_punctuation: bool = True
        """Whether a line that does not end like a sentence is one that C4 drops. FineWeb leaves this out (section
        3.5): it rejects most of the web, and all texts with lines of fixed width."""

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample."""
        return [self._score(sample.text or "") for sample in samples]

    def _score(self, text: str) -> dict[str, Any]:
        sentences = chars = 0
        lorem_ipsum = curly_bracket = False
        for line in map(str.strip, text.splitlines()):
            words = line.split()
            kept = _CITATIONS.sub("", line) if "[" in line else line
            if self.config.terminal_punctuation and (not kept.endswith(_ENDS) or kept.endswith("...")):
                continue
            if len(words) < _LEAST_WORDS:
                continue
            if len(line) > _LONGEST_WORD and max(map(len, words)) > _LONGEST_WORD:
                continue
            lower = kept.lower()
            lorem_ipsum = lorem_ipsum or "lorem ipsum" in lower
            if "javascript" in lower:
                continue
            curly_bracket = curly_bracket or "{" in kept
            if any(policy in lower for policy in _POLICIES):
                continue
            sentences += max(len(_SENTENCE.findall(kept)), 1)
            chars += len(line)
        return {
            "c4_sentences": sentences,
            "c4_kept": chars / max(len(text), 1),
            "c4_lorem_ipsum": lorem_ipsum,
            "c4_curly_bracket": curly_bracket,
        }
