"""FineWeb's filters of texts (Penedo et al. 2024, section 3.6), as datatrove runs them: by lines that are not blank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from reelmill.curation.interfaces import Sample, Scorer
from reelmill.curation.scorers.gopher import repeated

_ENDS = tuple(".!?‼‽⁇⁈⁉…。．｡！？؟۔।॥።፧፨։၊။៖។៕᠃᠉⸮꓿꘎꘏")
"""What ends a sentence in scripts that are written much."""
_SHORT = 30


class FineWeb(Scorer):
    """Shares of lines that end like a sentence, and that have at most 30 characters; share of characters in lines that
    came before; line ends for each word.
    """

    columns: ClassVar = {
        "fineweb_ended_lines": "DOUBLE",
        "fineweb_short_lines": "DOUBLE",
        "fineweb_repeated_chars": "DOUBLE",
        "fineweb_line_ends": "DOUBLE",
    }
    kinds: ClassVar = ("text",)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample."""
        return [self._score(sample.text or "", len(sample.words.ids)) for sample in samples]

    def _score(self, text: str, words: int) -> dict[str, Any]:
        lines = [line for line in text.split("\n") if line.strip()]
        if not lines:
            return dict.fromkeys(self.columns)
        line_ends = text.count("\n")
        return {
            "fineweb_ended_lines": sum(line.endswith(_ENDS) for line in lines) / len(lines),
            "fineweb_short_lines": sum(len(line) <= _SHORT for line in lines) / len(lines),
            "fineweb_repeated_chars": repeated(lines)[1] / (len(text) - line_ends),
            "fineweb_line_ends": line_ends / max(words, 1),
        }
