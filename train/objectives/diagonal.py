"""The objective of drawing by diagonals: predict each code from its left and its upper neighbor, and the next token.

After FlashAR (arXiv 2605.09430): a second head predicts the code below, a gate mixes its logits with the decoder's, and
at first only these two are trained. Chosen here: pictures are copied behind their documents, so that the documents stay
those of ordinary training and the model keeps plain decoding, captions of pictures and text; ends of rows stay in the
stream and open the next row, so that all codes but those of the first row have both predictions; both heads share the
output projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from reelmill.errors import ConfigError
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.config import TrainConfig
from reelmill.train.data.batches import Batch
from reelmill.train.data.corpus import Corpus
from reelmill.train.diagonals import Ints, diagonals_of
from reelmill.train.model import Decoder
from reelmill.train.objectives.by_kind import KIND_NAMES, as_tensors, sums_by_kind
from reelmill.train.objectives.copies import backend_of_copies, pictures_of
from reelmill.train.objectives.interface import BatchLoss
from reelmill.train.objectives.next_token import NextToken
from reelmill.train.parallel import Layout
from reelmill.train.two_streams import PictureCopy, TwoStreams
from reelmill.train.vertical import PREFIX


@dataclass(kw_only=True)
class DiagonalConfig:
    """What the predictions weigh, and how the second head begins."""

    right_weight: float = 0.05
    """Weight of the loss of the decoder's own predictions, from the left neighbor."""
    below_weight: float = 0.05
    """Weight of the loss of the second head's, from the upper neighbor."""
    next_token_weight: float = 1.0
    """Weight of the next-token loss of the documents, whose kinds weigh what [data] says."""
    frozen: float = 0.2
    """Share of the steps, the first ones, in which only the second head learns."""
    backbone_rate: float = 0.2
    """Of the learning rate, for all but the second head, in the steps after that."""

    def check(self) -> None:
        """Raise ConfigError for numbers that mean nothing."""
        for name in ("right_weight", "below_weight", "next_token_weight", "backbone_rate"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"diagonal.{name} is {getattr(self, name)}; it must be 0 or more.")
        if not 0 <= self.frozen <= 1:
            raise ConfigError(f"diagonal.frozen is {self.frozen}; it is a share of the steps, from 0 to 1.")


class Copies(NamedTuple):
    """Copies of pictures, one behind the other, each in the order of its diagonals: n tokens, of which m are codes.

    `source` int64 [n]: the place of each token in the flattened batch. Of each code, int64 [m]: its id, and where among
    the n tokens its `left` and upper neighbor stand (-1: it has no upper one).
    """

    copies: list[PictureCopy]
    source: Ints
    codes: Ints
    left: Ints
    above: Ints


@dataclass(frozen=True)
class DiagonalBatch(Batch):
    """A batch with copies of its pictures. `frozen`: only the second head learns from it."""

    pictures: Copies
    frozen: bool


def copies_by_diagonals(batch: Batch, vocab: Vocabulary, documents: int) -> Copies:
    """A copy of each picture and video whose codes are predicted; see `pictures_of`."""
    tokens, copied = batch.tokens.reshape(-1), 0
    copies: list[PictureCopy] = []
    parts: list[list[Ints]] = [[np.empty(0, np.int64)] for _ in range(4)]
    for _, first, _, places in pictures_of(batch, vocab, documents):
        for begin, stop in places:
            found = diagonals_of(vocab, tokens[begin:stop])
            order = np.argsort(found.groups, kind="stable")
            place = np.empty_like(order)
            place[order] = copied + np.arange(len(order))
            above = np.where(found.above < 0, -1, place[found.above])
            new = begin + order, tokens[begin + found.codes].astype(np.int64), place[found.left], above
            for part, values in zip(parts, new, strict=True):
                part.append(values)
            copies.append(PictureCopy(stop - begin, first, begin, tuple(np.bincount(found.groups).tolist())))
            copied += stop - begin
    return Copies(copies, *(np.concatenate(part) for part in parts))


class Diagonal(NextToken):
    """Draw the pictures of a corpus by diagonals, and predict its documents."""

    name: ClassVar[str] = "diagonal"
    shown: ClassVar[tuple[str, ...]] = ("diagonal", *KIND_NAMES)
    apart: ClassVar[str] = PREFIX
    copied: ClassVar[float] = 1.0
    Config: ClassVar[type] = DiagonalConfig

    def __init__(self, config: TrainConfig, source: Corpus, layout: Layout) -> None:
        super().__init__(config, source, layout)
        self.frozen_steps = round(self.settings.frozen * config.steps)

    @classmethod
    def check(cls, config: TrainConfig) -> None:
        """Raise ConfigError for settings that mean nothing, for a model without a second head, and for rows or heads
        that ranks share."""
        cls.settings_of(config).check()
        if not config.model.vertical_layers:
            raise ConfigError("model.vertical_layers is 0; the objective diagonal trains a second head, of at least 1.")
        for name in ("context", "tensor"):
            if getattr(config.parallel, name) > 1:
                raise ConfigError(
                    f"parallel.{name} is {getattr(config.parallel, name)}; the objective diagonal needs whole rows on "
                    "each rank: 1."
                )

    def rate_factors(self, step: int) -> tuple[float, float]:
        """All but the second head stand still at first, then follow at their own rate."""
        return 0.0 if step < self.frozen_steps else self.settings.backbone_rate, 1.0

    def micro_batches(self, step: int) -> list[Batch]:
        """This rank's rows of the step, with copies of their pictures."""
        return [self._copied(batch, step < self.frozen_steps) for batch in super().micro_batches(step)]

    def denominators(self, batch: Batch) -> list[float]:
        """The weight of the batch's tokens, and the number of copied codes."""
        assert isinstance(batch, DiagonalBatch)
        return [*super().denominators(batch), float(len(batch.pictures.codes))]

    def loss(self, model: Decoder, batch: Batch, denominators: list[float]) -> BatchLoss:
        """Means over the global batch: of the codes by both heads, `right_weight` and `below_weight` times by one
        alone, and `next_token_weight` times that of the documents.

        sums: as of `NextToken`, then NLL of the codes by both heads and by the second alone, and the number of either.
        """
        assert isinstance(batch, DiagonalBatch)
        settings, (of_token, of_code) = self.settings, (1 / (denominator or 1.0) for denominator in denominators)
        hidden, targets, has_above = self._forward(model, batch)
        _, _, _, weights, kinds = (x.view(1, -1) for x in as_tensors(batch, self.layout))
        each = torch.full_like(has_above, of_code, dtype=weights.dtype)
        scaled = torch.cat(
            (
                weights * settings.next_token_weight * of_token,
                each,
                has_above * each * settings.below_weight,
                each * settings.right_weight,
            ),
            dim=1,
        )
        total, nll, log_z = model.lm_head.loss(hidden, targets, scaled, self.config.z_loss)
        z_loss = self.config.z_loss * (log_z.square() * scaled).sum()
        own = torch.stack((total.detach().double(), z_loss.double()))
        clean = nll[:, : batch.tokens.size]
        sums = torch.cat((own, sums_by_kind(clean, kinds).flatten(), _sums(nll, clean.shape[1], has_above)))
        return BatchLoss(total, sums, clean.view(batch.tokens.shape))

    def metrics(self, sums: Tensor) -> dict[str, float]:
        """As of `NextToken`; `diagonal` is nats a code by both heads, `below` by the second alone."""
        return super().metrics(sums[:-4]) | _means(sums[-4:])

    def validate(self, model: Decoder) -> dict[str, Any]:
        """As of `NextToken`, and the nats of held-out codes drawn by diagonals."""
        found = super().validate(model)
        if self.heldout is not None:
            found["validation"] |= _means(self._validate_diagonals(model, self.heldout.packing(0).rows))
        return found

    @torch.no_grad()
    def _validate_diagonals(self, model: Decoder, rows: int) -> Tensor:
        """float64 [4]: the sums of `_sums` over the first held-out rows, from all ranks."""
        assert self.heldout is not None
        model.eval()
        layout, packing = self.layout, self.heldout.packing(0)
        rows = min(rows, self.config.validate_rows)
        sums = torch.zeros(4, dtype=torch.float64, device=layout.ranks.device)
        for start in range(0, rows, layout.data_size):
            row = start + layout.data_index
            batch = self._copied(self.heldout.build([packing.row(row) if row < rows else None]), False)
            hidden, targets, has_above = self._forward(model, batch)
            _, nll, _ = model.lm_head.loss(hidden, targets, torch.zeros_like(targets, dtype=torch.float32))
            sums += _sums(nll, batch.tokens.size, has_above)
        model.train()
        return layout.sum(sums)

    def _copied(self, batch: Batch, frozen: bool) -> DiagonalBatch:
        pictures = copies_by_diagonals(batch, self.source.vocab, len(self.source))
        return DiagonalBatch(**vars(batch), pictures=pictures, frozen=frozen)

    def _forward(self, model: Decoder, batch: DiagonalBatch) -> tuple[Tensor, Tensor, Tensor]:
        """States [1, n, hidden] that predict the documents' tokens, then the m codes by both heads, by the second and
        by the first alone; their targets [1, n]; and bool [1, m], whether a code has one above it."""
        tokens, positions, targets, _, _ = (x.view(1, -1) for x in as_tensors(batch, self.layout))
        device, clean = tokens.device, tokens.shape[1]
        source, codes, left, above = (torch.from_numpy(x).to(device) for x in batch.pictures[1:])
        backend = backend_of_copies(device, self.config.model)
        states = model.diagonal(
            torch.cat((tokens, tokens[:, source]), dim=1),
            torch.cat((positions, positions[:, source]), dim=1),
            clean + left,
            torch.where(above < 0, -1, clean + above),
            visible=TwoStreams(batch.lengths, batch.pictures.copies, device, backend),
            frozen=batch.frozen,
        )
        hidden = torch.cat((states.hidden[:, :clean], states.mixed, states.below, states.right), dim=1)
        return hidden, torch.cat((targets, codes.repeat(3)[None]), dim=1), (above >= 0)[None]


def _sums(nll: Tensor, clean: int, has_above: Tensor) -> Tensor:
    """float64 [4] from the losses [1, n] of `_forward`'s states, the first `clean` of them of documents."""
    mixed, below, _ = nll[:, clean:].double().chunk(3, dim=1)
    return torch.stack((mixed.sum(), (below * has_above).sum(), mixed.new_tensor(mixed.numel()), has_above.sum()))


def _means(sums: Tensor) -> dict[str, float]:
    mixed, below, codes, lower = sums.tolist()
    return ({"diagonal": mixed / codes} if codes else {}) | ({"below": below / lower} if lower else {})
