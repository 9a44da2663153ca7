"""Names of what the documents of a corpus teach: pictures, videos, text, conversations, Emu3.5's tasks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reelmill.tokenize.documents import TASKS, task_system
from reelmill.tokenize.shards import KINDS
from reelmill.train.data.corpus import Corpus

CHAT = "chat"
"""The name of conversations without a task."""
_LOOKED_AT = 64
"""How many conversations of a run folder are examined, evenly spread: an import mostly has one task."""
_OPENING = 160
"""The name of a task is within this many tokens, even if each is a byte."""


def subjects(corpus: Corpus, documents: npt.NDArray[np.int64]) -> list[str]:
    """Sorted names: kinds of documents (`text`, `image`, `video`, `interleaved`), `chat`, and tasks (`t2i`, ...)."""
    answered = corpus.answered[documents]
    plain = {KINDS[kind] for kind in np.unique(corpus.kind[documents[~answered]]).tolist()}
    return sorted(plain | _of_conversations(corpus, documents[answered]))


def _of_conversations(corpus: Corpus, documents: npt.NDArray[np.int64]) -> set[str]:
    found: set[str] = set()
    for folder in np.unique(corpus.folder[documents]).tolist():
        own = documents[corpus.folder[documents] == folder]
        places = np.unique(np.linspace(0, len(own) - 1, min(_LOOKED_AT, len(own))).round().astype(np.int64))
        for document in own[places].tolist():
            opening = corpus.view(document)[:_OPENING]
            words = corpus.vocab.tokenizer.decode(opening[opening < corpus.vocab.text_size].tolist())
            found.add(next((task for task in TASKS if words.startswith(task_system(task))), CHAT))
    return found
