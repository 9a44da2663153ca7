"""In which language a text is: Google's CLD2, whose tables lie in the wheel of pycld2 (Apache-2.0)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pycld2

from reelmill.curation.interfaces import Sample, Scorer
from reelmill.errors import brief

UNKNOWN = "un"
_RENAMED = {"iw": "he", "jw": "jv"}
"""Codes that ISO 639-1 has replaced since."""


class Language(Scorer):
    """`text_language`: the language of most of the text, by its ISO 639-1 code, Chinese `zh` or `zh-Hant`;
    `text_language_share`: its share of the text, 0 to 1. Both NULL where no language is found.
    """

    columns: ClassVar = {"text_language": "VARCHAR", "text_language_share": "DOUBLE"}
    kinds: ClassVar = ("text",)
    version: ClassVar = 1

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample."""
        return [self._score(sample.text or "") for sample in samples]

    def _score(self, text: str) -> dict[str, Any]:
        try:
            _, _, found = pycld2.detect(text, isPlainText=True)
        except pycld2.error as error:  # it stops at characters that it takes for none, such as unassigned ones
            raise ValueError(f"CLD2 cannot read the text: {brief(error)}") from None
        _, code, percent, _ = found[0]
        if code == UNKNOWN:
            return dict.fromkeys(self.columns)
        return {"text_language": _RENAMED.get(code, code), "text_language_share": percent / 100}
