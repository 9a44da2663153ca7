"""The documents of one or several run folders, packed into rows and served as batches.

A batch is a pure function of (seed, epoch, batch index, data fingerprint): whatever the number of ranks, step n holds
the same rows, and a run resumes from its step number alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from reelmill.errors import DataError
from reelmill.tokenize.documents import parse_unchecked, video_part, without_words
from reelmill.tokenize.shards import KINDS
from reelmill.train.data.batches import Batch, Contents, assemble, with_shuffled_codes
from reelmill.train.data.binpacking import Ints
from reelmill.train.data.caption_dropout import drop_caption, move_caption
from reelmill.train.data.config import DataConfig
from reelmill.train.data.corpus import Corpus
from reelmill.train.data.epochs import Stream, epoch_quotas, windows
from reelmill.train.data.packing import Packing, Pieces, pack
from reelmill.train.data.schedule import Schedule
from reelmill.train.data.split import split_documents
from reelmill.train.data.synthetic import SyntheticDocument, synthetic_documents

_IMAGE, _VIDEO, _TEXT, _INTERLEAVED = (KINDS.index(kind) for kind in ("image", "video", "text", "interleaved"))


class Loader:
    """Batches of some documents of a corpus.

    Raises ConfigError where the batch cannot be shared out evenly or `data.shares` are no shares, DataError where no
    document fits.
    """

    def __init__(self, corpus: Corpus, documents: Ints, config: DataConfig, seed: int, ranks: int = 1) -> None:
        self.corpus, self.documents, self.config, self.seed = corpus, documents, config, seed
        self.packing = lru_cache(maxsize=1)(self._packing)
        self.schedule = Schedule(self.packing, config, ranks)
        self.place, self.batches = self.schedule.place, self.schedule.batches
        self.left_out = self._split(documents, corpus.n_tokens)[2]
        self._streams = [self._stream(folder) for folder in range(len(corpus.folders))]
        self._quotas = epoch_quotas([int(stream.tokens.sum()) for stream in self._streams], config.shares)
        self.synthetic = lru_cache(maxsize=1)(self._synthetic)
        self._caption_dropped = lru_cache(maxsize=1)(self._drop_captions)
        self._questions_dropped = lru_cache(maxsize=1)(self._drop_questions)
        self._caption_moved = lru_cache(maxsize=1)(self._move_captions)
        if not self.packing(0).rows:
            raise DataError(self._why_nothing())
        self._weights = np.array([config.text_weight, config.structure_weight, config.vision_weight], dtype=np.float32)

    def micro_batches(self, step: int, rank: int) -> list[Batch]:
        """The batches of `rank` in step `step`, in order; every rank gets the same number."""
        epoch, _ = self.place(step)
        packing = self.packing(epoch)
        return [
            self.build([packing.row(row) if row is not None else None for row in rows], epoch)
            for rows in self.schedule.rows(step, rank)
        ]

    def build(self, rows: Sequence[Pieces | None], epoch: int = 0, *, shuffle_vision: bool = False) -> Batch:
        """The batch of these rows of an epoch; None is a row without predictions.

        With `shuffle_vision` each document's codes are put in a random order (a validation that order is learned).
        """
        contents = [list(self._contents(pieces, epoch)) if pieces is not None else [] for pieces in rows]
        if shuffle_vision:
            contents = [[with_shuffled_codes(self.corpus.vocab, piece, self.seed) for piece in row] for row in contents]
        return assemble(self.corpus.vocab, contents, self.config.context, self._weights, self.config.ends_weight)

    def _contents(self, pieces: Pieces, epoch: int) -> Iterator[Contents]:
        """The contents of each piece."""
        vocab, real = self.corpus.vocab, len(self.corpus)
        dropped, moved = self._caption_dropped(epoch), self._caption_moved(epoch)
        answered, unasked = self.corpus.answered, self._questions_dropped(epoch)
        columns = (pieces.document, pieces.first, pieces.stop)
        for number, first, stop in zip(*(column.tolist() for column in columns), strict=True):
            if number >= real:
                synthetic = self.synthetic(epoch)[number - real]
                yield Contents(number, synthetic.tokens, text_counts=False)
                continue
            tokens = self.corpus.view(number)
            if dropped[number]:
                tokens = drop_caption(vocab, tokens)
            elif moved[number]:
                tokens = move_caption(vocab, tokens)
            if answered[number]:
                answers = self.corpus.answers(number)
                if unasked[number] and not stop:
                    tokens, answers = self._without_question(tokens, answers)
                piece = tokens[first : stop + 1] if stop else tokens
                yield Contents(number, piece, answers=answers - first)
            elif not stop:
                yield Contents(number, tokens)
            elif self.corpus.kind[number] == _VIDEO:
                document = parse_unchecked(vocab, video_part(parse_unchecked(vocab, tokens), first, stop - first))
                repeated = document.blocks[0].body if first else 0
                yield Contents(number, document.tokens, repeated, text_counts=not first)
            else:
                yield Contents(number, tokens[first : stop + 1])

    def _why_nothing(self) -> str:
        """The error where there is not a single row."""
        corpus, config, count = self.corpus, self.config, len(self.documents)
        if count:
            return (
                f"none of {count} documents ({len(corpus)} in all) fits a context of {config.context}: the shortest "
                f"takes {int(corpus.n_tokens[self.documents].min()) - 1}; raise data.context."
            )
        wanted = corpus.of_kinds(config.kinds)
        held_out = int((wanted & corpus.heldout).sum())
        return (
            f"none of {len(corpus)} documents is left to train on: data.kinds ({', '.join(config.kinds)}) leaves out "
            f"{int((~wanted).sum())}, data.heldout {config.heldout:g} holds out {held_out}; change these, or add "
            "documents."
        )

    def _packing(self, epoch: int) -> Packing:
        rng, corpus = self._random(epoch), self.corpus
        dropped, n_tokens = self._caption_dropped(epoch), corpus.n_tokens
        if dropped.any():
            n_tokens = np.where(dropped, corpus.tokens_without_caption, n_tokens)
        of_epoch = windows(
            self._streams,
            self._quotas,
            epoch,
            corpus.row_group_tokens,
            corpus.window_tokens,
            lambda stream, number: self._random(number, 2, stream),
        )
        synthetic = self._synthetic_pieces(epoch)
        packings = []
        for number, documents in enumerate(of_epoch):
            unsplit, texts, _ = self._split(rng.permutation(documents), n_tokens)
            unsplit = Pieces.join([unsplit, synthetic.take(slice(number, None, len(of_epoch)))])
            packings.append(pack(unsplit, texts, self.config.context, rng))
        return Packing.join(packings)

    def _split(self, documents: Ints, n_tokens: Ints) -> tuple[Pieces, Pieces, Ints]:
        context, size, kind = self.config.context, n_tokens[documents], self.corpus.kind[documents]
        # A conversation stays whole, each question with its answer, but for a text longer than the context.
        kind[self.corpus.answered[documents] & ((kind != _TEXT) | (size <= context + 1))] = _INTERLEAVED
        return split_documents(documents, size, kind, self.corpus.grid[documents], context)

    def _stream(self, folder: int) -> Stream:
        """The documents of one run folder; those that are left out count zero tokens."""
        documents = self.documents[self.corpus.folder[self.documents] == folder]
        fits = ~np.isin(documents, self.left_out)
        return Stream(documents, self.corpus.n_tokens[documents] * fits, self.corpus.row_group_id[documents])

    def _drop_captions(self, epoch: int) -> npt.NDArray[np.bool_]:
        return self.corpus.captions_dropped(self.config.caption_drop, self.seed, epoch)

    def _drop_questions(self, epoch: int) -> npt.NDArray[np.bool_]:
        return self.corpus.questions_dropped(self.config.question_drop, self.seed, epoch)

    def _without_question(
        self, tokens: npt.NDArray[np.int32], answers: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """A task's document without task and question, and where its answer stands then; no longer than before, so that
        it fits where it was packed. Another document as it is."""
        bare = without_words(self.corpus.vocab, tokens, int(answers[0]))
        if bare is None or len(bare) > len(tokens):
            return tokens, answers
        return bare, answers - (len(tokens) - len(bare))

    def _move_captions(self, epoch: int) -> npt.NDArray[np.bool_]:
        return self.corpus.captions_moved(self.config.caption_after, self.seed, epoch)

    def _synthetic_pieces(self, epoch: int) -> Pieces:
        """The synthetic documents that fit; they are numbered on from the corpus's documents."""
        size = np.array([len(synthetic.tokens) - 1 for synthetic in self.synthetic(epoch)], dtype=np.int64)
        fits = np.flatnonzero(size <= self.config.context)
        return Pieces.unsplit(len(self.corpus) + fits, size[fits])

    def _synthetic(self, epoch: int) -> list[SyntheticDocument]:
        """All synthetic documents of an epoch; held-out documents have none."""
        if not self.config.lessons:
            return []
        visual = np.isin(self.corpus.kind[self.documents], (_IMAGE, _VIDEO)) & ~self.corpus.heldout[self.documents]
        documents = [parse_unchecked(self.corpus.vocab, tokens) for tokens in self.corpus.read(self.documents[visual])]
        return synthetic_documents(documents, self.config.lessons, self._random(epoch, 1))

    def _random(self, epoch: int, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, epoch, int(self.corpus.fingerprint[:16], 16), *purpose])
