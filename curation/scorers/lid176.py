"""In which language a text is: fastText's model of 176 languages, compressed (Joulin et al. 2016)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, ClassVar

from reelmill import weights
from reelmill.curation.interfaces import Sample, Scorer
from reelmill.errors import WeightsError

WEIGHTS = "lid-176"
_LABEL = "__label__"


class Lid176(Scorer):
    """`text_language`: the language of a text, ISO 639-1 where there is such a code, else 639-3; Chinese is `zh`
    in both scripts. `text_language_share`: the model's probability of it, 0 to 1. Both NULL for a text without letters.

    Takes the place of the scorer `language` in a recipe: its table says `use = "lid176"`.
    """

    columns: ClassVar = {"text_language": "VARCHAR", "text_language_share": "DOUBLE"}
    kinds: ClassVar = ("text",)
    weights: ClassVar = (WEIGHTS,)

    def setup(self) -> None:
        """Load the model. WeightsError where it or fastText's package is missing."""
        if importlib.util.find_spec("fasttext") is None:
            raise WeightsError("scorer lid176 needs fasttext-predict. Run: pip install 'reelmill[fasttext]'")
        import fasttext

        self._model = fasttext.load_model(str(weights.path(WEIGHTS)))

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample."""
        return [self._score(sample) for sample in samples]

    def _score(self, sample: Sample) -> dict[str, Any]:
        if not sample.words.is_alphabetic.any():
            return dict.fromkeys(self.columns)
        labels, probabilities = self._model.predict(" ".join((sample.text or "").split()))
        return {
            "text_language": labels[0].removeprefix(_LABEL),
            "text_language_share": min(float(probabilities[0]), 1.0),  # the sum of its softmax is a little off 1
        }
