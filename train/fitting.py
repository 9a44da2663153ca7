"""A recipe of pretraining for the documents at hand and this machine: what `reelmill train auto` trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from reelmill.tokenize.shards import Selection
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data.config import DataConfig
from reelmill.train.data.corpus import Corpus
from reelmill.train.data.split import split_documents
from reelmill.train.recipes import recipe

CONTEXT_STEP = 512
MOST_LEFT_OUT = 0.1
"""Share of the documents that the context may be too short for."""
TINY_IDS = Vocabulary("bytes", 4_096).size
"""Size of the vocabulary that recipe `tiny` was made for; its steps cost in proportion to ids and context."""
LEAST_STEPS = 100


@dataclass(frozen=True)
class Fit:
    """A recipe's name, the settings that fit it to the data, and why, in words."""

    name: str
    settings: list[str]
    reason: str

    @property
    def words(self) -> list[str]:
        """As arguments of `reelmill train`."""
        return [self.name, *(word for setting in self.settings for word in ("--set", setting))]


def fitting(
    folders: Sequence[Path],
    selection: Selection | list[Selection] = None,
    fingerprint: str = "",
    *,
    on_gpu: bool | None = None,
) -> Fit:
    """`tiny` on a CPU, `small` on a GPU, where there is one or `on_gpu` says so.

    Nine documents in ten, cut between latent frames, fit its context. `tiny` has fewer steps where each costs more.

    Raises DataError where there are no documents.
    """
    corpus = Corpus(folders, selection, DataConfig(fingerprint=fingerprint))
    needed = _context(corpus)
    name = "small" if (torch.cuda.is_available() if on_gpu is None else on_gpu) else "tiny"
    usual = recipe(name)
    context = max(needed, usual.data.context)
    settings = [f"data.context={context}"] if context > usual.data.context else []
    cost = context / usual.data.context * max(corpus.vocab.size, TINY_IDS) / TINY_IDS
    if name == "tiny" and cost > 1.5:
        settings.append(f"steps={max(LEAST_STEPS, round(usual.steps / cost))}")
    of = f"{len(corpus):,} documents of {corpus.vocab.size:,} ids, most of which fit a context of {needed:,}"
    return Fit(name, settings, f"{of}; {'a GPU' if name == 'small' else 'a CPU'}")


def _context(corpus: Corpus) -> int:
    """The least multiple of CONTEXT_STEP that leaves few documents out."""
    documents = np.arange(len(corpus))
    context = CONTEXT_STEP
    while context < corpus.n_tokens.max():
        _, _, left_out = split_documents(documents, corpus.n_tokens, corpus.kind, corpus.grid, context)
        if len(left_out) <= MOST_LEFT_OUT * len(corpus):
            break
        context += CONTEXT_STEP
    return context
